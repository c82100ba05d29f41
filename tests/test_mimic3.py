"MIMIC-III: the raw tables, the benchmark's folders, and the way back."

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.data import Cohort
from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.files import load_resource
from rnn_transfer.sources import mimic3, mimic3_benchmarks, mimic3_export

NAMES = [c.name for c in BENCHMARK_CHANNELS]


# ---- real patients: the open demo against the reference ----


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic3-demo"


@pytest.fixture(scope="module")
def cohort(demo):
    return mimic3.cohort(demo)


@pytest.fixture(scope="module")
def exported(demo, tmp_path_factory):
    return mimic3_export.export(demo, tmp_path_factory.mktemp("mimic3") / "benchmark")


@pytest.mark.parametrize("task", ["phenotyping", "in-hospital-mortality"])
def test_the_cohort_has_the_golden_grids_statistics_and_labels(shared, cohort, task):
    disc, lr = np.load(shared / "golden" / f"{task}_disc.npz"), np.load(shared / "golden" / f"{task}_lr.npz")
    grid = cohort.grid()
    at = pd.Index(grid.stay_ids).get_indexer(disc["icustay_id"])
    assert (at >= 0).all() and list(grid.columns)[:59] == list(disc["header"])[:59]
    assert np.array_equal(grid.X[at], disc["X"].astype(np.float32))
    statistics = cohort.statistics().loc[lr["icustay_id"]]
    assert list(statistics.columns) == list(lr["feature_names"]) and np.array_equal(
        statistics.to_numpy(), lr["X"], equal_nan=True
    )
    stays = cohort.stays.set_index("stay_id").loc[disc["icustay_id"]]
    names = list(disc["label_names"]) if task == "phenotyping" else ["In-hospital mortality"]
    assert np.array_equal(stays[names].to_numpy().reshape(disc["y"].shape), disc["y"])
    assert list(stays["partition"]) == list(disc["split"]) and np.array_equal(stays["los_hours"], disc["los_hours"])


def test_the_flow_is_that_of_the_reference(cohort):
    flow = {f["step"]: (f["stays"], f["subjects"]) for f in cohort.meta["flow"]}
    assert [flow[s][0] for s in ("ICU stays", "without transfers", "one stay per admission", "age 18 or more")] == [
        136,
        126,
        115,
        114,
    ]
    assert (
        flow["age 18 or more"][1] == 89
        and flow["with an event in the ICU: phenotyping"][0] == 113
        and cohort.meta["flow"][-1]["stays"] == 57
    )
    assert (
        cohort.meta["held_out_prevalence"] == [0, 1]
        and not cohort.meta["synthetic"]
        and cohort.meta["source"] == "mimic3"
    )


def test_every_file_has_the_official_hash(shared, exported):
    outcome = mimic3_export.verify_export(exported, shared / "golden" / "official_hashes.csv")
    assert outcome["same"].sum() == 297 and not outcome[["differ", "missing"]].to_numpy().any()


def test_the_lists_of_the_authors_are_read_as_they_are(shared, exported, tmp_path):
    "One file per task without names of columns, as in mimic3benchmark/tests/resources; list files among them cannot be compared."
    golden = pd.read_csv(shared / "golden" / "official_hashes.csv")
    for task, d in golden.groupby("task"):
        lines = [f"./{f},{h}" for f, h in zip(d["file"], d["md5"])] + [
            f"./{side}/listfile.csv,{'0' * 32}" for side in ("test", "train")
        ]
        (tmp_path / f"{task}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{task}.pkl").write_bytes(b"x")
    read = {row for row in mimic3_export.read_hashes(tmp_path) if "listfile" not in row[1]}
    assert len(read) == 297 and read == set(mimic3_export.read_hashes(shared / "golden" / "official_hashes.csv"))
    outcome = mimic3_export.verify_export(exported, [tmp_path / "ihm.csv"]).loc["in-hospital-mortality"]
    assert outcome["same"] == 33 and outcome["not comparable"] == 2 and not outcome["differ"] and not outcome["missing"]


def test_lists_and_episodes_are_the_golden_ones(shared, exported, tmp_path):
    with tarfile.open(shared / "golden" / "episodes.tar.gz") as t:
        t.extractall(tmp_path, filter="data")
    subjects = {p.name for p in tmp_path.glob("root/t*/*")}
    for gold in tmp_path.glob("*/**/*listfile.csv"):
        want, (head, *lines) = (
            gold.read_text().splitlines(),
            (exported / gold.relative_to(tmp_path)).read_text().splitlines(),
        )
        assert head == want[0] and Counter(x for x in lines if x.split("_")[0] in subjects) == Counter(want[1:]), (
            gold.relative_to(tmp_path)
        )
    for gold in [*tmp_path.glob("root/*/*/*_timeseries.csv"), *tmp_path.glob("root/*/*/stays.csv")]:
        assert (exported / gold.relative_to(tmp_path)).read_bytes() == gold.read_bytes(), gold.relative_to(tmp_path)
    for gold in tmp_path.glob("root/*/*/episode?.csv"):
        a, b = pd.read_csv(exported / gold.relative_to(tmp_path)).iloc[:, :8], pd.read_csv(gold).iloc[:, :8]
        pd.testing.assert_frame_equal(a, b, check_exact=False, rtol=1e-14, check_dtype=False)


def test_what_the_demo_holds_is_counted_again(demo):
    "The examples of the cleaning rules: numbers of an item and unit by their middle one, words each; at least 11 rows of at least 3 patients."
    items = mimic3.item_map(("fio2_set", "capillary_refill")).set_index("itemid")
    found = {}

    def read(name):
        return pd.read_csv(
            demo / f"{name}.csv.gz",
            usecols=["SUBJECT_ID", "ITEMID", "VALUE", "VALUEUOM"],
            dtype=dict(VALUE=str, VALUEUOM=str),
            keep_default_na=False,
        )

    rows = pd.concat([read("CHARTEVENTS"), read("LABEVENTS")])
    rows = rows[rows["ITEMID"].isin(items.index) & (rows["VALUE"] != "")]
    rows["number"] = pd.to_numeric(rows["VALUE"], errors="coerce")
    rows["word"] = rows["VALUE"].where(rows["number"].isna(), "")
    for (item, unit, word), g in rows.groupby(["ITEMID", "VALUEUOM", "word"]):
        if len(g) < 11 or g["SUBJECT_ID"].nunique() < 3:
            continue
        middle = g.sort_values(["number", "VALUE"])["VALUE"].iloc[(len(g) - 1) // 2]
        found.setdefault(NAMES[items.loc[item, "channel"]], []).append(
            [item, items.loc[item, "label"], unit, word or middle, len(g)]
        )
    assert {c: sorted(v, key=lambda r: (-r[4], r[0], r[3])) for c, v in found.items()} == load_resource(
        "mimic3_demo_values.json"
    )["values"]


def test_the_way_back_gives_the_same_cohort(cohort, exported):
    back = mimic3_benchmarks.cohort(exported)
    assert back.fingerprint == cohort.fingerprint and back.events.equals(cohort.events)


def test_each_correction_says_what_it_touched(demo, cohort):
    mended = mimic3.cohort(demo, "all").meta
    touched = mended["corrected"]
    assert set(touched) == set(mimic3.CORRECTIONS) and touched["fluids"] == 171 + 2 + 186 + 2
    source = "".join(
        json.loads((Path(__file__).parents[1] / "nbs" / "sources" / "mimic3.ipynb").read_text())["cells"][-1]["source"]
    )  # its table of the demo
    typed = {name: int(n.replace(",", "")) for name, n in re.findall(r"^\| (\w+) \| ([\d,]+)", source, re.M)}
    assert (
        typed
        == touched
        == dict(
            fluids=361,
            fio2_set=871,
            fio2_fraction=1,
            capillary_refill=483,
            fahrenheit=0,
            charting_errors=43,
            ranges=704,
            numeric_maximum=60,
            gcs_spellings=4930,
            ages=9,
        )
    )
    assert (
        f"have {cohort.meta['counts_of_rows']['rows']:,} mapped rows, {mended['counts_of_rows']['rows']:,} with"
        in source
    )
    warm = mimic3.cohort(demo, ["ranges"])
    assert warm.events.loc[warm.events["channel"] == "Systolic blood pressure", "value"].between(20, 300).all()
    assert not cohort.events.loc[cohort.events["channel"] == "Systolic blood pressure", "value"].between(20, 300).all()


# ---- made by hand: forms of the tables ----


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return mimic3.toy_tables(tmp_path_factory.mktemp("toy"))


def rewrite(source, target, change, suffix=".csv"):
    "Copy the tables, each frame and name changed by `change`."
    target.mkdir(parents=True, exist_ok=True)
    for p in source.glob("*.csv"):
        name, d = change(p.stem, pd.read_csv(p, dtype=str, keep_default_na=False))
        d.to_csv(target / f"{name}{suffix}", index=False)
    return target


@pytest.mark.parametrize("form", ["gz", "lower", "columns", "crlf", "blank and quote in the path"])
def test_names_compression_and_order_of_columns_do_not_matter(toy, tmp_path, form):
    def flip(name, d):
        return (
            name.lower() if form == "lower" else name,
            d[d.columns[::-1]].rename(columns=str.lower if form == "lower" else str)
            if form in ("columns", "lower")
            else d,
        )

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
    assert made.stays.set_index("subject_id")["partition"].to_dict() == {
        2: "test",
        3: "train",
        6: "val",
        9: "test",
    } and made.meta["eligible_subjects"] == {"train and val": 2, "test": 2}
    back = mimic3_benchmarks.cohort(mimic3_export.export(toy, tmp_path / "out", partitions=given))
    assert back.fingerprint == made.fingerprint != mimic3.cohort(toy).fingerprint


def test_several_threads_or_little_memory_change_nothing(toy):
    assert mimic3.cohort(toy, threads=1, memory="100MB").fingerprint == mimic3.cohort(toy, threads=4).fingerprint


# ---- overlapping stays, against a few lines of pandas ----


def pooled(chart, stays):
    "What the benchmark does with the rows of one subject: pool by time, then cut out episodes; only heart rate and glucose."
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
    want = {}
    for subject, g in chart.groupby("subject"):
        want |= pooled(g, stays[stays["subject"] == subject])
    got = {s: [] for s in want}
    for e in made.events.itertuples():
        got[e.stay_id].append((e.hour, e.channel, e.value))
    assert {s: sorted(v) for s, v in got.items()} == {s: sorted(v) for s, v in want.items()}
    back = mimic3_benchmarks.cohort(mimic3_export.export(tmp_path / "raw", tmp_path / "export"))
    assert back.fingerprint == made.fingerprint


# ---- faults ----


def spoil(toy, folder, name, change):
    rewrite(toy, folder, lambda n, d: (n, d))
    p = folder / f"{name}.csv"
    text = change(p.read_text())
    p.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


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
        r'no stay is left after the step "one stay per admission" \(before it: 7\)',
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
    with pytest.raises(BadInput, match=message) as e:
        mimic3_export.export(
            folder, tmp_path / "out", scratch=tmp_path / "scratch"
        ) if fault != "no diagnosis" else mimic3.cohort(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw_gzip_tables", "scratch"] and not list(
        (tmp_path / "scratch").iterdir()
    )


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
    "Bytes that were changed on the way: unpacking fails, in the first block or later; or what it gives is no table, and gzip -t is named."
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
    import duckdb

    e = duckdb.IOException("IO Error: Failed to decode gzip stream: data error")
    with (
        pytest.raises(BadInput, match="^/a b/X.csv.gz: not a whole .gz file"),
        mimic3.one_line_duckdb_errors("/a b/X.csv.gz"),
    ):
        raise e
    for text in (
        'IO Error: Cannot open file "/my_gzip_tables/x.csv": Permission denied',
        "IO Error: No files found that match the pattern /my_gzip_tables/x.csv",
    ):
        assert mimic3.explain(duckdb.IOException(text)) == ""


def test_line_numbers_are_those_of_the_file(toy, tmp_path):
    "Also behind a blank line and a text of two lines, and in a .gz file."
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    p = folder / "ADMISSIONS.csv"
    p.write_text(
        p.read_text().replace("FEVER", '"FEVER,\nCOUGH"').replace("\n5,50", "\n\n5,50")
        + p.read_text().splitlines()[4]
        + "\n"
    )
    lines = [i + 1 for i, x in enumerate(p.read_text().split("\n")) if ",60," in x]
    assert len(lines) == 2 and mimic3.lines_with(p, "HADM_ID", 60) == lines
    (folder / "ADMISSIONS.csv.gz").write_bytes(gzip.compress(p.read_bytes()))
    assert mimic3.lines_with(folder / "ADMISSIONS.csv.gz", "HADM_ID", 60) == lines


def test_a_missing_folder_table_or_benchmark_file_is_named(toy, tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        mimic3.cohort(tmp_path / "none")
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "LABEVENTS.csv").unlink()
    with pytest.raises(BadInput, match="table LABEVENTS is missing"):
        mimic3.cohort(folder)
    with pytest.raises(BadInput, match="listfile.csv: no such file"):
        mimic3_benchmarks.cohort(folder)
    out = mimic3_export.export(toy, tmp_path / "benchmark")
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
SORT = "SELECT max(x) FROM (SELECT sum(a) OVER (ORDER BY b) AS x FROM (SELECT random() AS a, random() AS b FROM range(2_000_000)))"


def test_duckdb_out_of_disk_is_one_line(tmp_path):
    "Its real words, once for a limit on intermediate files and once for a disk of 8 MB, where the machine allows one."
    with pytest.raises(BadInput, match="^the disk is full"), mimic3.duckdb_session("40MB", 1, tmp_path) as con:
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
            with pytest.raises(BadInput, match="^the disk is full"), mimic3.duckdb_session("40MB", 1, disk) as con:
                con.execute(sql).fetchall()
            assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_duckdb_out_of_memory_names_memory(tmp_path):
    "Too little memory is not a full disk."
    with pytest.raises(BadInput, match="^memory: .*memory=2GB"), mimic3.duckdb_session("4MB", 1, tmp_path) as con:
        con.execute(SORT).fetchall()
    assert not list(tmp_path.iterdir())


def test_a_laboratory_table_of_other_stays_is_a_note(toy, tmp_path):
    folder = spoil(toy, tmp_path / "raw", "LABEVENTS", lambda t: t.splitlines()[0] + "\n")
    made = mimic3.cohort(folder, out=tmp_path / "out")
    assert (
        made.meta["counts_of_rows"]["rows_of_LABEVENTS"]
        == 0
        < made.meta["counts_of_rows"]["rows_of_CHARTEVENTS"]
        == made.meta["counts_of_rows"]["rows"]
    )
    assert (
        made.meta["note"].startswith("4 patients: ")
        and ". LABEVENTS has no event of the stays that were kept" in made.meta["note"]
    )
    assert (
        "LABEVENTS" not in mimic3.cohort(toy).meta["note"]
        and mimic3.cohort(toy).meta["counts_of_rows"]["rows_of_LABEVENTS"] == 4
    )
    assert "glucose" not in set(made.events["channel"].astype(str).str.lower())


def test_partitions_of_ones_own_for_simulated_tables(toy, tmp_path):
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "SYNTHETIC.txt").write_text("")
    for where, parts in (
        (folder / "partitions.csv", "train train test val"),
        (tmp_path / "mine.csv", "val test train train"),
    ):
        where.write_text("subject_id,partition\n" + "".join(f"{s},{p}\n" for s, p in zip((2, 3, 6, 9), parts.split())))
    for given, parts in (
        (None, "train train test val"),
        (tmp_path / "mine.csv", "val test train train"),
        (str(tmp_path / "mine.csv"), "val test train train"),
    ):
        made = mimic3.cohort(folder, out=tmp_path / f"out-{parts[:3]}-{type(given).__name__}", partitions=given)
        assert (
            list(made.stays["partition"]) == parts.split() and made.meta["synthetic"] and "partitions" not in made.meta
        )


def test_an_interrupt_leaves_nothing(demo, tmp_path):
    scratch, out, raw = tmp_path / "scratch", tmp_path / "out", tmp_path / "raw"
    scratch.mkdir()
    raw.mkdir()
    for p in demo.glob("*.csv.gz"):
        (raw / p.name).symlink_to(p)
    (raw / "CHARTEVENTS.csv.gz").unlink()
    text = gzip.decompress((demo / "CHARTEVENTS.csv.gz").read_bytes())
    (raw / "CHARTEVENTS.csv").write_bytes(text + text[text.index(b"\n") + 1 :] * 5)
    code = f"from rnn_transfer.sources import mimic3; mimic3.cohort({str(raw)!r}, out={str(out)!r}, scratch={str(scratch)!r}, threads=1)"
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
    assert (
        p.returncode != 0
        and "KeyboardInterrupt" in error
        and not out.exists()
        and not list(scratch.iterdir())
        and not [x for x in os.listdir(tmp_path) if x.startswith(".")]
    )


@pytest.mark.parametrize(
    "table, says",
    [
        ("subject_id\n2\n", "column partition is missing"),
        ("subject_id,partition\n2,dev\n3,train\n", "column partition: line 2: neither train"),
        ("subject_id,partition\n2,train\nx,val\n", "column subject_id: line 3: no whole number"),
        ("subject_id,partition\n2,train\n2,val\n", "column subject_id: line 3: a subject that already"),
        ("subject_id,partition\n2,train\n3,val\n", "column subject_id: 6 is missing, and 1 more"),
        ("", "empty file"),
        ("subject_id,partition\n2,train\n\n3\n", "line 4: 1 fields, expected 2"),
        ("subject_id,partition\n" + "2,dev\n" * 5, "lines 2, 3, 4 and 2 more: neither train"),
    ],
)
def test_a_wrong_list_of_partitions_is_named(toy, tmp_path, table, says):
    (tmp_path / "mine.csv").write_text(table)
    for make in (mimic3.cohort, mimic3_export.export):
        with pytest.raises(BadInput, match=f"mine.csv: .*{says}"):
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
    while not list((tmp_path / "tmp").glob("rnn_transfer-*")) and p.poll() is None:
        time.sleep(0.01)
    p.terminate()
    error = p.communicate(timeout=60)[1]
    assert p.returncode == 143 and error.splitlines()[-1].startswith("error: terminated") and "Traceback" not in error
    assert [x.name for x in tmp_path.iterdir()] == ["tmp"] and not list((tmp_path / "tmp").iterdir())


# ---- hashes ----

HASH = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(scope="module")
def benchmark(toy, tmp_path_factory):
    return mimic3_export.export(toy, tmp_path_factory.mktemp("benchmark") / "data")


@pytest.mark.parametrize(
    "name, task",
    [
        ("ihm.csv", "in-hospital-mortality"),
        ("pheno.csv", "phenotyping"),
        ("los.csv", "length-of-stay"),
        ("length-of-stay-final.csv", "length-of-stay"),
        ("length_of_stay.csv", "length-of-stay"),
        ("decomp.csv", "decompensation"),
        ("multitask.csv", "multitask"),
        ("multitasking.csv", "multitask"),
        ("root-final.csv", ""),
        ("closed.csv", ""),
    ],
)
def test_a_list_is_named_after_its_task(name, task):
    assert mimic3_export.task_of(name) == task


def test_what_differs_or_is_missing_is_named(benchmark, tmp_path):
    real = benchmark / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    right = mimic3_export.digest(real)
    (tmp_path / "pheno.csv").write_text(
        f"./train/3_episode1_timeseries.csv,{right}\n./train/9_episode1_timeseries.csv,{HASH}\n./train/listfile.csv,{HASH}\n./test/gone_listfile.csv,{HASH}\n"
        + "".join(f"./test/{i}_episode1_timeseries.csv,{HASH}\n" for i in range(100, 105))
    )
    (tmp_path / "both.csv").write_text(
        f"md5,task,file\n{HASH},ihm,train/9_episode1_timeseries.csv\n{right},length-of-stay,train/3_episode1_timeseries.csv\n"
    )
    d = mimic3_export.verify_export(benchmark, tmp_path / "pheno.csv")
    assert d.loc["phenotyping"].to_dict() == {
        "same": 1,
        "differ": 1,
        "missing": 6,
        "not comparable": 1,
        "which differ": "train/9_episode1_timeseries.csv",
        "which are missing": "test/gone_listfile.csv, test/100_episode1_timeseries.csv, test/101_episode1_timeseries.csv and 3 more",
    }
    d = mimic3_export.verify_export(benchmark, [tmp_path / "pheno.csv", str(tmp_path / "both.csv")])
    assert (
        d["same"].to_dict() == {"in-hospital-mortality": 0, "length-of-stay": 1, "phenotyping": 1}
        and d["differ"].sum() == 2
    )
    real = tmp_path / "data" / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"")
    assert mimic3_export.verify_export(tmp_path / "data", tmp_path / "pheno.csv")["differ"].tolist() == [1]


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("ihm.csv", "", "ihm.csv: no hash in it"),
        ("all.csv", "task,file,md5\n", "all.csv: no hash in it"),
        ("ihm.csv", f"./test/a.csv,{HASH}\n./test/b.csv,12\n", "line 2: expected a file and its md5"),
        ("mine.csv", f"./test/a.csv,{HASH}\n", "name of a list tells its task; call it ihm.csv"),
        ("all.csv", "file,md5\nx,y\n", "line 1: expected"),
        ("all.csv", f"task,file,md5\nihm,a.csv,{HASH}\nfoo,a.csv,{HASH}\n", "line 3: expected"),
        ("all.csv", f"task,file,md5\nihm,{HASH}\n", "line 2: expected"),
        ("ihm.csv", b"\x80\x03}q\x00", "no text in UTF-8"),
        ("ihm.pkl", b"\x80\x03}q\x00", "a .pkl is not read"),
    ],
)
def test_a_wrong_list_of_hashes_is_named(benchmark, tmp_path, name, text, says):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=says):
        mimic3_export.verify_export(benchmark, tmp_path / name)


def test_a_folder_without_lists_or_export_is_named(benchmark, tmp_path):
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(BadInput, match="no list of hashes in this folder"):
        mimic3_export.verify_export(benchmark, tmp_path)
    with pytest.raises(BadInput, match="none.csv: no such file"):
        mimic3_export.verify_export(benchmark, tmp_path / "none.csv")
    with pytest.raises(BadInput, match="nowhere: no such folder"):
        mimic3_export.verify_export(tmp_path / "nowhere", tmp_path)


# ---- what an export says of itself ----


def test_a_corrected_or_simulated_export_stays_one(toy, tmp_path):
    folder = rewrite(toy, tmp_path / "raw", lambda n, d: (n, d))
    (folder / "SYNTHETIC.txt").write_text("")
    (folder / "partitions.csv").write_text("subject_id,partition\n2,train\n3,train\n6,test\n9,test\n")
    out = mimic3_export.export(folder, tmp_path / "simulated", "all")
    made, back = mimic3.cohort(folder, "all"), mimic3_benchmarks.cohort(out, out=tmp_path / "cohort")
    for key in ("synthetic", "version", "licence", "corrected", "note", "eligible_subjects"):
        assert back.meta[key] == made.meta[key], key
    assert (
        back.meta["synthetic"] is True
        and "simulated" in back.meta["version"]
        and set(back.meta["corrected"]) == set(mimic3.CORRECTIONS)
        and back.fingerprint == made.fingerprint
    )
    assert Cohort.load(tmp_path / "cohort").meta["synthetic"] is True
    assert not [
        p for p in out.rglob("about.json") if p.parent != out
    ]  # outside the task folders and root, where the reference hashes
    plain = mimic3_benchmarks.cohort(mimic3_export.export(toy, tmp_path / "plain"))
    assert (
        plain.meta["synthetic"] is False and plain.meta["version"] == "MIMIC-III v1.4" and plain.meta["corrected"] == {}
    )


def test_a_note_about_the_tables_goes_along(toy, tmp_path):
    folder = spoil(toy, tmp_path / "raw", "LABEVENTS", lambda t: t.splitlines()[0] + "\n")
    assert (
        mimic3_benchmarks.cohort(mimic3_export.export(folder, tmp_path / "out")).meta["note"]
        == mimic3.cohort(folder).meta["note"]
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"synthetic": "no", "version": "", "licence": "", "corrected": {}}',
        '{"synthetic": true, "version": "", "licence": ""}',
    ],
)
def test_a_broken_about_is_no_plain_export(benchmark, tmp_path, text):
    shutil.copytree(benchmark, tmp_path / "data")
    (tmp_path / "data" / "about.json").write_text(text)
    with pytest.raises(BadInput, match="about.json: cannot be read"):
        mimic3_benchmarks.cohort(tmp_path / "data")


# ---- faults of a benchmark folder ----

LISTS = {
    "empty list": ("phenotyping/train/listfile.csv", lambda t: "", "phenotyping/train/listfile.csv: empty file"),
    "label that is no number": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace(",0,", ",no,", 1),
        r"phenotyping/train/listfile.csv: column .*: line 2: 'no' is no number",
    ),
    "label of 2": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t.replace(",0\n", ",2\n", 1),
        r"in-hospital-mortality/train/listfile.csv: column y_true: line \d: neither 0 nor 1",
    ),
    "no label": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t.replace(",0\n", ",\n", 1),
        r"column y_true: line \d: '' is no number",
    ),
    "length that is no number": (
        "phenotyping/test/listfile.csv",
        lambda t: t.replace("30.000000", "30 h"),
        r"phenotyping/test/listfile.csv: column period_length: line 2: '30 h' is no number",
    ),
    "short line": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace(",0\n", "\n", 1),
        r"phenotyping/train/listfile.csv: line 2: 26 fields, expected 27",
    ),
    "stay twice": (
        "in-hospital-mortality/train/listfile.csv",
        lambda t: t + t.splitlines()[1] + "\n",
        r"column stay: line 4: a stay that already stands above",
    ),
    "no name of a file": (
        "phenotyping/train/listfile.csv",
        lambda t: t.replace("3_episode1_timeseries.csv", "stay3"),
        r"column stay: line 3: no name such as",
    ),
    "no stay": ("phenotyping/*/listfile.csv", lambda t: t.splitlines()[0] + "\n", "the list files name no stay"),
    "latin-1 in a list": (
        "phenotyping/val_listfile.csv",
        lambda t: (t + "\xe9").encode("latin-1"),
        "val_listfile.csv: no text in UTF-8",
    ),
    "length of stay": (
        "root/all_stays.csv",
        lambda t: t.replace(",2.5,", ",long,", 1),
        r"all_stays.csv: column LOS: line 2: 'long' is no number",
    ),
    "empty stays": ("root/all_stays.csv", lambda t: "", "all_stays.csv: empty file"),
    "no column": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: t.replace("Glucose", "Sugar"),
        "9_episode1_timeseries.csv: column Glucose is missing",
    ),
    "empty episode": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: "",
        "9_episode1_timeseries.csv: empty file",
    ),
    "hour": (
        "phenotyping/train/9_episode1_timeseries.csv",
        lambda t: t.replace("\n0.0,", "\nnoon,", 1),
        r"9_episode1_timeseries.csv: line 2: column Hours: 'noon' is no number",
    ),
}


@pytest.mark.parametrize("fault", LISTS)
def test_a_wrong_benchmark_folder_is_one_line(benchmark, tmp_path, fault):
    where, change, says = LISTS[fault]
    shutil.copytree(benchmark, tmp_path / "data")
    for p in (tmp_path / "data").glob(where):
        text = change(p.read_text())
        p.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=says) as e:
        mimic3_benchmarks.cohort(tmp_path / "data", out=tmp_path / "out")
    assert "\n" not in str(e.value) and not (tmp_path / "out").exists()


def test_order_of_columns_and_number_of_files_do_not_matter(benchmark, tmp_path, monkeypatch):
    shutil.copytree(benchmark, tmp_path / "data")
    p = tmp_path / "data" / "phenotyping" / "train" / "3_episode1_timeseries.csv"
    d = pd.read_csv(p, dtype=str, keep_default_na=False)
    d[d.columns[::-1]].to_csv(p, index=False)
    monkeypatch.setattr(mimic3_benchmarks, "AT_ONCE", 2)
    made = mimic3_benchmarks.cohort(tmp_path / "data")
    monkeypatch.undo()
    assert made.fingerprint == mimic3_benchmarks.cohort(benchmark).fingerprint and made.events.equals(
        mimic3_benchmarks.cohort(benchmark).events
    )


def test_progress_is_shown_only_when_asked_for(toy, benchmark, tmp_path, capfd):
    (tmp_path / "pheno.csv").write_text(f"./train/9_episode1_timeseries.csv,{HASH}\n")
    for on in (False, True):
        mimic3_export.export(toy, tmp_path / f"out-{on}", progress=on)
        exported = capfd.readouterr().err
        mimic3_benchmarks.cohort(benchmark, progress=on)
        read = capfd.readouterr().err
        mimic3_export.verify_export(benchmark, tmp_path / "pheno.csv", progress=on)
        held = capfd.readouterr().err
        assert [("4/4" in exported and "stay" in exported), ("4/4" in read and "file" in read), "1/1" in held] == [
            on
        ] * 3 and on == bool(exported + read + held)


# ---- small facts ----


def test_published_lists_have_their_published_sizes():
    assert len(mimic3.published_subjects("test")) == 5070 and len(mimic3.published_subjects("val")) == 5172
    assert (
        len(mimic3.item_map()) == 114
        and mimic3.item_map()["itemid"].is_unique
        and set(mimic3.item_map()["channel"]) == set(range(17))
    )
    assert [n for n, _ in mimic3_export.PUBLISHED][0] == "subjects with an eligible stay" and 28728 + 5070 == 33798


def test_facts_equal_the_shared_ones(shared):
    items = pd.read_csv(shared / "facts" / "itemids.csv")
    ours = mimic3.item_map().set_index("itemid")
    assert {i: NAMES[ours.loc[i, "channel"]] for i in items["itemid"]} == dict(zip(items["itemid"], items["variable"]))
    for part in ("test", "val"):
        assert [
            int(x) for x in (shared / "facts" / f"{part}_subjects.txt").read_text().split()
        ] == mimic3.published_subjects(part).tolist()


def test_verify_says_same_only_where_it_is_so(toy):
    v = mimic3_export.verify(mimic3.cohort(toy))
    assert not any(v["same"]) and list(v["here"][:3]) == [4, 3, 1] and v["same"].iloc[-1] is None


def test_an_export_is_verified_without_a_cohort(toy, tmp_path):
    out = mimic3_export.export(toy, tmp_path / "benchmark")
    file = "test/6_episode1_timeseries.csv"
    for md5, code in (mimic3_export.digest(out / "phenotyping" / file), 0), ("0" * 32, 1):
        (tmp_path / "hashes.csv").write_text(f"task,file,md5\npheno,{file},{md5}\n")
        command = [
            Path(sys.executable).parent / "rnn_transfer_verify",
            "--export",
            str(out),
            "--hashes",
            str(tmp_path / "hashes.csv"),
        ]
        r = subprocess.run(command, capture_output=True, text=True)
        assert r.returncode == code and "phenotyping" in r.stdout, r.stderr
