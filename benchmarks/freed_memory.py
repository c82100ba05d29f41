"""Milliseconds of an update of a network, with and without memory that stays with the process.

    python benchmarks/freed_memory.py [--hidden 32 64 100] [--hours 24 48]

One thread, batches of 128 stays. A process keeps the setting it once had, so each way has a process of its own; they
run by turns, and the median of their means is shown, with the pages that were new in an update and the megabytes at
the peak of the process.
"""

import argparse
import resource
import subprocess
import sys
import time

import pandas as pd
import torch
from fast_gru import make_update

from rnn_transfer.learning.fast_gru import use_fast_gru
from rnn_transfer.learning.training import torch_threads
from rnn_transfer.model import init_network
from rnn_transfer.utilities.processes import keep_freed_memory


def measure(hidden: int, hours: int, keep: bool, updates: int) -> tuple[float, float, float]:
    "Milliseconds and new pages of an update, and megabytes at the peak, in this process."
    if keep and not keep_freed_memory():
        sys.exit("error: this C library has no such setting; nothing can be compared")
    torch.manual_seed(0)
    x, y = torch.randn(128, hours, 20), (torch.rand(128, 1) < 0.3).float()
    update = make_update(use_fast_gru(init_network(20, hidden, 1)).train(), x, y)
    with torch_threads(1):
        for _ in range(10):
            update()
        pages, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        for _ in range(updates):
            update()
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * seconds / updates, (used.ru_minflt - pages) / updates, used.ru_maxrss / 1024


def measure_apart(hidden: int, hours: int, keep: bool, args: argparse.Namespace) -> list[float]:
    "The same in a process of its own."
    command = [
        sys.executable,
        __file__,
        "--one",
        str(hidden),
        str(hours),
        str(int(keep)),
        "--updates",
        str(args.updates),
    ]
    return [float(v) for v in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def compare(hidden: int, hours: int, args: argparse.Namespace) -> dict:
    "The row of one size."
    turns = [[measure_apart(hidden, hours, keep, args) for keep in (False, True)] for _ in range(args.turns)]
    numbers = pd.DataFrame([[value for way in turn for value in way] for turn in turns])
    (before, pages, peak), (after, pages_kept, peak_kept) = numbers.median().to_numpy().reshape(2, 3)
    row = dict(h=hidden, hours=hours, default=before, kept=after, ratio=before / after)
    return row | dict(pages=pages, pages_kept=pages_kept, peak=peak, peak_kept=peak_kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 100])
    parser.add_argument("--hours", type=int, nargs="+", default=[24, 48])
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5, help="processes of each way")
    parser.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(*measure(*args.one, args.updates))
    else:
        rows = [compare(h, hours, args) for h in args.hidden for hours in args.hours]
        print(pd.DataFrame(rows).round(1).to_string(index=False))
