"""Runs of the experiment in this very process: the cells that a step executes, without workers and without kernels.

A worker and a kernel import torch and the rest anew, which takes longer than a toy step. tests/test_paper.py runs the
real thing; a test about what the steps compute or write uses this.
"""

import json
import os
from contextlib import chdir, contextmanager
from pathlib import Path

import nbformat
import pytest
from execnb.shell import CaptureShell
from shells import forget_shells

from rnn_transfer.experiment import cluster, execute
from rnn_transfer.experiment.provenance import first_line, software_versions


def executed_cells(copy, parameters: dict):
    "The code cells that a step executes; after the cell of the parameters the values of this step."
    for cell in copy.cells:
        tags = cell.metadata.get('tags', [])
        if cell.cell_type == 'code' and 'skip-execution' not in tags:
            yield cell, cell.source
            if 'parameters' in tags:
                yield cell, '\n'.join(f'{name} = {value!r}' for name, value in parameters.items())


def run_cells(step, run: Path, parameters: dict, out: Path):
    "In place of papermill: what it returns, and the executed copy."
    copy, shell = execute.read_copy(step.notebook), CaptureShell(mpl_format='png')
    error = ''
    with chdir(run):
        for i, (cell, source) in enumerate(executed_cells(copy, parameters)):
            outputs = json.loads(json.dumps(shell.run(source, stderr=False)))
            cell.outputs = [nbformat.from_dict(output) for output in outputs]
            if shell.exc:
                error = f'cell {i}: {type(shell.exc).__name__}: {first_line(str(shell.exc))}'
                break
        shell.run('import matplotlib.pyplot\nmatplotlib.pyplot.close("all")')
    nbformat.write(copy, out)
    return execute.Executed(error, None, {} if error else software_versions())


def execute_in_order(steps, run, cohort, *_, **__):
    "In place of Dask: one step after the other."
    outcomes = {}
    for step in steps:
        needs = [outcomes[name] for name in step.needs]
        outcomes[step.name] = execute.execute_step(step, str(run), cohort, *needs)
    return list(outcomes.values())


@contextmanager
def in_this_process():
    "Within the block `run_experiment` starts neither workers nor kernels."
    forget_shells()
    with pytest.MonkeyPatch.context() as patch:
        for name in ('IN_TEST', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
            patch.setenv(name, os.environ.get(name, '1'))  # a step sets them; afterwards they are as before
        patch.setattr(cluster, 'execute_all', execute_in_order)
        patch.setattr(execute, '_papermill', run_cells)
        yield
