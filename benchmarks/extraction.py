"""Features of many stays: the whole route from a cohort to a file against the bare GRU, in one run.

    python benchmarks/extraction.py WORK [--stays 40000] [--hidden 300] [--repeat 3]

Makes a synthetic cohort of that size in WORK (synthetic stays, replicated with fresh ids) and an untrained network.
Then it times in turn, `--repeat` times: `nn.GRU` over normalised batches that are already in memory, for each batch
size, with torch's threads and with one thread for each core on stays of its own; and `write_cohort_features` from the
cohort to a Parquet file. The peak of memory is that of `rnn_transfer_features` as a process of its own.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from features import replicate

from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.extraction import write_cohort_features
from rnn_transfer.model import init_network, load_checkpoint, save_checkpoint
from rnn_transfer.sources.synthetic_raw import cohort as synthetic_cohort

BATCHES = (16, 32, 64, 128, 256, 512)
COMMAND = """
import sys
from rnn_transfer.experiment.commands import rnn_transfer_features
rnn_transfer_features(*sys.argv[1:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""  # getrusage would give the peak of the process that started this one


def prepare(work: Path, n_stays: int, hidden: int) -> tuple[Path, Path]:
    "Folder of a cohort of that size, and a checkpoint for its channels."
    folder, checkpoint = work / f"cohort-{n_stays}", work / f"h-{hidden}.safetensors"
    source = synthetic_cohort(n=1000)
    if not folder.exists():
        replicate(source, n_stays).save(folder)
    grid = source.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in source.channels], hours=48, masks=True, short="carry")
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale)
    save_checkpoint(init_network(len(grid.columns), hidden, 20), checkpoint, **meta)
    return folder, checkpoint


def gru_speed(rnn: torch.nn.GRU, X: torch.Tensor, batch: int, cores: int, apart: bool) -> float:
    "Stays a second of the bare GRU."
    batches = [X[i : i + batch] for i in range(0, len(X), batch)]

    def run(x):
        with torch.inference_mode():
            return rnn(x)[1]

    before = torch.get_num_threads()
    start = time.perf_counter()
    if apart:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(run, batches))
    else:
        torch.set_num_threads(cores)
        for x in batches:
            run(x)
    seconds = time.perf_counter() - start
    torch.set_num_threads(before)
    return len(X) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--stays", type=int, default=40_000)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sample", type=int, default=2048, help="stays of the bare GRU")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    folder, checkpoint = prepare(args.work, args.stays, args.hidden)
    cohort, net = Cohort.load(folder), load_checkpoint(checkpoint)
    part = Cohort(cohort.events, cohort.stays.head(args.sample), cohort.channels, cohort.tasks, cohort.meta)
    part.events = part.events[part.events["stay_id"].isin(part.stays["stay_id"])]
    grid = part.grid()
    X = torch.from_numpy(Normalizer(net.meta["scale"]).transform(grid.X, grid.columns))
    kinds = [(batch, apart) for apart in (False, True) for batch in BATCHES]
    speeds, route = {kind: [] for kind in kinds}, []
    for _ in range(args.repeat):
        for batch, apart in kinds:
            n = max(batch * cores, 512 if apart else 128)
            speeds[batch, apart].append(gru_speed(net.rnn, X[:n], batch, cores, apart))
        best = max(kinds, key=lambda kind: np.median(speeds[kind]))
        before = gru_speed(net.rnn, X, *best[:1], cores, best[1])
        start = time.perf_counter()
        write_cohort_features(cohort, checkpoint, args.work / "z.parquet")
        speed = args.stays / (time.perf_counter() - start)
        after = gru_speed(net.rnn, X, *best[:1], cores, best[1])
        route.append((speed, (before + after) / 2))
    print("| batch | torch's threads, stays a second | one thread a core, stays a second |\n|--:|--:|--:|")
    for batch in BATCHES:
        print(f"| {batch} | {np.median(speeds[batch, False]):,.0f} | {np.median(speeds[batch, True]):,.0f} |")
    print(f"fastest: batch {best[0]}, {'one thread a core' if best[1] else 'threads of torch'}")
    for speed, bare in route:
        print(f"cohort to file {speed:,.0f} stays a second, bare GRU around it {bare:,.0f}: {speed / bare:.2f}")
    arguments = [sys.executable, "-c", COMMAND, folder, checkpoint, args.work / "z.parquet"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    peak = int(done.stdout.splitlines()[-1]) / 1024
    print(f"peak of rnn_transfer_features: {peak:,.0f} MB; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
