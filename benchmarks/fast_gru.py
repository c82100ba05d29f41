"""Milliseconds of an update of a network, with PyTorch's GRU and with ours.

    python benchmarks/fast_gru.py [--hidden 32 64 100 300] [--batches 24 128]

One thread; 76 columns and 48 hours; both layers by turns in one run, the least of all repetitions. The table is that of
nbs/learning/fast_gru.ipynb.
"""

import argparse
import time

import pandas as pd
import torch

from rnn_transfer.learning.fast_gru import use_fast_gru
from rnn_transfer.learning.training import torch_threads
from rnn_transfer.model import init_network, multilabel_loss

N_COLUMNS, HOURS = 76, 48


def make_update(net, x: torch.Tensor, y: torch.Tensor):
    "A function that makes one update."
    adam = torch.optim.Adam(net.parameters(), 1e-3, fused=True)

    def update() -> None:
        adam.zero_grad()
        multilabel_loss(net(x), y).backward()
        adam.step()

    return update


def least_milliseconds(functions: list, seconds: float) -> list[float]:
    "The least time of each function, called by turns."
    least, end = [float("inf")] * len(functions), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            least[i] = min(least[i], time.perf_counter() - start)
    return [1000 * s for s in least]


def measure(hidden: int, batch: int, seconds: float) -> dict:
    "The row of one size."
    torch.manual_seed(0)
    nets = [init_network(N_COLUMNS, hidden, 1), use_fast_gru(init_network(N_COLUMNS, hidden, 1))]
    x, y = torch.randn(batch, HOURS, N_COLUMNS), (torch.rand(batch, 1) < 0.3).float()
    theirs, ours = least_milliseconds([make_update(net.train(), x, y) for net in nets], seconds)
    return dict(h=hidden, batch=batch, PyTorch=theirs, ours=ours, ratio=theirs / ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 100, 300])
    parser.add_argument("--batches", type=int, nargs="+", default=[24, 128])
    parser.add_argument("--seconds", type=float, default=4, help="for each size")
    args = parser.parse_args()
    with torch_threads(1):
        rows = [measure(h, batch, args.seconds) for h in args.hidden for batch in args.batches]
    print(pd.DataFrame(rows).round(1).to_string(index=False))
