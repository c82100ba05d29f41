"""Raw MIMIC-III tables to a cohort: time and memory on the open demo, replicated with fresh ids.

    python benchmarks/mimic3_raw.py --demo DIR --work DIR [--times 20]

writes the replicated tables under --work (about 2 GB for 20 times, .csv and .csv.gz), then runs each measurement in a process of its own
and prints a Markdown table. The reference needs 27.5 microseconds a row of CHARTEVENTS, LABEVENTS and OUTPUTEVENTS (23.3 s for the demo's 845,749,
up to phenotyping and mortality, one core). DuckDB's count(*) over the same CHARTEVENTS is timed beside every build.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb

REFERENCE = 27.5e-6  # seconds a row
TEXT = [
    "VALUE",
    "VALUEUOM",
    "ICD9_CODE",
    "DIAGNOSIS",
    "ETHNICITY",
    "GENDER",
    "DBSOURCE",
    "LABEL",
]  # quoted in the official files
OPTIONS = "header=true, all_varchar=true, quote='\"', escape='\"'"


def replicate(demo: Path, out: Path, times: int, suffix: str):
    "Write the demo's tables `times` times, ids raised by a million each time."
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(demo.glob("*.csv.gz")):
        table, target = f"read_csv('{source}', {OPTIONS})", out / (source.name[:-7] + suffix)
        if target.exists():
            continue
        names = [c[0] for c in duckdb.sql(f"SELECT * FROM {table} LIMIT 0").description]
        columns = ", ".join(
            f'("{n}"::BIGINT + k * 1000000) AS "{n}"' if n in ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID") else f'"{n}"'
            for n in names
        )
        quote = ", ".join(f'"{n}"' for n in names if n in TEXT)
        k = 1 if source.name.startswith("D_") else times
        partial = target.with_name("partial" + suffix)
        duckdb.sql(
            f"COPY (SELECT {columns} FROM range({k}) r(k), {table}) TO '{partial}' (HEADER{f', FORCE_QUOTE ({quote})' if quote else ''}{', COMPRESSION gzip' if suffix.endswith('gz') else ''})"
        )
        partial.rename(target)


def peak() -> int:
    "The process's own largest resident memory in MB; getrusage would count the parent's too."
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024


def count(folder: str):
    "DuckDB's own count(*) over CHARTEVENTS."
    path = next(Path(folder).glob("CHARTEVENTS.csv*"))
    duckdb.sql(f"SET threads={os.cpu_count()}")
    start, cpu = time.perf_counter(), time.process_time()
    n = duckdb.sql(f"SELECT count(*) FROM read_csv('{path}', header=true, quote='\"', escape='\"')").fetchall()[0][0]
    return dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu, rows=n, peak=peak())


def build(folder: str):
    "The cohort."
    from rnn_transfer.sources import mimic3

    start, cpu = time.perf_counter(), time.process_time()
    cohort = mimic3.cohort(folder)
    return dict(
        seconds=time.perf_counter() - start,
        cpu=time.process_time() - cpu,
        rows=len(cohort.events),
        stays=len(cohort.stays),
        peak=peak(),
    )


def export(folder: str):
    "The benchmark's folders."
    import tempfile

    from rnn_transfer.sources import mimic3_export

    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as d:
        start, cpu = time.perf_counter(), time.process_time()
        mimic3_export.export(folder, Path(d) / "benchmark")
        return dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu, peak=peak())


def alone(what: str, folder: Path) -> dict:
    "Run a measurement in a process of its own."
    ran = subprocess.run(
        [sys.executable, __file__, "--only", what, "--work", str(folder)], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout.splitlines()[-1])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--demo", type=Path)
    a.add_argument("--work", type=Path, required=True)
    a.add_argument("--times", type=int, default=20)
    a.add_argument("--export", action="store_true")
    a.add_argument("--repeat", type=int, default=3)
    a.add_argument("--only")
    a = a.parse_args()
    if a.only:
        print(json.dumps(dict(count=count, build=build, export=export)[a.only](str(a.work))))
        return
    print(
        "| tables | rows | step | seconds (median) | CPU seconds | µs a row | times the reference's speed | times count(*) | peak MB | load |\n|:--|--:|:--|--:|--:|--:|--:|--:|--:|--:|"
    )
    for suffix in (".csv", ".csv.gz"):
        folder = a.work / f"x{a.times}{suffix}"
        replicate(a.demo, folder, a.times, suffix)
        rows = a.times * sum(
            duckdb.sql(f"SELECT count(*) FROM read_csv('{a.demo}/{t}.csv.gz', {OPTIONS})").fetchall()[0][0]
            for t in ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
        )
        runs = [(alone("count", folder), alone("build", folder), os.getloadavg()[0]) for _ in range(a.repeat)]

        def middle(which, key):
            return sorted(r[which][key] for r in runs)[len(runs) // 2]

        ratio = sorted(b["seconds"] / c["seconds"] for c, b, _ in runs)[len(runs) // 2]
        load = max(r[2] for r in runs)
        for step, which, times in ("count(*) of CHARTEVENTS", 0, 1.0), ("cohort", 1, ratio):
            s = middle(which, "seconds")
            speed = f"{s / rows * 1e6:.2f} | {REFERENCE * rows / s:.0f}" if which else " | "
            print(
                f"| {suffix} | {rows:,} | {step} | {s:.1f} | {middle(which, 'cpu'):.1f} | {speed} | {times:.2f} | {max(r[which]['peak'] for r in runs)} | {load:.1f} |",
                flush=True,
            )
        if a.export:
            e = alone("export", folder)
            print(
                f"| {suffix} | {rows:,} | export | {e['seconds']:.1f} | {e['cpu']:.1f} | {e['seconds'] / rows * 1e6:.2f} | {REFERENCE * rows / e['seconds']:.0f} |  | {e['peak']} | {os.getloadavg()[0]:.1f} |"
            )


if __name__ == "__main__":
    main()
