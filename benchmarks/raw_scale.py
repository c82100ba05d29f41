"""Raw MIMIC-III-shaped tables to a cohort at growing size: time and memory against rows, and what they mean for the whole of MIMIC-III.

    python benchmarks/raw_scale.py WORK [--rows 3e6 30e6 100e6] [--others 5] [--threads N] [--seed 0] [--keep]

writes the synthetic tables of each size under WORK (about 90 bytes a row; 100 million rows need 10 GB free), reads them with mimic3.cohort in a process of its own,
.csv and then .csv.gz, with DuckDB's count(*) over the same CHARTEVENTS timed beside it, and prints Markdown tables. One size and one packing lie on the disk at a time.
Others is the number of rows of items that no channel uses beside each row; with 5 a sixth of the chart rows is of a mapped item, as in the MIMIC-III demo.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LARGE = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
WHOLE = 330_712_483 + 27_854_055 + 4_349_218  # rows of the three tables in MIMIC-III v1.4
BYTES = 110  # room a row may need, plain


def peak() -> int:
    "The process's own largest resident memory in MB. Where Linux tells it, as getrusage counts the parent's before the start too."
    try:
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)


def stays_for(rows: float, others: int, seed: int) -> int:
    "How many stays have so many chart rows, from the first blocks."
    from rnn_transfer.sources import synthetic_raw as s

    chart = s.RAW["source"].eq("CHARTEVENTS").to_numpy()
    blocks = [s.raw_block(k, seed) for k in range(4)]
    per = sum(chart[b[2][2]].sum() for b in blocks) * (others + 1) / sum(b[0] for b in blocks)
    return max(int(np.ceil(1.03 * rows / per)), s.synthetic.FEWEST)


def write(folder: str, n=0, others=5, seed=0, compression=None, threads=None) -> dict:
    "The tables; a size that turns out too small is an error."
    from rnn_transfer.sources import synthetic_raw

    start = time.perf_counter(), time.process_time()
    rows = synthetic_raw.write_raw(folder, n, seed, others, compression, threads)
    return dict(
        seconds=time.perf_counter() - start[0],
        cpu=time.process_time() - start[1],
        peak=peak(),
        rows={t: rows[t] for t in LARGE},
    )


def count(folder: str, threads=None, **_) -> dict:
    "DuckDB's own count(*) over CHARTEVENTS."
    import duckdb

    path = next(Path(folder).glob("CHARTEVENTS.csv*"))
    duckdb.sql(f"SET threads={threads or os.cpu_count()}")
    start = time.perf_counter(), time.process_time()
    duckdb.sql(f"SELECT count(*) FROM read_csv('{path}', header=true, quote='\"', escape='\"')").fetchall()
    return dict(seconds=time.perf_counter() - start[0], cpu=time.process_time() - start[1], peak=peak())


def build(folder: str, threads=None, n=0, **_) -> dict:
    "The cohort, in memory as a user has it."
    from rnn_transfer.sources import mimic3

    start = time.perf_counter(), time.process_time()
    cohort = mimic3.cohort(folder, threads=threads, scratch=str(Path(folder).parent))
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    if len(cohort.stays) != n:
        raise SystemExit(f"{len(cohort.stays)} stays came back of {n}")
    return dict(seconds=seconds, cpu=cpu, peak=peak(), events=len(cohort.events))


def alone(what: str, folder: Path, **kwargs) -> dict:
    "Run a measurement in a process of its own."
    ran = subprocess.run(
        [sys.executable, __file__, str(folder), "--only", what, "--with", json.dumps(kwargs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    if ran.returncode:
        raise SystemExit(f"{what} of {folder.name} failed; the reason stands above")
    return json.loads(ran.stdout.splitlines()[-1])


def measure(work: Path, rows: float, a: argparse.Namespace) -> list:
    "One size, plain and packed."
    n, made = stays_for(rows, a.others, a.seed), []
    for compression in (None, "gzip"):
        room, need = shutil.disk_usage(work).free, rows * BYTES * (0.35 if compression else 1.3)
        if room < need:
            raise SystemExit(f"error: {work}: {room / 1e9:.1f} GB are free, {rows:,.0f} rows need {need / 1e9:.1f}")
        folder, same = work / f"rows-{rows:.0f}{'-gz' if compression else ''}", dict(n=n, threads=a.threads)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            wrote = alone("write", folder, others=a.others, seed=a.seed, compression=compression, **same)
            size = sum(p.stat().st_size for p in folder.iterdir())
            counted, built = alone("count", folder, **same), alone("build", folder, **same)
        finally:
            if not a.keep:
                shutil.rmtree(folder, ignore_errors=True)
        made.append(
            dict(
                tables=".csv.gz" if compression else ".csv",
                stays=n,
                size=size,
                chart=wrote["rows"]["CHARTEVENTS"],
                all=sum(wrote["rows"].values()),
                load=os.getloadavg()[0],
                wrote=wrote,
                count=counted,
                build=built,
            )
        )
        r = made[-1]
        print(
            f"| {r['tables']} | {r['chart']:,} | {r['all']:,} | {n:,} | {size / 1e9:.2f} | {wrote['seconds']:.1f} | {wrote['peak']} | {counted['seconds']:.1f} | {built['seconds']:.1f} | {built['cpu']:.1f} | "
            f"{built['seconds'] / r['all'] * 1e6:.2f} | {built['seconds'] / counted['seconds']:.2f} | {built['peak']} | {built['events']:,} | {r['load']:.1f} |",
            flush=True,
        )
    return made


def summary(made: list):
    "The exponents, and the whole of MIMIC-III."
    print("\n| tables | measure | exponent of the rows | at MIMIC-III's size |\n|:--|:--|--:|--:|")
    for tables in (".csv", ".csv.gz"):
        m = [r for r in made if r["tables"] == tables]
        rows = np.array([r["all"] for r in m], float)
        for name, of, unit in (
            ("seconds", lambda r: r["build"]["seconds"], "minutes"),
            ("CPU seconds", lambda r: r["build"]["cpu"], "minutes"),
            ("peak MB", lambda r: r["build"]["peak"], "MB"),
        ):
            y = np.array([of(r) for r in m])
            power = np.polyfit(np.log(rows), np.log(y), 1)[0]
            whole = (
                y[-1] * (WHOLE / rows[-1]) ** power
                if unit == "minutes"
                else np.polyval(np.polyfit(rows[-2:], y[-2:], 1), WHOLE)
            )
            print(
                f"| {tables} | {name} | {power:.2f} | {whole / 60:.1f} minutes |"
                if unit == "minutes"
                else f"| {tables} | {name} | {power:.2f} | {whole:,.0f} MB |"
            )
    print(
        f"\nMIMIC-III's size: {WHOLE:,} rows of CHARTEVENTS, LABEVENTS and OUTPUTEVENTS; times from the largest size by the exponent, memory by a straight line through the two largest. The tables are synthetic: real ones have other items, texts and stays."
    )


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("work", type=Path)
    a.add_argument("--rows", type=float, nargs="+", default=[3e6, 30e6, 100e6])
    a.add_argument("--others", type=int, default=5)
    a.add_argument("--threads", type=int)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--keep", action="store_true")
    a.add_argument("--only")
    a.add_argument("--with", dest="given", type=json.loads)
    a = a.parse_args()
    if a.only:
        print(json.dumps(dict(write=write, count=count, build=build)[a.only](str(a.work), **a.given)))
        return
    a.work.mkdir(parents=True, exist_ok=True)
    print(
        "| tables | chart rows | rows in all | stays | GB | seconds to write | MB to write | count(*) seconds | cohort seconds | CPU seconds | µs a row | times count(*) | peak MB | events | load |\n|:--"
        + "|--:" * 14
        + "|",
        flush=True,
    )
    made = [r for rows in sorted(a.rows) for r in measure(a.work, rows, a)]
    if len(a.rows) > 1:
        summary(made)


if __name__ == "__main__":
    main()
