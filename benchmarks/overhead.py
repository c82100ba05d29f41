"""What Dask, the plan and the driver add to a batch of runs, with 1, 2, … workers.

Wall time is compared with the steps' own seconds.

    python benchmarks/overhead.py WORK [--workers 1 2] [--runs 40] [--updates 20]

makes a synthetic cohort of 2,000 stays and pre-trains on it once under WORK; then, for each number of workers, a copy
of that run folder gets --runs transfer runs (seeds of all the labels) and an evaluation, started by the command as a
person starts it. --updates is how many updates each of a run's small networks gets: a run should take 10 s or more.
A step's own seconds, from its done.json, begin when a worker takes it and end when its results are written: the start
of its kernel is in them. Wall time begins with the command and ends with it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

BIN = Path(sys.executable).parent


def call(cohort: Path, run: Path, runs: int, updates: int, workers: int, *more) -> float:
    "Seconds that the command takes."
    settings = f"n_held_out=2; transfer.lr=1e-6; transfer.max_updates={updates}; transfer.patience=10000; "
    settings += "transfer.models=['RNN-C', 'MN-LR-2']; pretrain.max_updates=20; replicates=100"
    start = time.perf_counter()
    subprocess.run(
        [
            BIN / "rnn_transfer_paper",
            "--cohort",
            cohort,
            "--out",
            run,
            "--splits",
            "1",
            "--fractions",
            "1",
            "--seeds",
            str(runs),
            "--hidden",
            "16",
            "--workers",
            str(workers),
            "--set",
            settings,
            *more,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def seconds(run: Path) -> pd.Series:
    "Each finished step's own seconds."
    return pd.Series(
        {p.parent.relative_to(run).as_posix(): json.loads(p.read_text())["seconds"] for p in run.rglob("done.json")}
    )


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("work", type=Path)
    a.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    a.add_argument("--runs", type=int, default=40)
    a.add_argument("--updates", type=int, default=20)
    a = a.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    cohort, base = a.work / "cohort", a.work / "base"
    if not cohort.exists():
        subprocess.run(
            [BIN / "rnn_transfer_cohort", "synthetic", "--out", cohort], check=True, stdout=subprocess.DEVNULL
        )
    call(cohort, base, a.runs, a.updates, 1, "--only", "split-0/pretrain")
    before = seconds(base)
    print(
        "| workers | runs | seconds of a run, median | sum of own seconds | sum / workers | wall seconds "
        "| wall / (sum / workers) | load before |\n|--:|--:|--:|--:|--:|--:|--:|--:|",
        flush=True,
    )
    for workers in a.workers:
        run = a.work / f"workers-{workers}"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run)
        load = os.getloadavg()[0]
        wall, own = call(cohort, run, a.runs, a.updates, workers), seconds(run).drop(before.index)
        ideal = own.sum() / workers
        fits = own[own.index.str.contains("seed-")]
        print(
            f"| {workers} | {len(fits)} + evaluation | {fits.median():.1f} | {own.sum():.1f} | {ideal:.1f} "
            f"| {wall:.1f} | {wall / ideal:.3f} | {load:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
