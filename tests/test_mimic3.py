"MIMIC-III: the open demo against the reference, and facts against the published ones."

import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.sources import mimic3, mimic3_benchmarks
from rnn_transfer.sources.mimic3_corrections import CORRECTIONS
from rnn_transfer.sources.mimic3_export import export
from rnn_transfer.sources.mimic3_rules import item_map
from rnn_transfer.sources.mimic3_stays import published_subjects
from rnn_transfer.sources.mimic3_verify import PUBLISHED_COUNTS, read_hashes, verify_export
from rnn_transfer.utilities.files import load_resource

NAMES = [c.name for c in BENCHMARK_CHANNELS]


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic3-demo"


@pytest.fixture(scope="module")
def cohort(demo):
    return mimic3.cohort(demo)


@pytest.fixture(scope="module")
def exported(demo, tmp_path_factory):
    return export(demo, tmp_path_factory.mktemp("mimic3") / "benchmark")


@pytest.mark.parametrize("task", ["phenotyping", "in-hospital-mortality"])
def test_the_cohort_has_the_golden_grids_statistics_and_labels(shared, cohort, task):
    golden = np.load(shared / "golden" / f"{task}_disc.npz")
    golden_statistics = np.load(shared / "golden" / f"{task}_lr.npz")
    grid = cohort.grid()
    rows = pd.Index(grid.stay_ids).get_indexer(golden["icustay_id"])
    assert (rows >= 0).all()
    assert list(grid.columns)[:59] == list(golden["header"])[:59]
    assert np.array_equal(grid.X[rows], golden["X"].astype(np.float32))
    statistics = cohort.statistics().loc[golden_statistics["icustay_id"]]
    assert list(statistics.columns) == list(golden_statistics["feature_names"])
    assert np.array_equal(statistics.to_numpy(), golden_statistics["X"], equal_nan=True)
    stays = cohort.stays.set_index("stay_id").loc[golden["icustay_id"]]
    names = list(golden["label_names"]) if task == "phenotyping" else ["In-hospital mortality"]
    assert np.array_equal(stays[names].to_numpy().reshape(golden["y"].shape), golden["y"])
    assert list(stays["partition"]) == list(golden["split"])
    assert np.array_equal(stays["los_hours"], golden["los_hours"])


def test_the_flow_is_that_of_the_reference(cohort):
    stays = {step["step"]: step["stays"] for step in cohort.meta["flow"]}
    subjects = {step["step"]: step["subjects"] for step in cohort.meta["flow"]}
    assert stays["ICU stays"] == 136
    assert stays["without transfers"] == 126
    assert stays["one stay per admission"] == 115
    assert (stays["age 18 or more"], subjects["age 18 or more"]) == (114, 89)
    assert stays["with an event in the ICU: phenotyping"] == 113
    assert cohort.meta["flow"][-1]["stays"] == 57
    assert cohort.meta["held_out_prevalence"] == [0, 1]
    assert not cohort.meta["synthetic"]
    assert cohort.meta["source"] == "mimic3"


def test_every_file_has_the_official_hash(shared, exported):
    outcome = verify_export(exported, shared / "golden" / "official_hashes.csv")
    assert outcome["same"].sum() == 297
    assert not outcome[["differ", "missing"]].to_numpy().any()


def test_the_lists_of_the_authors_are_read_as_they_are(shared, exported, tmp_path):
    "One file per task without names of columns, as in mimic3benchmark/tests/resources; list files are not compared."
    golden = pd.read_csv(shared / "golden" / "official_hashes.csv")
    for task, d in golden.groupby("task"):
        lines = [f"./{file},{md5}" for file, md5 in zip(d["file"], d["md5"])]
        lines += [f"./{side}/listfile.csv,{'0' * 32}" for side in ("test", "train")]
        (tmp_path / f"{task}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{task}.pkl").write_bytes(b"x")
    read = {row for row in read_hashes(tmp_path) if "listfile" not in row.file}
    assert len(read) == 297
    assert read == set(read_hashes(shared / "golden" / "official_hashes.csv"))
    outcome = verify_export(exported, [tmp_path / "ihm.csv"]).loc["in-hospital-mortality"]
    assert (outcome["same"], outcome["differ"], outcome["missing"], outcome["not comparable"]) == (33, 0, 0, 2)


def test_lists_and_episodes_are_the_golden_ones(shared, exported, tmp_path):
    with tarfile.open(shared / "golden" / "episodes.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")

    def counterpart(golden):
        return exported / golden.relative_to(tmp_path)

    subjects = {p.name for p in tmp_path.glob("root/t*/*")}
    for golden in tmp_path.glob("*/**/*listfile.csv"):
        golden_header, *golden_lines = golden.read_text().splitlines()
        header, *lines = counterpart(golden).read_text().splitlines()
        assert header == golden_header, golden
        assert Counter(x for x in lines if x.split("_")[0] in subjects) == Counter(golden_lines), golden
    for golden in [*tmp_path.glob("root/*/*/*_timeseries.csv"), *tmp_path.glob("root/*/*/stays.csv")]:
        assert counterpart(golden).read_bytes() == golden.read_bytes(), golden
    for golden in tmp_path.glob("root/*/*/episode?.csv"):
        ours, theirs = (pd.read_csv(p).iloc[:, :8] for p in (counterpart(golden), golden))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=False, rtol=1e-14, check_dtype=False)


def test_what_the_demo_holds_is_counted_again(demo):
    "The examples of the cleaning rules: numbers by their median, words each; at least 11 rows of at least 3 patients."
    items = item_map(("fio2_set", "capillary_refill")).set_index("itemid")
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
    assert back.fingerprint == cohort.fingerprint
    assert back.events.equals(cohort.events)


def test_each_correction_says_what_it_touched(demo, cohort):
    corrected = mimic3.cohort(demo, "all").meta
    touched = corrected["corrected"]
    assert set(touched) == set(CORRECTIONS)
    assert touched["fluids"] == 171 + 2 + 186 + 2
    assert touched == dict(
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
    notebook = json.loads((Path(__file__).parents[1] / "nbs" / "sources" / "mimic3.ipynb").read_text())
    prose = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    in_prose = {name: int(n.replace(",", "")) for name, n in re.findall(r"^\| (\w+) \| ([\d,]+)", prose, re.M)}
    assert in_prose == touched, "the table of the notebook"
    rows, corrected_rows = cohort.meta["counts_of_rows"]["rows"], corrected["counts_of_rows"]["rows"]
    assert f"have {rows:,} mapped rows, {corrected_rows:,} with" in prose


def test_the_correction_of_ranges_removes_impossible_values(demo, cohort):
    def systolic(c):
        return c.events.loc[c.events["channel"] == "Systolic blood pressure", "value"]

    assert systolic(mimic3.cohort(demo, ["ranges"])).between(20, 300).all()
    assert not systolic(cohort).between(20, 300).all()


def test_published_lists_have_their_published_sizes():
    assert len(published_subjects("test")) == 5070
    assert len(published_subjects("val")) == 5172
    assert len(item_map()) == 114
    assert item_map()["itemid"].is_unique
    assert set(item_map()["channel"]) == set(range(17))
    assert next(iter(PUBLISHED_COUNTS)) == "subjects with an eligible stay"
    assert list(PUBLISHED_COUNTS.values())[:3] == [33798, 28728, 5070]


def test_facts_equal_the_shared_ones(shared):
    items = pd.read_csv(shared / "facts" / "itemids.csv")
    ours = item_map().set_index("itemid")
    assert {i: NAMES[ours.loc[i, "channel"]] for i in items["itemid"]} == dict(zip(items["itemid"], items["variable"]))
    for partition in ("test", "val"):
        listed = (shared / "facts" / f"{partition}_subjects.txt").read_text().split()
        assert [int(x) for x in listed] == published_subjects(partition).tolist()
