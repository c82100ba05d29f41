"""A cohort to its hourly grid and its 714 statistics: stays per second, on a cohort's own stays with fresh ids.

    python benchmarks/features.py COHORT [--stays 10000] [--repeat 3]

The reference does 520 stays a second for the grid and 29 for the statistics (one core, the open MIMIC-III demo).
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_transfer.data import Cohort

REFERENCE = dict(grid=520, statistics=29)  # stays a second
HEADER = """
| step | seconds (median) | CPU seconds | stays a second | times the reference's speed | load |
|:--|--:|--:|--:|--:|--:|"""


def replicate(cohort: Cohort, n_stays: int) -> Cohort:
    "The cohort's stays again and again, at least `n_stays` of them, with ids of their own."
    times = -(-n_stays // len(cohort.stays))
    stay_step, subject_step = cohort.stays["stay_id"].max() + 1, cohort.stays["subject_id"].max() + 1
    events, stays = [], []
    for k in range(times):
        events.append(cohort.events.assign(stay_id=cohort.events["stay_id"] + k * stay_step))
        stays.append(
            cohort.stays.assign(
                stay_id=cohort.stays["stay_id"] + k * stay_step,
                subject_id=cohort.stays["subject_id"] + k * subject_step,
            )
        )
    return Cohort(
        pd.concat(events, ignore_index=True),
        pd.concat(stays, ignore_index=True),
        cohort.channels,
        cohort.tasks,
        cohort.meta,
    )


def measure(cohort: Cohort, step: str, repeat: int) -> tuple[float, float]:
    "Median seconds and CPU seconds of a step."
    runs = []
    for _ in range(repeat):
        start, cpu_start = time.perf_counter(), time.process_time()
        getattr(cohort, step)()
        runs.append((time.perf_counter() - start, time.process_time() - cpu_start))
    seconds, cpu = np.median(runs, axis=0)
    return seconds, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--stays", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    cohort = replicate(Cohort.load(args.cohort), args.stays)
    n = len(cohort.stays)
    print(f"{n:,} stays, {len(cohort.events) / n:,.0f} events a stay")
    print(HEADER)
    for step, reference in REFERENCE.items():
        seconds, cpu = measure(cohort, step, args.repeat)
        speed = n / seconds
        columns = [f"{seconds:.2f}", f"{cpu:.2f}", f"{speed:,.0f}", f"{speed / reference:,.0f}"]
        print(f"| {step} | {' | '.join(columns)} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
