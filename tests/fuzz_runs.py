"Mutations of a finished run: its records, its predictions, its tables."

import contextlib
import random
from pathlib import Path

import pyarrow as pa
from fuzz import mutate_bytes, mutate_json, mutate_table

RECORDS = ['manifest.json', 'data/done.json', 'evaluate/done.json', 'split-0/pretrain/split.json', 'data/data.json']
RECORDS += ['split-0/pretrain/done.json', 'split-0/fraction-1/seed-0/done.json', 'split-0/pretrain/mimic-net.json']
TABLES = ['split-0/fraction-1/seed-0/predictions.parquet', 'split-0/fraction-1/seed-0/fits.parquet', 'results.parquet']
TABLES += ['split-0/fraction-1/seed-0/weights.parquet', 'split-0/fraction-1/seed-0/path.parquet', 'data/stays.parquet']
OTHERS = ['split-0/pretrain/curves.csv', 'split-0/pretrain/flow.csv', 'split-0/pretrain/mimic-net.safetensors']


def small_finished_run(folder: Path) -> Path:
    "A whole run at toy size, next to its cohort."
    from test_paper import TINY

    from rnn_transfer.experiment.run import run_experiment
    from rnn_transfer.testing import toy_cohort

    toy_cohort().save(folder / 'cohort')
    run_experiment(folder / 'cohort', folder / 'run', 'quick', workers=2, progress=False, **TINY)
    return folder


def mutate_finished_run(r: random.Random, folder: Path) -> None:
    "One changed, cut or missing file."
    file = folder / 'run' / r.choice(RECORDS * 2 + TABLES + OTHERS)
    if not file.exists():
        return
    kind = r.random()
    if kind < 0.1:
        file.unlink()
    elif kind < 0.25:
        file.write_bytes(mutate_bytes(r, file.read_bytes()))
    elif file.suffix == '.json':
        file.write_text(mutate_json(r, file.read_text()))
    elif file.suffix == '.parquet':
        with contextlib.suppress(pa.ArrowException, OSError, ValueError, TypeError, KeyError, UnboundLocalError):
            mutate_table(r, file)


def try_finished_run(folder: Path) -> None:
    "Status, plan, index page and evaluation of a run."
    from test_paper import TINY

    from rnn_transfer.evaluate import run_evaluate
    from rnn_transfer.experiment.run import describe_plan
    from rnn_transfer.experiment.status import describe_status, write_index

    run = folder / 'run'
    assert 'of 6 steps' in describe_plan(folder / 'cohort', run, 'quick', TINY), 'a plan of other steps'
    describe_status(run)
    write_index(run)
    run_evaluate(run, replicates=10)


RUN_KINDS = dict(finished_runs=(small_finished_run, mutate_finished_run, try_finished_run))
