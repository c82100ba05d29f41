"""Kill the driver, a worker or the scheduler at random moments of a run, resume, compare with an uninterrupted run.

    python tests/kill_resume.py --moments 20 --seed 0

The victims take turns: a driver with local workers, one of those workers, an external scheduler, and a driver on an
external scheduler that lives on and takes the second call. Every finished step must be kept, no kernel may be left
running, and the final results.parquet (but for `seconds`) must be identical."""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from rnn_transfer.testing import toy_cohort

VICTIMS = 'driver', 'worker', 'scheduler', 'driver on a scheduler'
BIN = Path(sys.executable).parent
OPTIONS = [
    '--splits',
    '1',
    '--fractions',
    '1',
    '--seeds',
    '2',
    '--hidden',
    '4',
    '--set',
    "lr=1e-2;max_updates=20;patience=2;replicates=50;n_held_out=2;models=['LR','RNN-C','MN-LR-2','no-removal-LR-2'];variants=['no-removal']",
]


def start(root, run, *more):
    "A driver as a person starts it."
    return subprocess.Popen(
        [BIN / 'rnn_transfer_paper', '--cohort', root / 'cohort', '--out', run, *OPTIONS, '--workers', '2', *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=400):
    _, err = process.communicate(timeout=timeout)
    return process.returncode, err


def results(run):
    return pd.read_parquet(run / 'results.parquet').drop(columns='seconds')


def finished(run):
    return {p: p.stat().st_mtime_ns for p in run.rglob('done.json')}


def descendants(pid):
    "Processes below a process, by reading /proc."
    parent = {}
    for p in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent[int(p.name)] = int((p / 'stat').read_text().rsplit(')', 1)[1].split()[1])
    below, new = set(), {pid}
    while new:
        new = {c for c, q in parent.items() if q in new} - below
        below |= new
    return below


def workers_of(pid):
    "Dask's worker processes: the spawned Pythons below the driver that are no kernels and no trackers."
    found = []
    for c in descendants(pid):
        try:
            line = Path(f'/proc/{c}/cmdline').read_text()
        except OSError:
            continue
        if 'spawn_main' in line:
            found.append(c)
    return found


class Cluster:
    "A scheduler and two workers as separate processes, over TCP on this machine."

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp())
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=self.folder)
        self.scheduler = subprocess.Popen(
            [
                BIN / 'dask',
                'scheduler',
                '--host',
                '127.0.0.1',
                '--port',
                '0',
                '--no-dashboard',
                '--scheduler-file',
                self.folder / 's.json',
            ],
            **quiet,
        )
        while not (self.folder / 's.json').exists() or not (self.folder / 's.json').read_text().strip():
            time.sleep(0.1)
        self.address = json.loads((self.folder / 's.json').read_text())['address']
        self.workers = [
            subprocess.Popen(
                [
                    BIN / 'dask',
                    'worker',
                    self.address,
                    '--nthreads',
                    '1',
                    '--no-dashboard',
                    '--memory-limit',
                    '0',
                    '--death-timeout',
                    '20',
                ],
                **quiet,
            )
            for _ in range(2)
        ]
        return self

    def __exit__(self, *_):
        for p in [*self.workers, self.scheduler]:
            for c in [*descendants(p.pid), p.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(c, signal.SIGKILL)
            p.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def left_behind(run, patience=20):
    "Kernels that still work in the run folder, after they had `patience` seconds to notice that nobody wants them."
    end = time.time() + patience
    while True:
        found = []
        for p in Path('/proc').glob('[0-9]*'):
            try:
                if Path(os.readlink(p / 'cwd')) == run and 'ipykernel' in (p / 'cmdline').read_text():
                    found.append(int(p.name))
            except OSError:
                pass
        if not found or time.time() > end:
            return found
        time.sleep(0.5)


def kill_and_resume(root, run, victim, wait, rng):
    """Start a run, kill the victim after `wait` seconds, let the rest end by itself, and call again.

    Returns exit code and words of the first call, the steps it finished (None: it had ended before anybody could be
    killed), exit code and words of the second.
    """

    def twice(*more, whom=lambda driver: [driver.pid]):
        driver = start(root, run, *more)
        time.sleep(wait)
        found = []
        while driver.poll() is None and not (found := whom(driver)):
            time.sleep(0.02)  # too early: the workers are still to be started
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)
        first = finish(driver)
        done = finished(run)
        if not found:
            return *first, None, None, None
        return *first, done, *finish(start(root, run, *more))

    if victim == 'driver':
        return twice()
    if victim == 'worker':
        return twice(whom=lambda driver: workers_of(driver.pid))
    with Cluster() as c:
        if victim == 'driver on a scheduler':
            return twice('--scheduler', c.address)
        driver = start(root, run, '--scheduler', c.address)
        time.sleep(wait)
        late = driver.poll() is not None
        c.scheduler.kill()
        first = finish(driver)
        done = finished(run)
    if late:
        return *first, None, None, None
    return *first, done, *finish(start(root, run))


def main(moments, seed):
    rng = random.Random(seed)
    root = Path(tempfile.mkdtemp())
    toy_cohort().save(root / 'cohort')
    t = time.time()
    code, err = finish(start(root, root / 'whole'))
    length = time.time() - t
    assert code == 0, err
    whole = results(root / 'whole')
    print(f'uninterrupted: {length:.0f} s, {len(finished(root / "whole"))} steps', flush=True)
    for i in range(moments):
        victim = VICTIMS[i % 4]
        wait = rng.uniform(0.5, length)
        run = root / f'run-{i}'
        code, err, before, again, said = kill_and_resume(root, run, victim, wait, rng)
        while before is None:  # too late: the run had ended
            assert code == 0, err
            shutil.rmtree(run)
            wait = rng.uniform(0.5, wait)
            code, err, before, again, said = kill_and_resume(root, run, victim, wait, rng)
        assert 'Traceback' not in (err or '') + (said or ''), (err, said)
        assert again == 0, said
        after = finished(run)
        rerun = [p for p, m in before.items() if after[p] != m]
        assert not rerun, f'run again: {rerun}'
        assert not (left := left_behind(run)), f'kernels still running: {left}'
        pd.testing.assert_frame_equal(results(run), whole, check_exact=True)
        print(
            f'{i + 1:>2}: {victim} killed after {wait:4.1f} s, exit {code}, '
            f'{len(before)} of {len(after)} steps were kept, identical results',
            flush=True,
        )
        shutil.rmtree(run)
    shutil.rmtree(root)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--moments', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    main(**vars(parser.parse_args()))
