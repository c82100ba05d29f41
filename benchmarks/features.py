"""A cohort to its hourly grid and its 714 statistics: stays per second, on a cohort's own stays replicated with fresh ids.

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


def replicated(cohort: Cohort, stays: int) -> Cohort:
    "The cohort's stays again and again, with ids of their own."
    times = -(-stays // len(cohort.stays))
    new = cohort.stays["stay_id"].max() + 1
    events = pd.concat(
        [cohort.events.assign(stay_id=cohort.events["stay_id"] + k * new) for k in range(times)], ignore_index=True
    )
    people = cohort.stays["subject_id"].max() + 1
    return Cohort(
        events,
        pd.concat(
            [
                cohort.stays.assign(
                    stay_id=cohort.stays["stay_id"] + k * new, subject_id=cohort.stays["subject_id"] + k * people
                )
                for k in range(times)
            ],
            ignore_index=True,
        ),
        cohort.channels,
        cohort.tasks,
        cohort.meta,
    )


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("cohort", type=Path)
    a.add_argument("--stays", type=int, default=10_000)
    a.add_argument("--repeat", type=int, default=3)
    a = a.parse_args()
    c = replicated(Cohort.load(a.cohort), a.stays)
    n = len(c.stays)
    print(
        f"{n:,} stays, {len(c.events) / n:,.0f} events a stay\n\n| step | seconds (median) | CPU seconds | stays a second | times the reference's speed | load |\n|:--|--:|--:|--:|--:|--:|"
    )
    for step in REFERENCE:
        runs = []
        for _ in range(a.repeat):
            start, cpu = time.perf_counter(), time.process_time()
            getattr(c, step)()
            runs.append((time.perf_counter() - start, time.process_time() - cpu))
        seconds, cpu = np.median(runs, axis=0)
        print(
            f"| {step} | {seconds:.2f} | {cpu:.2f} | {n / seconds:,.0f} | {n / seconds / REFERENCE[step]:,.0f} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
