"The raw tables of MIMIC-III: forms they may have, overlapping stays, and faults."

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from mimic3_copies import rewrite, spoil

from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.data import Cohort
from rnn_transfer.sources import mimic3, mimic3_benchmarks
from rnn_transfer.sources.csv_files import find_lines
from rnn_transfer.sources.duckdb_tables import duckdb_session, fetch_value, one_line_duckdb_errors
from rnn_transfer.sources.mimic3_export import export
from rnn_transfer.sources.mimic3_tables import write_toy_tables
from rnn_transfer.utilities.errors import BadInput

NAMES = [c.name for c in BENCHMARK_CHANNELS]


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic3-demo"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_tables(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("form", ["gz", "lower", "columns", "crlf", "blank and quote in the path"])
def test_names_compression_and_order_of_columns_do_not_matter(toy, tmp_path, form):
    def flip(name, d):
        if form == "lower":
            return name.lower(), d[d.columns[::-1]].rename(columns=str.lower)
        return name, d[d.columns[::-1]] if form == "columns" else d

    folder = rewrite(
        toy,
        tmp_path / ("it's [a] b*" if form.startswith("blank") else "x"),
        flip,
        ".csv.gz" if form == "gz" else ".csv",
    )
    if form == "crlf":
        for p in folder.iterdir():
            p.write_bytes(p.read_bytes().replace(b"\n", b"\r\n"))
    assert mimic3.cohort(folder).fingerprint == mimic3.cohort(toy).fingerprint


def test_a_saved_cohort_loads_again(toy, tmp_path):
    made = mimic3.cohort(toy, out=tmp_path / "cohort")
    assert Cohort.load(tmp_path / "cohort").fingerprint == made.fingerprint
    assert "None" in BENCHMARK_CHANNELS[NAMES.index("Glascow coma scale eye opening")].values
    eye = made.events[(made.events["stay_id"] == 300) & (made.events["channel"] == "Glascow coma scale eye opening")]
    assert BENCHMARK_CHANNELS[3].values[int(eye["value"].iloc[0])] == "None"


def test_partitions_of_ones_own(toy, tmp_path):
    (tmp_path / "mine.csv").write_text("subject_id,partition\n9,test\n6,val\n3,train\n2,test\n")
    given = tmp_path / "mine.csv"
    made = mimic3.cohort(toy, partitions=given)
    partitions = made.stays.set_index("subject_id")["partition"].to_dict()
    assert partitions == {2: "test", 3: "train", 6: "val", 9: "test"}
    assert made.meta["eligible_subjects"] == {"train and val": 2, "test": 2}
    back = mimic3_benchmarks.cohort(export(toy, tmp_path / "out", partitions=given))
    assert back.fingerprint == made.fingerprint
    assert made.fingerprint != mimic3.cohort(toy).fingerprint


def test_several_threads_or_little_memory_change_nothing(toy):
    assert mimic3.cohort(toy, threads=1, memory="100MB").fingerprint == mimic3.cohort(toy, threads=4).fingerprint


# ---- overlapping stays, against a few lines of pandas ----


def pooled(chart, stays):
    "What the benchmark does with the rows of one subject: pool by time, then cut out episodes."
    chart = chart.assign(key=[v if c == "Heart Rate" else float(v) for c, v in zip(chart["channel"], chart["v"])])
    table = {}
    for (t, c), g in chart.groupby(["t", "channel"]):
        table.setdefault(t, {})[c] = sorted(g["key"])[-1]
    times = chart[["t", "stay"]].drop_duplicates().sort_values(["t", "stay"])
    out = {}
    for s in stays.itertuples():
        rows = [t for t, owner in times.itertuples(index=False) if owner == s.stay or s.intime <= t <= s.outtime]
        hours = [((t - s.intime).total_seconds() / 60.0 / 60, table[t]) for t in rows]
        out[s.stay] = [
            (h, c, float(v))
            for h, cells in hours
            for c, v in sorted(cells.items())
            if -1e-6 < h < min(24 * s.los, 48) + 1e-6
        ]
    return out


def hospital(seed, folder):
    "Subjects of one or two stays, which overlap or touch in half of them."
    r = np.random.default_rng(seed)
    t0 = pd.Timestamp("2100-01-01")
    folder.mkdir()
    stays, chart, text = [], [], lambda t: t.strftime("%Y-%m-%d %H:%M:%S")
    for subject in range(1, 9):
        for k in range(1 + subject % 2):
            intime = t0 + pd.Timedelta(hours=int(r.integers(0, 12)) + k * int(r.choice([3, 90])))
            outtime = intime + pd.Timedelta(hours=int(r.integers(2, 70)))
            los = round((outtime - intime).total_seconds() / 86400 + r.choice([0, 3e-5]), 4)
            stays.append(
                dict(
                    subject=subject,
                    hadm=subject * 10 + k,
                    stay=subject * 100 + k,
                    intime=intime,
                    outtime=outtime,
                    los=los,
                )
            )
            for _ in range(60):
                channel = r.choice(["Heart Rate", "Glucose"])
                t = t0 + pd.Timedelta(hours=int(r.integers(-2, 100)), seconds=int(r.choice([0, 1, 2])))
                if r.random() < 0.2:
                    t = outtime + pd.Timedelta(seconds=int(r.integers(0, 4)))
                chart.append(
                    dict(
                        subject=subject,
                        hadm=subject * 10 + k,
                        stay=subject * 100 + k,
                        channel=channel,
                        t=t,
                        v=str(r.integers(5, 130)),
                    )
                )
    stays, chart = pd.DataFrame(stays), pd.DataFrame(chart)

    def w(name, **c):
        return pd.DataFrame(c).to_csv(folder / f"{name}.csv", index=False)

    w("PATIENTS", SUBJECT_ID=range(1, 9), GENDER="F", DOB="2050-01-01 00:00:00", DOD="")
    w(
        "ADMISSIONS",
        SUBJECT_ID=stays.subject,
        HADM_ID=stays.hadm,
        ADMITTIME="2099-12-31 00:00:00",
        DISCHTIME="2100-02-01 00:00:00",
        DEATHTIME=["2100-01-20 00:00:00" if i % 3 == 0 else "" for i in stays.index],
        ETHNICITY="",
        DIAGNOSIS="",
    )
    w(
        "ICUSTAYS",
        SUBJECT_ID=stays.subject,
        HADM_ID=stays.hadm,
        ICUSTAY_ID=stays.stay,
        DBSOURCE="carevue",
        FIRST_CAREUNIT="MICU",
        LAST_CAREUNIT="MICU",
        FIRST_WARDID=1,
        LAST_WARDID=1,
        INTIME=[text(t) for t in stays.intime],
        OUTTIME=[text(t) for t in stays.outtime],
        LOS=stays.los,
    )
    w(
        "DIAGNOSES_ICD",
        SUBJECT_ID=stays.subject,
        HADM_ID=stays.hadm,
        SEQ_NUM=1,
        ICD9_CODE=["78552" if i % 2 else "V1582" for i in stays.index],
    )
    w("D_ICD_DIAGNOSES", ICD9_CODE=["78552", "V1582"], SHORT_TITLE="", LONG_TITLE="")

    def row(d):
        return dict(
            SUBJECT_ID=d.subject,
            HADM_ID=d.hadm,
            ITEMID=d.channel.map({"Heart Rate": 211, "Glucose": 50931}),
            CHARTTIME=[text(t) for t in d.t],
            VALUE=d.v,
            VALUEUOM="",
        )

    heart = chart.channel == "Heart Rate"
    w("CHARTEVENTS", **row(chart[heart]), ICUSTAY_ID=chart[heart].stay)
    w("LABEVENTS", **row(chart[~heart]))
    return stays, chart


@pytest.mark.parametrize("seed", range(4))
def test_stays_that_overlap_are_pooled_as_in_the_reference(seed, tmp_path):
    stays, chart = hospital(seed, tmp_path / "raw")
    made = mimic3.cohort(tmp_path / "raw")
    shared = made.meta["counts_of_rows"]["times_shared_by_two_stays"]
    assert shared > 10
    expected = {}
    for subject, rows in chart.groupby("subject"):
        expected |= pooled(rows, stays[stays["subject"] == subject])
    found = {stay: [] for stay in expected}
    for e in made.events.itertuples():
        found[e.stay_id].append((e.hour, e.channel, e.value))
    assert {s: sorted(v) for s, v in found.items()} == {s: sorted(v) for s, v in expected.items()}
    back = mimic3_benchmarks.cohort(export(tmp_path / "raw", tmp_path / "export"))
    assert back.fingerprint == made.fingerprint


# ---- faults ----


FAULTS = {
    "short row": (
        "CHARTEVENTS",
        lambda t: "\n".join(x if i != 4 else x.rsplit(",", 3)[0] for i, x in enumerate(t.split("\n"))),
        r"CHARTEVENTS.csv: line 5: 5 fields, expected 8",
    ),
    "bad time": (
        "LABEVENTS",
        lambda t: t.replace("2100-01-01 13:00", "2100-01-32 13:00", 1),
        r"LABEVENTS.csv: line 3: column CHARTTIME: '2100-01-32 13:00:00' is no time",
    ),
    "bad number": (
        "ICUSTAYS",
        lambda t: t.replace(",2.5\n", ",2.5 days\n", 1),
        r"ICUSTAYS.csv: line 2: column LOS: '2.5 days' is no number",
    ),
    "stay twice": (
        "ICUSTAYS",
        lambda t: t + t.splitlines()[1] + "\n",
        r"ICUSTAYS.csv: column ICUSTAY_ID: 200 stands in lines 2, 10",
    ),
    "patient twice": (
        "PATIENTS",
        lambda t: t + t.splitlines()[3] + "\n",
        r"PATIENTS.csv: column SUBJECT_ID: 5 stands in lines 4, 9",
    ),
    "no column": (
        "ADMISSIONS",
        lambda t: t.replace("DEATHTIME", "DIED"),
        r"ADMISSIONS.csv: column DEATHTIME is missing",
    ),
    "nobody left": (
        "PATIENTS",
        lambda t: t.splitlines()[0] + "\n",
        r"PATIENTS.csv: no row below the first line",
    ),
    "only children": (
        "PATIENTS",
        lambda t: (
            "\n".join(
                x if i == 0 else ",".join([*x.split(",")[:2], "2099-01-01 00:00:00", ""])
                for i, x in enumerate(t.splitlines())
            )
            + "\n"
        ),
        r'after the step "age 18 or more"',
    ),
    "no event": ("CHARTEVENTS", lambda t: t.splitlines()[0] + "\n", r"CHARTEVENTS.csv: no row is an event"),
    "no diagnosis": ("DIAGNOSES_ICD", lambda t: t.splitlines()[0] + "\n", r"no stay is left that has a diagnosis"),
    "empty file": ("LABEVENTS", lambda t: "", r"LABEVENTS.csv: empty file"),
    "latin-1 in the first line": (
        "PATIENTS",
        lambda t: t.replace("GENDER", "G\xc9NDER").encode("latin-1"),
        r"PATIENTS.csv: line 1: no text in UTF-8",
    ),
    "latin-1 in a line": (
        "ADMISSIONS",
        lambda t: t.replace("SEPSIS", "FI\xc8VRE").encode("latin-1"),
        r"ADMISSIONS.csv: line 3: no text in UTF-8",
    ),
    "utf-16": ("ICUSTAYS", lambda t: t.encode("utf-16"), r"ICUSTAYS.csv: line 1: no text in UTF-8"),
    "packed under the name of a plain file": (
        "LABEVENTS",
        lambda t: gzip.compress(t.encode()),
        r"LABEVENTS.csv: a .gz file whose name does not say so; rename it to LABEVENTS.csv.gz",
    ),
    "open quote": ("CHARTEVENTS", lambda t: t.replace("98.6", '"98.6'), r"CHARTEVENTS.csv: line 8: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_leaves_nothing(toy, tmp_path, fault):
    name, change, message = FAULTS[fault]
    folder = spoil(toy, tmp_path / "raw_gzip_tables", name, change)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(BadInput, match=message) as e:
        mimic3.cohort(folder, out=tmp_path / "out", scratch=tmp_path / "scratch")
    assert "\n" not in str(e.value)
    if fault != "no diagnosis":  # an export without diagnoses is no error
        with pytest.raises(BadInput, match=message):
            export(folder, tmp_path / "out", scratch=tmp_path / "scratch")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw_gzip_tables", "scratch"]
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("cut", [8, 0.5, -4])
def test_a_truncated_gz_is_named(toy, tmp_path, cut):
    folder = rewrite(
        toy, tmp_path / "raw", lambda n, d: (n, pd.concat([d] * 400) if n == "CHARTEVENTS" else d), ".csv.gz"
    )
    whole = (folder / "CHARTEVENTS.csv.gz").read_bytes()
    (folder / "CHARTEVENTS.csv.gz").write_bytes(whole[: cut if isinstance(cut, int) else int(len(whole) * cut)])
    with pytest.raises(BadInput, match=r"CHARTEVENTS.csv.gz: not a whole .gz file"):
        mimic3.cohort(folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", [20, 0.3, 0.7])
def test_a_damaged_gz_is_named(toy, tmp_path, where):
    "Changed bytes: unpacking fails, in the first block or later; or what it gives is no table, and gzip -t is named."
    r = np.random.default_rng(0)
    ids = r.integers(0, 10**9, 40_000)
    folder = rewrite(
        toy,
        tmp_path / "raw",
        lambda n, d: (
            n,
            pd.concat(
                [d, pd.DataFrame(dict(SUBJECT_ID=ids, HADM_ID=ids, ITEMID=1, CHARTTIME=d["CHARTTIME"][0], VALUE=ids))]
            )
            if n == "LABEVENTS"
            else d,
        ),
        ".csv.gz",
    )
    path = folder / "LABEVENTS.csv.gz"
    whole = bytearray(path.read_bytes())
    at = where if isinstance(where, int) else int(len(whole) * where)
    whole[at : at + 40] = r.bytes(40)
    path.write_bytes(whole)
    with pytest.raises(BadInput, match=r"LABEVENTS.csv.gz: .*gzip -t") as e:
        mimic3.cohort(folder, out=tmp_path / "out")
    assert "\n" not in str(e.value) and not (tmp_path / "out").exists()


def test_words_of_duckdb_without_a_path_get_one(tmp_path):
    e = duckdb.IOException("IO Error: Failed to decode gzip stream: data error")
    with (
        pytest.raises(BadInput, match="^/a b/X.csv.gz: not a whole .gz file"),
        one_line_duckdb_errors("/a b/X.csv.gz"),
    ):
        raise e


@pytest.mark.parametrize(
    "text",
    [
        'IO Error: Cannot open file "/my_gzip_tables/x.csv": Permission denied',
        "IO Error: No files found that match the pattern /my_gzip_tables/x.csv",
    ],
)
def test_a_word_in_a_path_explains_nothing(text):
    with pytest.raises(BadInput, match="^DuckDB: IO Error: .*x.csv") as e, one_line_duckdb_errors():
        raise duckdb.IOException(text)
    assert "gz file" not in str(e.value)


def test_line_numbers_are_those_of_the_file(toy, tmp_path):
    "Also after a blank line and a text of two lines, and in a .gz file."
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    p = folder / "ADMISSIONS.csv"
    p.write_text(
        p.read_text().replace("FEVER", '"FEVER,\nCOUGH"').replace("\n5,50", "\n\n5,50")
        + p.read_text().splitlines()[4]
        + "\n"
    )
    lines = [i + 1 for i, x in enumerate(p.read_text().split("\n")) if ",60," in x]
    assert len(lines) == 2
    assert find_lines(p, "HADM_ID", 60) == lines
    (folder / "ADMISSIONS.csv.gz").write_bytes(gzip.compress(p.read_bytes()))
    assert find_lines(folder / "ADMISSIONS.csv.gz", "HADM_ID", 60) == lines


def test_a_missing_folder_table_or_benchmark_file_is_named(toy, tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        mimic3.cohort(tmp_path / "none")
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "LABEVENTS.csv").unlink()
    with pytest.raises(BadInput, match="table LABEVENTS is missing"):
        mimic3.cohort(folder)
    with pytest.raises(BadInput, match="listfile.csv: no such file"):
        mimic3_benchmarks.cohort(folder)
    out = export(toy, tmp_path / "benchmark")
    (out / "phenotyping" / "test" / "6_episode1_timeseries.csv").unlink()
    with pytest.raises(BadInput, match="6_episode1_timeseries.csv is missing"):
        mimic3_benchmarks.cohort(out)
    with pytest.raises(BadInput, match="not a correction"):
        mimic3.cohort(toy, corrected="urine")


def test_a_full_disk_is_one_line(toy, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cohort, "save", full)
    with pytest.raises(BadInput, match="the disk is full"):
        mimic3.cohort(toy, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


BIG = "CREATE TABLE big AS SELECT random() AS a, random() AS b FROM range(3_000_000)"
SORT = """SELECT max(x) FROM (
    SELECT sum(a) OVER (ORDER BY b) AS x FROM (SELECT random() AS a, random() AS b FROM range(2_000_000))
)"""


def test_duckdb_out_of_disk_is_one_line(tmp_path):
    "Its real words, once for a limit on intermediate files and once for a disk of 8 MB, where the machine allows one."
    with pytest.raises(BadInput, match="^the disk is full"), duckdb_session("40MB", 1, tmp_path) as con:
        con.execute("SET max_temp_directory_size='1MB'")
        con.execute(SORT).fetchall()
    assert not list(tmp_path.iterdir())
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.name != "posix"
        or os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        for sql in (BIG, SORT):
            with pytest.raises(BadInput, match="^the disk is full"), duckdb_session("40MB", 1, disk) as con:
                con.execute(sql).fetchall()
            assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


class _WithoutProgressBar:
    "A connection in a Jupyter kernel without ipywidgets."

    def __init__(self, con):
        self.con = con

    def __getattr__(self, name):
        return getattr(self.con, name)

    def execute(self, sql, *args):
        if "enable_progress_bar" in sql:
            raise duckdb.InvalidInputException("required package 'ipywidgets' is missing")
        return self.con.execute(sql, *args)


def test_a_session_needs_no_progress_bar(tmp_path, monkeypatch):
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda path: _WithoutProgressBar(connect(path)))
    for progress in (False, True):
        with duckdb_session(scratch=tmp_path, progress=progress) as con:
            assert fetch_value(con, "SELECT 1") == 1


def test_duckdb_out_of_memory_names_memory(tmp_path):
    "Too little memory is not a full disk."
    with pytest.raises(BadInput, match="^memory: .*memory=2GB"), duckdb_session("4MB", 1, tmp_path) as con:
        con.execute(SORT).fetchall()
    assert not list(tmp_path.iterdir())


def test_a_laboratory_table_of_other_stays_is_a_note(toy, tmp_path):
    folder = spoil(toy, tmp_path / "raw", "LABEVENTS", lambda t: t.splitlines()[0] + "\n")
    made = mimic3.cohort(folder, out=tmp_path / "out")
    counts, note = made.meta["counts_of_rows"], made.meta["note"]
    assert counts["rows_of_LABEVENTS"] == 0
    assert counts["rows_of_CHARTEVENTS"] == counts["rows"] > 0
    assert note.startswith("4 patients: ")
    assert ". LABEVENTS has no event of the stays that were kept" in note
    whole = mimic3.cohort(toy).meta
    assert "LABEVENTS" not in whole["note"]
    assert whole["counts_of_rows"]["rows_of_LABEVENTS"] == 4
    assert "glucose" not in set(made.events["channel"].astype(str).str.lower())


def test_partitions_of_ones_own_for_simulated_tables(toy, tmp_path):
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "SYNTHETIC.txt").write_text("")
    simulated, mine = ["train", "train", "test", "val"], ["val", "test", "train", "train"]
    for path, partitions in (folder / "partitions.csv", simulated), (tmp_path / "mine.csv", mine):
        pd.DataFrame(dict(subject_id=[2, 3, 6, 9], partition=partitions)).to_csv(path, index=False)
    for given, partitions in (None, simulated), (tmp_path / "mine.csv", mine), (str(tmp_path / "mine.csv"), mine):
        made = mimic3.cohort(folder, out=tmp_path / f"out-{type(given).__name__}", partitions=given)
        assert list(made.stays["partition"]) == partitions
        assert made.meta["synthetic"]
        assert "partitions" not in made.meta


def test_an_interrupt_leaves_nothing(demo, tmp_path):
    scratch, out, raw = tmp_path / "scratch", tmp_path / "out", tmp_path / "raw"
    scratch.mkdir()
    raw.mkdir()
    for p in demo.glob("*.csv.gz"):
        (raw / p.name).symlink_to(p)
    (raw / "CHARTEVENTS.csv.gz").unlink()
    text = gzip.decompress((demo / "CHARTEVENTS.csv.gz").read_bytes())
    (raw / "CHARTEVENTS.csv").write_bytes(text + text[text.index(b"\n") + 1 :] * 5)
    arguments = f"{str(raw)!r}, out={str(out)!r}, scratch={str(scratch)!r}, threads=1"
    code = f"from rnn_transfer.sources import mimic3; mimic3.cohort({arguments})"
    p = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a suite that runs in the background does not hear it
    while not list(scratch.iterdir()) and p.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    error = p.communicate(timeout=60)[1]
    assert p.returncode != 0
    assert "KeyboardInterrupt" in error
    assert not out.exists()
    assert not list(scratch.iterdir())
    assert not [x for x in os.listdir(tmp_path) if x.startswith(".")]


@pytest.mark.parametrize(
    "table, message",
    [
        ("subject_id\n2\n", "column partition is missing"),
        ("subject_id,partition\n2,dev\n3,train\n", "column partition: line 2: neither train"),
        ("subject_id,partition\n2,train\nx,val\n", "column subject_id: line 3: no whole number"),
        ("subject_id,partition\n2,train\n2,val\n", "column subject_id: line 3: a subject that already"),
        ("subject_id,partition\n2,train\n02,val\n", "column subject_id: line 3: a subject that already"),
        ("subject_id,partition\n2,train\n3,val\n", "column subject_id: 6 is missing, and 1 more"),
        ("", "empty file"),
        ("subject_id,partition\n2,train\n\n3\n", "line 4: 1 fields, expected 2"),
        ("subject_id,partition\n" + "2,dev\n" * 5, "lines 2, 3, 4 and 2 more: neither train"),
    ],
)
def test_a_wrong_list_of_partitions_is_named(toy, tmp_path, table, message):
    (tmp_path / "mine.csv").write_text(table)
    for make in (mimic3.cohort, export):
        with pytest.raises(BadInput, match=f"mine.csv: .*{message}"):
            make(toy, out=tmp_path / "out", partitions=tmp_path / "mine.csv")
    assert not (tmp_path / "out").exists()


def test_a_termination_leaves_nothing(demo, tmp_path):
    (tmp_path / "tmp").mkdir()
    command = [
        Path(sys.executable).parent / "rnn_transfer_cohort",
        "mimic3",
        "--path",
        str(demo),
        "--out",
        str(tmp_path / "out"),
    ]
    p = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    while not list((tmp_path / "tmp").glob("rnn_transfer-*/store.duckdb")) and p.poll() is None:
        time.sleep(0.01)
    p.terminate()
    error = p.communicate(timeout=60)[1]
    assert p.returncode == 143
    assert error.splitlines()[-1].startswith("error: terminated")
    assert "Traceback" not in error
    assert [x.name for x in tmp_path.iterdir()] == ["tmp"]
    assert not list((tmp_path / "tmp").iterdir())
