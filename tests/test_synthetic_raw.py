"The synthetic raw tables: shaped like MIMIC-III's, the same every time, and read back by mimic3 to what was simulated."

import functools
import gzip
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.data import Cohort
from rnn_transfer.sources import mimic3, synthetic, synthetic_raw
from rnn_transfer.sources.mimic3_rules import item_map
from rnn_transfer.sources.synthetic_patients import ORGANS
from rnn_transfer.sources.synthetic_raw import as_synthetic, cohort, compare_events, write_raw
from rnn_transfer.sources.synthetic_raw_chart import ITEM_ROW, urine_output
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.files import load_resource

N, SEED = 600, 3  # two blocks
TABLES = [
    "ADMISSIONS",
    "CHARTEVENTS",
    "DIAGNOSES_ICD",
    "D_ICD_DIAGNOSES",
    "D_ITEMS",
    "D_LABITEMS",
    "ICUSTAYS",
    "LABEVENTS",
    "OUTPUTEVENTS",
    "PATIENTS",
]
TIMES = dict(
    ICUSTAYS=["INTIME", "OUTTIME"],
    ADMISSIONS=["ADMITTIME", "DISCHTIME", "DEATHTIME"],
    PATIENTS=["DOB", "DOD"],
    CHARTEVENTS=["CHARTTIME"],
    LABEVENTS=["CHARTTIME"],
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    write_raw(folder, N, SEED)
    return folder


@pytest.fixture(scope="module")
def read(raw):
    return mimic3.cohort(raw)


@pytest.fixture(scope="module")
def simulated():
    return synthetic.cohort(N, SEED)


@functools.cache
def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(
        folder / f"{name}.csv",
        dtype=dict(ICD9_CODE=str, VALUE=str, VALUENUM=str),
        keep_default_na=False,
        na_values=[""],
        parse_dates=TIMES.get(name, []),
        low_memory=False,
    )


def digests(folder: Path) -> dict:
    "Of every file, unpacked."

    def text(p):
        return gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()

    return {p.name.removesuffix(".gz"): hashlib.sha256(text(p)).hexdigest() for p in sorted(folder.iterdir())}


def test_the_cohort_comes_back(read, simulated):
    names = ["stay_id", "subject_id", "los_hours", *(t.name for t in simulated.tasks)]
    pd.testing.assert_frame_equal(read.stays[names], simulated.stays[names])
    d = compare_events(read, simulated)["events"]
    assert d["unexplained"] == 0 and d["the same"] > 0.99 * len(simulated.events)
    assert (d.drop("unexplained") > 0).all()  # each rule has something to do


def test_other_seeds_come_back_too(tmp_path):
    write_raw(tmp_path / "raw", 300, 11, others=0)
    assert compare_events(mimic3.cohort(tmp_path / "raw"), synthetic.cohort(300, 11)).loc["unexplained", "events"] == 0


def test_compare_notices_what_no_rule_explains(read, simulated):
    e = read.events.copy()
    at = e.index[e["channel"] == "Oxygen saturation"][:5]
    e.loc[at, "value"] -= 3
    assert compare_events(Cohort(e, read.stays, read.channels, read.tasks), simulated).loc["unexplained", "events"] == 5
    gone = Cohort(read.events.drop(at), read.stays, read.channels, read.tasks)
    assert compare_events(gone, simulated).loc["unexplained", "events"] == 5


def test_losses_and_additions_are_those_in_the_tables(raw, read, simulated):
    "Counted from the CSV files without mimic3."
    lab, stays = table(raw, "LABEVENTS"), table(raw, "ICUSTAYS")
    stays = stays[stays["ICUSTAY_ID"].isin(simulated.stays["stay_id"])]

    def early(d):
        return d[
            (d["CHARTTIME"] >= d["INTIME"])
            & (d["CHARTTIME"] - d["INTIME"] <= np.minimum(d["OUTTIME"] - d["INTIME"], pd.Timedelta(hours=48)))
        ]

    blood = early(
        lab[lab["ITEMID"].isin([50931, 50820]) & pd.to_numeric(lab["VALUE"], "coerce").notna()].merge(
            stays, on="SUBJECT_ID"
        )
    )
    key = ["SUBJECT_ID", "CHARTTIME", "ITEMID"]
    kept = blood[blood["HADM_ID_x"].notna()][key].drop_duplicates()
    lost = blood[blood["HADM_ID_x"].isna()][key].drop_duplicates().merge(kept, "left", on=key, indicator=True)
    missing = compare_events(read, simulated)["events"]["no admission"]
    assert missing <= (lost["_merge"] == "left_only").sum() <= missing + 3  # a urinalysis at that time may stand in
    m = read.events.merge(simulated.events, "left", on=["stay_id", "hour", "channel"])
    added = m[m["value_y"].isna()]
    assert set(added["channel"]) == {"Glucose", "pH"} and np.allclose(added["hour"], 0.75)  # the minute of urinalyses


def test_corrections_remove_the_quirks(raw, simulated):
    d = compare_events(mimic3.cohort(raw, corrected="fluids, numeric_maximum"), simulated)["events"]
    assert d["urine"] == d["order of texts"] == d["unexplained"] == 0
    touched = mimic3.cohort(raw, corrected="all").meta["corrected"]
    assert all(
        touched[k] > 0
        for k in ("fluids", "fio2_fraction", "charting_errors", "ranges", "numeric_maximum", "gcs_spellings", "ages")
    )


def test_official_columns_and_quotes(raw, shared):
    for name in TABLES:
        with gzip.open(shared / "data" / "mimic3-demo" / f"{name}.csv.gz", "rt") as f:
            official = f.readline()
        with open(raw / f"{name}.csv") as f:
            assert f.readline() == official, name
    with open(raw / "ICUSTAYS.csv") as f:
        line = f.readlines()[1].strip().split(",")
    assert [x.startswith('"') for x in line] == [False] * 4 + [True] * 3 + [False] * 5
    assert sorted(p.name for p in raw.iterdir()) == sorted(
        [f"{n}.csv" for n in TABLES] + ["partitions.csv", "SYNTHETIC.txt"]
    )


def test_counts_are_those_of_the_files(tmp_path):
    rows = write_raw(tmp_path / "raw", 300, 0, others=2)
    for name in TABLES:
        assert rows[name] == len(table(tmp_path / "raw", name)), name


def test_same_bytes_whatever_the_threads_and_the_packing(tmp_path):
    for name, kwargs in dict(a=dict(threads=1), b=dict(threads=2), c=dict(compression="gzip")).items():
        write_raw(tmp_path / name, 300, 1, **kwargs)
    a = digests(tmp_path / "a")
    assert a == digests(tmp_path / "b") == digests(tmp_path / "c")
    assert mimic3.cohort(tmp_path / "a").fingerprint == mimic3.cohort(tmp_path / "c").fingerprint
    write_raw(tmp_path / "d", 300, 2)
    assert a["ICUSTAYS.csv"] != digests(tmp_path / "d")["ICUSTAYS.csv"]


def test_few_stays_are_a_part_of_many(raw, tmp_path):
    write_raw(tmp_path / "few", 400, SEED)
    for name in ("ICUSTAYS", "ADMISSIONS", "DIAGNOSES_ICD"):
        few, many = (table(d, name).drop(columns="ROW_ID") for d in (tmp_path / "few", raw))
        pd.testing.assert_frame_equal(
            few, many.merge(few[["HADM_ID"]].drop_duplicates()).loc[:, list(few)], check_dtype=False
        )


def test_ids_are_unique_and_fit(raw):
    for name, column in ("ICUSTAYS", "ICUSTAY_ID"), ("ADMISSIONS", "HADM_ID"), ("PATIENTS", "SUBJECT_ID"):
        ids = table(raw, name)[column]
        assert ids.is_unique and ids.min() > 0 and ids.max() < 2**31, name
    s, a, p = table(raw, "ICUSTAYS"), table(raw, "ADMISSIONS"), table(raw, "PATIENTS")
    assert set(s["HADM_ID"]) == set(a["HADM_ID"]) and set(s["SUBJECT_ID"]) == set(p["SUBJECT_ID"])
    for name in ("CHARTEVENTS", "OUTPUTEVENTS"):
        assert set(table(raw, name)["ICUSTAY_ID"].dropna()) <= set(s["ICUSTAY_ID"])
    assert set(table(raw, "CHARTEVENTS")["ITEMID"]) <= set(table(raw, "D_ITEMS")["ITEMID"]) and set(
        table(raw, "LABEVENTS")["ITEMID"]
    ) <= set(table(raw, "D_LABITEMS")["ITEMID"])


def test_inclusion_has_something_to_remove(raw, read):
    flow = [f["stays"] for f in read.meta["flow"]]
    assert all(a > b for a, b in itertools.pairwise(flow)) and flow[-2] == N
    s = table(raw, "ICUSTAYS")
    of = s["HADM_ID"].value_counts()
    kept = s[s["ICUSTAY_ID"].isin(read.stays["stay_id"])]
    assert (of[kept["HADM_ID"]] == 2).any()  # a kept stay whose admission had a second one, with a transfer
    p, a = table(raw, "PATIENTS"), table(raw, "ADMISSIONS")
    age = (
        s.groupby("SUBJECT_ID")["INTIME"].min() - p.set_index("SUBJECT_ID")["DOB"].astype("datetime64[s]")
    ).dt.days / 365
    assert (age < 18).mean() > 0.1 and (age > 200).any() and age.max() < 310
    late = p.merge(a.groupby("SUBJECT_ID")["DISCHTIME"].max().reset_index())
    late = late[late["DOD"].notna() & late["DOD_HOSP"].isna()]
    assert len(late) and (late["DOD"] > late["DISCHTIME"]).all()


def test_stays_follow_each_other_within_their_admissions(raw):
    s = (
        table(raw, "ICUSTAYS")
        .merge(table(raw, "ADMISSIONS"), on=["SUBJECT_ID", "HADM_ID"])
        .sort_values(["SUBJECT_ID", "INTIME"])
    )
    before = s.groupby("SUBJECT_ID")["OUTTIME"].shift()
    assert ((s["INTIME"] > before) | before.isna()).all()
    assert ((s["ADMITTIME"] <= s["INTIME"]) & (s["OUTTIME"] <= s["DISCHTIME"])).all()
    assert np.allclose((s["OUTTIME"] - s["INTIME"]).dt.total_seconds() / 86400, s["LOS"], atol=1e-4)


def test_the_chart_is_as_untidy_as_the_real_one(raw):
    c, lab = table(raw, "CHARTEVENTS"), table(raw, "LABEVENTS")
    mapped = c[c["ITEMID"].isin(item_map()["itemid"])]
    assert 0.3 < len(mapped) / len(c) < 0.6 and c["VALUE"].isna().any() and c["HADM_ID"].notna().all()
    assert 0 < c["ICUSTAY_ID"].isna().mean() < 0.01 and 0.05 < lab["HADM_ID"].isna().mean() < 0.3
    same = mapped.groupby(["ICUSTAY_ID", "ITEMID", "CHARTTIME"])["VALUE"].agg(["size", "nunique"])
    assert (same["size"] > same["nunique"]).any() and (
        same["nunique"] > 1
    ).any()  # copies, and different values at one time
    assert {"Deg. F", "Deg. C", "?F", "?C", "torr", "kg", "cm", "Inch"} <= set(c["VALUEUOM"].dropna())
    assert {
        "None",
        "1 No Response",
        "1.0 ET/Trach",
        "No Response-ETT",
        "Brisk",
        "Normal <3 secs",
        'Quiet, calm space',
        'Family says "later"',
    } - set(c["VALUE"].dropna()) <= {"Brisk"}
    assert (
        c["ERROR"].isin([0, 1]).any() and set(c["STOPPED"].dropna()) == {"NotStopd"} and (lab["VALUE"] == "NEG").any()
    )
    floats = c.loc[c["ITEMID"] == 677, "VALUE"].dropna()
    assert (
        floats.str.len().max() > 12 and (np.float32(floats.astype(float)).astype(float) == floats.astype(float)).all()
    )


def test_conversions_agree(raw):
    c = table(raw, "CHARTEVENTS").dropna(subset="VALUE")
    key = ["HADM_ID", "CHARTTIME"]

    def at(item):
        return (
            c[c["ITEMID"] == item].assign(x=lambda d: d["VALUE"].astype(float)).drop_duplicates(key).set_index(key)["x"]
        )

    for a, b, how in (
        (678, 677, lambda v: (v - 32) / 1.8),
        (3581, 3582, lambda v: 16 * v),
        (226707, 226730, lambda v: np.round(2.54 * v)),
    ):
        both = pd.concat([at(a), at(b)], axis=1, keys=list("ab")).dropna()
        assert len(both) > 5 and np.allclose(how(both["a"]), both["b"], atol=1e-3), a


def test_codes_give_back_phenotypes_and_no_more(raw, simulated):
    d = table(raw, "DIAGNOSES_ICD")
    known = set(table(raw, "D_ICD_DIAGNOSES")["ICD9_CODE"])
    d = d.merge(table(raw, "ICUSTAYS")[["HADM_ID", "ICUSTAY_ID"]], on="HADM_ID")
    by = d.groupby("ICUSTAY_ID")["ICD9_CODE"].agg(set)[simulated.stays["stay_id"]]
    for p in load_resource("phenotypes.json")["phenotypes"]:
        assert [bool(codes & set(p["icd9"].split())) for codes in by] == (simulated.stays[p["name"]] == 1).tolist(), p[
            "name"
        ]
    assert not set(d["ICD9_CODE"]) <= known and (d.groupby(["HADM_ID", "ICUSTAY_ID"])["SEQ_NUM"].min() == 1).all()
    assert d["ICD9_CODE"].str.startswith("0").any()


def test_urine_falls_with_the_kidneys():
    b = synthetic.simulate_block(0, SEED)
    u = urine_output(b, np.zeros(len(b.stays), int), np.random.default_rng(0))
    u = u[u["item"] == ITEM_ROW[40055]]
    kidneys = b.states[:, :, ORGANS.index("kidneys")]
    assert np.corrcoef(np.log1p(u["value"]), kidneys[u["stay"], u["minute"] // 60])[0, 1] < -0.5
    assert (u["minute"] < 60 * b.stays["los_hours"].to_numpy()[u["stay"]]).all()


def test_the_default_cohort(raw, read, simulated):
    c = as_synthetic(read, SEED).validate()
    assert c.stays["partition"].tolist() == simulated.stays["partition"].tolist() == read.stays["partition"].tolist()
    assert read.meta["synthetic"] is True and read.meta["source"] == "mimic3" and "simulated" in read.meta["version"]
    assert (
        c.meta["source"] == "synthetic"
        and c.meta["synthetic"] is True
        and c.meta["held_out_prevalence"] == [0.05, 0.30]
        and c.meta["licence"] == "Apache-2.0"
    )
    assert (
        all(t.definition.startswith("Synthetic") for t in c.tasks)
        and len(c.tasks) == 26
        and "eligible_subjects" not in c.meta
    )
    assert c.meta["flow"][0]["step"] == "ICU stays" and c.meta["flow"][-2]["stays"] == N


def test_cohort_leaves_nothing_behind(tmp_path):
    c = cohort(300, 5, others=0, scratch=tmp_path)
    assert (
        list(tmp_path.iterdir()) == []
        and len(c.stays) == 300
        and c.fingerprint == cohort(300, 5, others=3, scratch=tmp_path).fingerprint
    )


@pytest.mark.parametrize(
    "kwargs, says",
    [
        (dict(n=299), "n=299"),
        (dict(n=1e3), "n=1000.0"),
        (dict(seed=-1), "seed=-1"),
        (dict(others=0.5), "others=0.5"),
        (dict(compression="zip"), "compression='zip'"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, kwargs, says):
    with pytest.raises(BadInput, match="expected") as e:
        write_raw(tmp_path / "raw", **kwargs)
    assert str(e.value).startswith(says) and not list(tmp_path.iterdir())


def test_nothing_is_written_over_or_left_half_written(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "keep").write_text("x")
    with pytest.raises(BadInput, match="not empty"):
        write_raw(tmp_path / "mine")

    def stopped(number, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_raw, "simulate_raw_block", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_raw(tmp_path / "raw")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
