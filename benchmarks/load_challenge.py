"""Time and memory of loading all 40,336 stays of PhysioNet 2019, from archives to a cohort in memory.

    python benchmarks/load_challenge.py FOLDER [--repeat 3]

FOLDER has training_setA and training_setB, as folders or archives. Stays of the published sets that are not there are
replaced by copies of others under their numbers, so that the load is that of the whole. The cohort is built in a
process of its own, two threads at most; the time is that of `cohort`, the memory the peak of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

from raw_scale import peak_memory


def write_all(folder: Path, target: Path) -> int:
    "Write two archives with all stays of the published sets; how many of them are copies."
    from rnn_transfer.sources.physionet2019_files import read_batches
    from rnn_transfer.sources.physionet2019_losses import PUBLISHED_STAYS
    from rnn_transfer.sources.physionet2019_rows import file_name

    texts = {}
    for batch in read_batches(folder, Counter()):
        texts |= batch.texts
    n_copies = 0
    for site, first in (("A", 0), ("B", 100_000)):
        own = [number for number in texts if first <= number < first + 100_000]
        free = (number for number in range(first + 1, first + 100_000) if number not in texts)
        with tarfile.open(target / f"training_set{site}.tar.xz", "w:xz", preset=1) as archive:
            for i in range(max(PUBLISHED_STAYS[site], len(own))):
                number, text = (own[i], texts[own[i]]) if i < len(own) else (next(free), texts[own[i - len(own)]])
                n_copies += i >= len(own)
                entry = tarfile.TarInfo(f"training_set{site}/{file_name(number)}")
                entry.size = len(text)
                archive.addfile(entry, BytesIO(text))
    return n_copies


def load(folder: str) -> dict:
    "Build the cohort."
    from rnn_transfer.sources import physionet2019

    start = time.perf_counter(), time.process_time()
    cohort = physionet2019.cohort(folder)
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    n_files = cohort.meta["flow"][0]["stays"]
    return dict(stays=n_files, events=len(cohort.events), seconds=seconds, cpu=cpu, peak=peak_memory())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", action="store_true")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(load(str(args.folder))))
        return
    with tempfile.TemporaryDirectory() as target:
        print(f"{write_all(args.folder, Path(target)):,} of the stays are copies\n")
        print("| stays | events | seconds | CPU seconds | peak MB | load |\n|--:|--:|--:|--:|--:|--:|")
        for _ in range(args.repeat):
            environment = os.environ | dict(OMP_NUM_THREADS="2")
            call = [sys.executable, __file__, target, "--only"]
            done = subprocess.run(call, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            r = json.loads(done.stdout.splitlines()[-1])
            cells = f"{r['stays']:,} | {r['events']:,} | {r['seconds']:.1f} | {r['cpu']:.1f} | {r['peak']}"
            print(f"| {cells} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
