"""Seconds of one training update on a GPU and on one core, and what several processes that share a card reach.

    python benchmarks/gpu.py [--hidden 64,100,200,300,400] [--sharing 1,4,8,16] [--seconds 3]

A batch is 128 stays of 48 hours and 76 columns, the network has two layers and 20 tasks. Each number is the median of
repeated updates after a warm-up, or, for processes that share a card, the updates of all of them in the given seconds.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch

from rnn_transfer.model import init_network, multilabel_loss


def make_update(hidden: int, device: str, n_tasks: int = 20):
    "A function that makes one update of a network on one batch."
    net = init_network(76, hidden, n_tasks, 0).to(device).train()
    X = torch.randn(128, 48, 76, device=device)
    y = (torch.rand(128, n_tasks, device=device) < 0.2).float()
    adam = torch.optim.Adam(net.parameters(), 1e-4, fused=True)

    def update():
        loss = multilabel_loss(net(X), y)
        adam.zero_grad()
        loss.backward()
        adam.step()

    return update


def median_seconds(update, device: str, repeats: int) -> float:
    "Median wall seconds of an update."
    seconds = []
    for i in range(repeats + 3):
        start = time.perf_counter()
        update()
        if device == "cuda":
            torch.cuda.synchronize()
        if i >= 3:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def count_updates(hidden: int, seconds: float) -> int:
    "Updates that this process makes on the GPU in some seconds."
    update, n = make_update(hidden, "cuda", 1), 0
    for _ in range(5):
        update()
    torch.cuda.synchronize()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        update()
        n += 1
        if n % 10 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return n


def share_card(n_processes: int, hidden: int, seconds: float) -> float:
    "Updates a second of all processes together."
    command = [sys.executable, __file__, "--count", str(hidden), "--seconds", str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)]
    return sum(int(p.communicate()[0]) for p in running) / seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", default="64,100,200,300,400")
    parser.add_argument("--sharing", default="1,4,8,16")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--count", type=int, help="used by the script itself")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.count:
        print(count_updates(args.count, args.seconds))
        sys.exit()
    if not torch.cuda.is_available():
        sys.exit("no GPU is available here")
    print(torch.cuda.get_device_name(0), "torch", torch.__version__)
    print("| hidden units | ms, GPU | ms, one core | ratio |\n|--:|--:|--:|--:|")
    for hidden in map(int, args.hidden.split(",")):
        gpu = median_seconds(make_update(hidden, "cuda"), "cuda", 30)
        cpu = median_seconds(make_update(hidden, "cpu"), "cpu", 3)
        print(f"| {hidden} | {gpu * 1e3:.1f} | {cpu * 1e3:.0f} | {cpu / gpu:.0f} |", flush=True)
    first = int(args.hidden.split(",")[0])
    print(f"\n| processes on one card | updates a second, all together, h = {first} |\n|--:|--:|")
    for n in map(int, args.sharing.split(",")):
        print(f"| {n} | {share_card(n, first, args.seconds):.0f} |", flush=True)
