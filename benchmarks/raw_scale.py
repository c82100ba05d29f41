"""Time and memory of reading raw tables or MEDS of growing size, and an estimate for all of MIMIC-III or MIMIC-IV.

    python benchmarks/raw_scale.py WORK [--source mimic3] [--rows 3e6 30e6 100e6] [--others 5] [--threads N] [--seed 0]
        [--plain] [--keep]

writes the synthetic tables of each size under WORK (about 90 bytes a row; 100 million rows need 10 GB free), reads them
with the cohort of the source in a process of its own, .csv and then .csv.gz, times DuckDB's count(*) over the same
CHARTEVENTS for comparison, and prints Markdown tables. One size and one packing lie on the disk at a time.
With --source mimic4 the same rows are written again in the form of MIMIC-IV, and read by mimic4; with --source meds
these once more in MEDS, as eight shards of Parquet, and read by meds.
Others is the number of rows of items that no channel uses for each row of one that is used; with 5 a sixth of the chart
rows is of a mapped item, as in the MIMIC-III demo.
"""

import argparse
import importlib
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
SIZES = {  # {source: rows of the large tables that the database has}
    "mimic3": 330_712_483 + 27_854_055 + 4_349_218,  # the three tables of MIMIC-III v1.4
    "mimic4": 313_645_063 + 118_171_367,  # chartevents and labevents of MIMIC-IV v2.2
    "meds": 313_645_063 + 118_171_367,  # the same; other tables add rows that no channel uses
}
SHARDS = 8  # of a dataset in MEDS
BYTES_PER_ROW = 110  # on disk, at most, plain
COLUMNS = [
    "tables",
    "chart rows",
    "rows in all",
    "stays",
    "GB",
    "seconds to write",
    "MB to write",
    "count(*) seconds",
    "cohort seconds",
    "CPU seconds",
    "µs a row",
    "times count(*)",
    "peak MB",
    "events",
    "load",
]


def peak_memory() -> int:
    "The process's own largest resident memory in MB; from /proc on Linux, as getrusage counts the parent's too."
    try:
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)


def stays_for(rows: float, others: int, seed: int) -> int:
    "How many stays have so many chart rows, estimated from the first blocks."
    from rnn_transfer.sources.synthetic import MIN_STAYS
    from rnn_transfer.sources.synthetic_raw import simulate_raw_block
    from rnn_transfer.sources.synthetic_raw_chart import RAW_ITEMS

    is_chart = RAW_ITEMS["source"].eq("CHARTEVENTS").to_numpy()
    blocks = [simulate_raw_block(number, seed) for number in range(4)]
    n_chart_rows = sum(is_chart[block.rows.item].sum() for block in blocks) * (others + 1)
    rows_per_stay = n_chart_rows / sum(block.n_stays for block in blocks)
    return max(int(np.ceil(1.03 * rows / rows_per_stay)), MIN_STAYS)


def write(folder: str, n=0, others=5, seed=0, compression=None, threads=None) -> dict:
    "Write the tables of `n` stays."
    from rnn_transfer.sources import synthetic_raw

    start = time.perf_counter(), time.process_time()
    rows = synthetic_raw.write_raw(folder, n, seed, others, compression, threads)
    return dict(
        seconds=time.perf_counter() - start[0],
        cpu=time.process_time() - start[1],
        peak=peak_memory(),
        rows={t: rows[t] for t in LARGE},
    )


def count(folder: str, threads=None, source="mimic3", **_) -> dict:
    "DuckDB's own count(*) over CHARTEVENTS, or over the codes of all shards."
    import duckdb

    if source == "meds":
        query = f"SELECT count(code) FROM read_parquet('{folder}/data/*.parquet')"
    else:
        path = next(p for p in Path(folder).rglob("*") if p.name.upper().startswith("CHARTEVENTS.CSV"))
        query = f"SELECT count(*) FROM read_csv('{path}', header=true, quote='\"', escape='\"')"
    duckdb.sql(f"SET threads={threads or os.cpu_count()}")
    start = time.perf_counter(), time.process_time()
    duckdb.sql(query).fetchall()
    return dict(seconds=time.perf_counter() - start[0], cpu=time.process_time() - start[1], peak=peak_memory())


def convert(folder: str, source="", compression=None, **_) -> dict:
    "Write tables of MIMIC-III in the form of MIMIC-IV, and delete them."
    from rnn_transfer.sources.mimic4_tables import convert_to_mimic4

    convert_to_mimic4(source, folder, ".csv.gz" if compression else ".csv")
    shutil.rmtree(source)
    return dict(peak=peak_memory())


def to_meds(folder: str, source="", **_) -> dict:
    "Write tables of MIMIC-IV in MEDS, and delete them."
    from rnn_transfer.sources.meds_conversion import convert_to_meds

    convert_to_meds(source, folder, SHARDS)
    shutil.rmtree(source)
    return dict(peak=peak_memory())


def build(folder: str, threads=None, n=0, source="mimic3", **_) -> dict:
    "The cohort, in memory as a user has it."
    module = importlib.import_module(f"rnn_transfer.sources.{source}")
    start = time.perf_counter(), time.process_time()
    cohort = module.cohort(folder, threads=threads, scratch=str(Path(folder).parent))
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    if len(cohort.stays) < n:  # MIMIC-IV has no wards, so that a few more stays are kept
        raise SystemExit(f"{len(cohort.stays)} stays came back of {n}")
    return dict(seconds=seconds, cpu=cpu, peak=peak_memory(), events=len(cohort.events))


def run_alone(what: str, folder: Path, **kwargs) -> dict:
    "Run a measurement in a process of its own."
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--only", what, "--with", json.dumps(kwargs)],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{what} of {folder.name} failed; the reason stands above")
    return json.loads(done.stdout.splitlines()[-1])


def raise_for_space(work: Path, rows: float, compression: str | None):
    "Stop if the disk has too little room for the tables."
    free, need = shutil.disk_usage(work).free, rows * BYTES_PER_ROW * (0.35 if compression else 1.3)
    if free < need:
        raise SystemExit(f"error: {work}: {free / 1e9:.1f} GB are free, {rows:,.0f} rows need {need / 1e9:.1f}")


def measure_tables(work: Path, rows: float, n: int, compression: str | None, args: argparse.Namespace) -> dict:
    "Write, count and read the tables of one size and one packing."
    raise_for_space(work, rows, compression)
    folder = work / f"rows-{rows:.0f}{'-gz' if compression else ''}"
    common = dict(n=n, threads=args.threads)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        wrote = run_alone("write", folder, others=args.others, seed=args.seed, compression=compression, **common)
        if args.source != "mimic3":
            original = folder.rename(f"{folder}-mimic3")
            run_alone("convert", folder, source=str(original), compression=compression)
            wrote["rows"].pop("OUTPUTEVENTS")
        if args.source == "meds":
            original = folder.rename(f"{folder}-mimic4")
            run_alone("to_meds", folder, source=str(original))
        files = [p for p in folder.rglob("*") if ".csv" in p.name or p.suffix == ".parquet"]
        size = sum(p.stat().st_size for p in files)
        counted = run_alone("count", folder, source=args.source, **common)
        built = run_alone("build", folder, source=args.source, **common)
    finally:
        if not args.keep:
            for name in ("", "-mimic3", "-mimic4"):
                shutil.rmtree(f"{folder}{name}", ignore_errors=True)
    packed = ".csv.gz" if compression else ".csv"
    return dict(
        tables=".parquet" if args.source == "meds" else packed,
        stays=n,
        size=size,
        chart=wrote["rows"]["CHARTEVENTS"],
        all=sum(wrote["rows"].values()),
        load=os.getloadavg()[0],
        write=wrote,
        count=counted,
        build=built,
    )


def format_row(r: dict) -> str:
    "A measurement as a row of the Markdown table with the header `COLUMNS`."
    wrote, counted, built = r["write"], r["count"], r["build"]
    cells = [
        r["tables"],
        f"{r['chart']:,}",
        f"{r['all']:,}",
        f"{r['stays']:,}",
        f"{r['size'] / 1e9:.2f}",
        f"{wrote['seconds']:.1f}",
        f"{wrote['peak']}",
        f"{counted['seconds']:.1f}",
        f"{built['seconds']:.1f}",
        f"{built['cpu']:.1f}",
        f"{built['seconds'] / r['all'] * 1e6:.2f}",
        f"{built['seconds'] / counted['seconds']:.2f}",
        f"{built['peak']}",
        f"{built['events']:,}",
        f"{r['load']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def measure(work: Path, rows: float, args: argparse.Namespace) -> list:
    "One size, plain and, unless left out, packed."
    n, measured = stays_for(rows, args.others, args.seed), []
    for compression in (None,) if args.plain or args.source == "meds" else (None, "gzip"):
        measured.append(measure_tables(work, rows, n, compression, args))
        print(format_row(measured[-1]), flush=True)
    return measured


def print_estimates(measured: list, source: str):
    "The exponents of the rows, and estimates for the whole of the database."
    database, n_rows = "MIMIC-III" if source == "mimic3" else "MIMIC-IV", SIZES[source]
    print(f"\n| tables | measure | exponent of the rows | at {database}'s size |\n|:--|:--|--:|--:|")
    for tables in dict.fromkeys(r["tables"] for r in measured):
        builds = [r["build"] for r in measured if r["tables"] == tables]
        rows = np.array([r["all"] for r in measured if r["tables"] == tables], float)
        for name, key in (("seconds", "seconds"), ("CPU seconds", "cpu"), ("peak MB", "peak")):
            y = np.array([b[key] for b in builds])
            power = np.polyfit(np.log(rows), np.log(y), 1)[0]
            if key == "peak":
                estimate = f"{np.polyval(np.polyfit(rows[-2:], y[-2:], 1), n_rows):,.0f} MB"
            else:
                estimate = f"{y[-1] * (n_rows / rows[-1]) ** power / 60:.1f} minutes"
            print(f"| {tables} | {name} | {power:.2f} | {estimate} |")
    print(
        f"\n{database}'s size: {n_rows:,} rows of its large tables; times from the largest "
        "size by the exponent, memory by a straight line through the two largest. The tables are synthetic: real ones "
        "have other items, texts and stays."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=float, nargs="+", default=[3e6, 30e6, 100e6])
    parser.add_argument("--source", choices=list(SIZES), default="mimic3")
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="leave out the packed tables, which take long to write")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--with", dest="given", type=json.loads)
    args = parser.parse_args()
    if args.only:
        print(
            json.dumps(
                dict(write=write, convert=convert, to_meds=to_meds, count=count, build=build)[args.only](
                    str(args.work), **args.given
                )
            )
        )
        return
    args.work.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(COLUMNS)} |\n|:--{'|--:' * (len(COLUMNS) - 1)}|", flush=True)
    measured = [r for rows in sorted(args.rows) for r in measure(args.work, rows, args)]
    if len(args.rows) > 1:
        print_estimates(measured, args.source)


if __name__ == "__main__":
    main()
