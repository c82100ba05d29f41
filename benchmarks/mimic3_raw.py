"""Raw MIMIC-III tables to a cohort: time and memory on the open demo, replicated with fresh ids.

    python benchmarks/mimic3_raw.py --demo DIR --work DIR [--times 20]

writes the replicated tables under --work (about 2 GB for 20 times, .csv and .csv.gz), then runs each measurement
in a process of its own and prints a Markdown table. The reference needs 27.5 microseconds a row of CHARTEVENTS,
LABEVENTS and OUTPUTEVENTS (23.3 s for the demo's 845,749, up to phenotyping and mortality, one core).
DuckDB's count(*) over the same CHARTEVENTS is timed before every build.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

REFERENCE = 27.5e-6  # seconds a row
QUOTED = ["VALUE", "VALUEUOM", "ICD9_CODE", "DIAGNOSIS", "ETHNICITY", "GENDER", "DBSOURCE", "LABEL"]  # as officially
OPTIONS = "header=true, all_varchar=true, quote='\"', escape='\"'"
HEADER = (
    "| tables | rows | step | seconds (median) | CPU seconds | µs a row | times the reference's speed "
    "| times count(*) | peak MB | load |\n|:--|--:|:--|--:|--:|--:|--:|--:|--:|--:|"
)


def replicate_table(source: Path, target: Path, times: int) -> None:
    "Write a table `times` times, ids raised by a million each time."
    table = f"read_csv('{source}', {OPTIONS})"
    names = [column[0] for column in duckdb.sql(f"SELECT * FROM {table} LIMIT 0").description]
    columns = ", ".join(
        f'("{n}"::BIGINT + k * 1000000) AS "{n}"' if n in ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID") else f'"{n}"'
        for n in names
    )
    options = ["HEADER"]
    if quoted := [f'"{n}"' for n in names if n in QUOTED]:
        options.append(f"FORCE_QUOTE ({', '.join(quoted)})")
    if target.suffix == ".gz":
        options.append("COMPRESSION gzip")
    partial = target.with_name("partial.csv" + ".gz" * (target.suffix == ".gz"))
    duckdb.sql(f"COPY (SELECT {columns} FROM range({times}) r(k), {table}) TO '{partial}' ({', '.join(options)})")
    partial.rename(target)


def replicate(demo: Path, out: Path, times: int, suffix: str) -> None:
    "Write the demo's tables `times` times, those of definitions once; tables that are there stay."
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(demo.glob("*.csv.gz")):
        target = out / (source.name.removesuffix(".csv.gz") + suffix)
        if not target.exists():
            replicate_table(source, target, 1 if source.name.startswith("D_") else times)


def count_rows(demo: Path) -> int:
    "The rows that the reference reads."
    return sum(
        duckdb.sql(f"SELECT count(*) FROM read_csv('{demo}/{name}.csv.gz', {OPTIONS})").fetchall()[0][0]
        for name in ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
    )


# ---- measurements, each in a process of its own


def peak_memory() -> int:
    "The process's own largest resident memory in MB; getrusage would count the parent's too."
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def measure(step: Callable[[], None]) -> dict:
    "Seconds, CPU seconds and memory of a step."
    start, cpu_start = time.perf_counter(), time.process_time()
    step()
    return dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu_start, peak=peak_memory())


def count(folder: Path) -> dict:
    "DuckDB's own count(*) over CHARTEVENTS."
    path = next(folder.glob("CHARTEVENTS.csv*"))
    duckdb.sql(f"SET threads={os.cpu_count()}")
    sql = f"SELECT count(*) FROM read_csv('{path}', header=true, quote='\"', escape='\"')"
    return measure(lambda: duckdb.sql(sql).fetchall())


def build(folder: Path) -> dict:
    "The cohort."
    from rnn_transfer.sources import mimic3

    return measure(lambda: mimic3.cohort(folder))


def export(folder: Path) -> dict:
    "The benchmark's folders."
    from rnn_transfer.sources import mimic3_export

    with tempfile.TemporaryDirectory(dir=folder.parent) as d:
        return measure(lambda: mimic3_export.export(folder, Path(d) / "benchmark"))


STEPS = dict(count=count, build=build, export=export)


def run_alone(step: str, folder: Path) -> dict:
    "Run a measurement in a process of its own."
    command = [sys.executable, __file__, "--only", step, "--work", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---- the table


def print_row(tables: str, n_rows: int, step: str, runs: list[dict], load: float, ratio: float | None) -> None:
    "Print a line of the table: medians over the runs."
    seconds, cpu = (statistics.median(run[key] for run in runs) for key in ("seconds", "cpu"))
    columns = [tables, f"{n_rows:,}", step, f"{seconds:.1f}", f"{cpu:.1f}"]
    if step.startswith("count"):
        columns += ["", ""]
    else:
        columns += [f"{seconds / n_rows * 1e6:.2f}", f"{REFERENCE * n_rows / seconds:.0f}"]
    columns += ["" if ratio is None else f"{ratio:.2f}", str(max(run["peak"] for run in runs)), f"{load:.1f}"]
    print(f"| {' | '.join(columns)} |", flush=True)


def print_table(args: argparse.Namespace) -> None:
    "Measure plain and packed tables."
    print(HEADER)
    n_rows = args.times * count_rows(args.demo)
    for suffix in (".csv", ".csv.gz"):
        folder = args.work / f"x{args.times}{suffix}"
        replicate(args.demo, folder, args.times, suffix)
        counts, builds, load = [], [], 0.0
        for _ in range(args.repeat):
            counts.append(run_alone("count", folder))
            builds.append(run_alone("build", folder))
            load = max(load, os.getloadavg()[0])
        ratio = statistics.median(b["seconds"] / c["seconds"] for b, c in zip(builds, counts))
        print_row(suffix, n_rows, "count(*) of CHARTEVENTS", counts, load, 1.0)
        print_row(suffix, n_rows, "cohort", builds, load, ratio)
        if args.export:
            print_row(suffix, n_rows, "export", [run_alone("export", folder)], os.getloadavg()[0], None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--export", action="store_true", help="measure the export too")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(STEPS[args.only](args.work)))
    else:
        print_table(args)


if __name__ == "__main__":
    main()
