"The source physionet2012 against few-line computations of its own, and against every fault we could think of."

import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.cohorts.label_facts import compare_conventions
from rnn_transfer.data import Cohort
from rnn_transfer.sources import physionet2012 as p12
from rnn_transfer.sources.physionet2012_rows import PARAMETERS, parse_minutes, parse_numbers, read_readings
from rnn_transfer.sources.physionet2012_sets import clean_rows
from rnn_transfer.sources.threshold_tasks import define_task, label_stays, stay_statistic
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.files import load_resource

HEAD = "Time,Parameter,Value\n"
OUT = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def record(i, *rows, height=-1, unit=3, weight=-1):
    "The text of a record: the six descriptors, then the rows."
    first = [
        f"00:00,RecordID,{i}",
        "00:00,Age,60",
        "00:00,Gender,0",
        f"00:00,Height,{height}",
        f"00:00,ICUType,{unit}",
        f"00:00,Weight,{weight}",
    ]
    return HEAD + "".join(r + "\n" for r in [*first, *rows])


def put(folder, s, records, outcomes=None):
    "Write one set with its outcomes: every second patient died."
    (folder / f"set-{s}").mkdir(parents=True, exist_ok=True)
    for i, text in records.items():
        (folder / f"set-{s}" / f"{i}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    lines = [f"{i},6,1,{5 + 20 * (i % 2)},-1,{i % 2}" for i in records] if outcomes is None else outcomes
    (folder / f"Outcomes-{s}.txt").write_text(OUT + "".join(line + "\n" for line in lines))
    return folder


def some(first, n=6):
    return {i: record(i, "00:07,HR,73", f"01:00,K,{3 + i % 3}") for i in range(first, first + n)}


@pytest.fixture
def two(tmp_path):
    return put(put(tmp_path / "data", "a", some(100)), "b", some(200))


@pytest.fixture(scope="session")
def real(shared):
    return p12.cohort(shared / "data" / "physionet2012")


@pytest.fixture(scope="session")
def real_all(shared):
    "The convention of the first long run: not measured is 0."
    return p12.cohort(shared / "data" / "physionet2012", labels="all")


@pytest.fixture(scope="session")
def raw(shared):
    "Every 40th record of set a, read line by line with the standard library."
    rows = []
    with tarfile.open(shared / "data" / "physionet2012" / "set-a.tar.gz") as t:
        for m in sorted((m for m in t.getmembers() if m.isfile()), key=lambda m: m.name)[::40]:
            for line in t.extractfile(m).read().decode().splitlines()[1:]:
                time, parameter, value = line.split(",")
                h, m_ = time.split(":")
                rows.append((int(m.name.split("/")[-1][:-4]), int(h) + int(m_) / 60, parameter, float(value)))
    return pd.DataFrame(rows, columns=["stay", "hour", "parameter", "value"])


# ---------------------------------------------------------------- the real data


def test_real_cohort_is_what_it_should_be(real):
    real.validate()
    assert (
        len(real.channels) == 13
        and len(real.tasks) == 26
        and not real.meta["synthetic"]
        and real.meta["tasks_left_out"] == []
    )
    assert real.meta["flow"][0]["stays"] == 8000 and len(real.stays) == 7988
    part = real.stays["partition"].value_counts()
    assert part["val"] == round(0.2 * (part["train"] + part["val"])) and part["test"] == 3992
    assert real.events["hour"].between(0, 48).all() and (real.stays["los_hours"] == 48).all()


def test_committed_report_is_that_of_the_real_data(real):
    assert p12.counts_report(real) == load_resource("physionet2012_report.json")


def test_mortality_equals_the_outcomes_files(real, shared):
    d = pd.concat(pd.read_csv(shared / "data" / "physionet2012" / f"Outcomes-{s}.txt") for s in "ab").set_index(
        "RecordID"
    )
    made = real.stays.set_index("stay_id")
    assert (made["In-hospital mortality"] == d["In-hospital_death"].reindex(made.index)).all()
    days = d["Length_of_stay"].reindex(made.index)
    assert (made["Long hospital stay"][days >= 0] == (days[days >= 0] > 14)).all() and made["Long hospital stay"][
        days < 0
    ].isna().all()


SINGLE = [
    ("Heart Rate", ["HR"], 10, 300),
    ("Temperature", ["Temp"], 25, 45),
    ("Respiratory rate", ["RespRate"], 1, 100),
    ("Glucose", ["Glucose"], 10, 2000),
    ("Height", ["Height"], 100, 230),
    ("Weight", ["Weight"], 20, 300),
    ("Systolic blood pressure", ["SysABP", "NISysABP"], 20, 300),
    ("Mean blood pressure", ["MAP", "NIMAP"], 14, 300),
    ("Diastolic blood pressure", ["DiasABP", "NIDiasABP"], 10, 200),
]


@pytest.mark.parametrize("channel,parameters,low,high", SINGLE)
def test_events_of_a_channel_equal_a_pandas_computation(real, raw, channel, parameters, low, high):
    x = raw[raw["parameter"].isin(parameters) & raw["value"].between(low, high)].assign(
        cuff=lambda d: d["parameter"] != parameters[0]
    )
    x = x[x["cuff"] == x.groupby(["stay", "hour"])["cuff"].transform("min")].groupby(["stay", "hour"])["value"].mean()
    made = real.events[real.events["stay_id"].isin(raw["stay"]) & (real.events["channel"] == channel)].set_index(
        ["stay_id", "hour"]
    )["value"]
    x = x[x.index.get_level_values(0).isin(real.stays["stay_id"])]
    assert len(made) == len(x) > 0
    np.testing.assert_allclose(made.to_numpy(), x.to_numpy(), rtol=1e-12)


def test_coma_scores_are_indices_into_the_benchmarks_categories(real, raw):
    scale = next(c for c in real.channels if c.name == "Glascow coma scale total")
    made = real.events[real.events["stay_id"].isin(raw["stay"]) & (real.events["channel"] == scale.name)]
    expected = raw[(raw["parameter"] == "GCS") & raw["stay"].isin(real.stays["stay_id"])]["value"].astype(int).tolist()
    assert [int(scale.values[int(v)]) for v in made["value"]] == expected


def by_hand(g):
    "Labels of one stay, written out."

    def v(p, low=1e-09, high=np.inf):
        return g[(g["parameter"] == p) & g["value"].between(low, high)]["value"]

    top, least = (lambda p, *r: v(p, *r).max()), (lambda p, *r: v(p, *r).min())
    cr = v("Creatinine").tolist()
    urine = g[(g["parameter"] == "Urine") & (g["hour"] <= 24) & (g["value"] <= 5000)]["value"]
    return {
        "Renal dysfunction": top("Creatinine") >= 2,
        "Acute kidney injury": any(round(b - a, 6) >= 0.3 for i, a in enumerate(cr) for b in cr[i:]),
        "Oliguria": len(urine) > 0 and urine.sum() < 500,
        "Azotaemia": top("BUN") >= 28,
        "Hyperbilirubinaemia": top("Bilirubin") >= 2,
        "Raised transaminases": top("ALT") > 120 or top("AST") > 120,
        "Thrombocytopenia": least("Platelets") < 100,
        "Leucocytosis": top("WBC", 0.05, 600) >= 20,
        "Leucopenia": least("WBC", 0.05) < 4,
        "Severe anaemia": least("HCT") < 24,
        "Hyperlactataemia": top("Lactate") >= 4,
        "Low bicarbonate": least("HCO3") < 20,
        "Hypercapnia": top("PaCO2") >= 49,
        "Hypocapnia": least("PaCO2", 5) < 32,
        "Hypoxaemia": least("PaO2", 10) < 60,
        "Hyponatraemia": least("Na") < 135,
        "Hypernatraemia": top("Na") > 145,
        "Hypokalaemia": least("K", 1, 12) < 3.5,
        "Hyperkalaemia": top("K", 1, 12) > 5.5,
        "Hypomagnesaemia": least("Mg", 0.3, 15) < 1.6,
        "Severe hypoalbuminaemia": least("Albumin") < 2.5,
        "Marked myocardial injury": top("TroponinT") > 0.1 or top("TroponinI") > 3,
        "Mechanical ventilation": top("MechVent") >= 1,
        "Cardiac surgery recovery unit": top("ICUType") == 2,
    }


NEEDS = {  # by hand: parameters of which one is measured, with their ranges
    "Acute kidney injury": dict(Creatinine=(1e-9, np.inf)),
    "Azotaemia": dict(BUN=(1e-9, np.inf)),
    "Raised transaminases": dict(ALT=(1e-9, np.inf), AST=(1e-9, np.inf)),
    "Leucocytosis": dict(WBC=(0.05, 600)),
    "Hyperlactataemia": dict(Lactate=(1e-9, np.inf)),
    "Hypokalaemia": dict(K=(1, 12)),
    "Hypocapnia": dict(PaCO2=(5, np.inf)),
    "Marked myocardial injury": dict(TroponinT=(1e-9, np.inf), TroponinI=(1e-9, np.inf)),
    "Severe hypoalbuminaemia": dict(Albumin=(1e-9, np.inf)),
}


def n_samples(g, ranges):
    return sum(((g["parameter"] == p) & g["value"].between(*ranges[p])).sum() for p in ranges)


def test_a_label_is_null_exactly_where_nothing_was_measured(real, real_all, raw):
    made, every = real.stays.set_index("stay_id"), real_all.stays.set_index("stay_id")
    n_null = 0
    for stay, g in raw[raw["stay"].isin(made.index)].groupby("stay"):
        for task, ranges in NEEDS.items():
            is_measured = n_samples(g, ranges) >= (2 if task == "Acute kidney injury" else 1)
            assert made[task].notna()[stay] == is_measured, (stay, task)
            n_null += not is_measured
        urine = g[(g["parameter"] == "Urine") & (g["hour"] <= 24) & g["value"].between(0, 5000)]
        assert made["Oliguria"].notna()[stay] == bool(len(urine))
    assert n_null > 100
    names = [t.name for t in real.tasks]
    known = made[names].notna()
    assert (made[names].where(known, every[names]) == every[names]).where(every[names].notna(), True).all(axis=None)
    assert not every[names].where(~known, 0).fillna(0).any(axis=None)  # what is null was never positive
    whole = ["Mechanical ventilation", "Cardiac surgery recovery unit", "Long hospital stay", "In-hospital mortality"]
    assert made[whole].equals(every[whole])


def test_facts_of_labels_equal_a_computation_from_the_cohort(real, real_all):
    from sklearn.metrics import roc_auc_score

    facts = pd.DataFrame(real.meta["label_facts"]).set_index(["task", "labels", "stays"])
    assert real.meta["label_facts"] == real_all.meta["label_facts"] and len(facts) == 26 * 4
    assert (real.meta["labels"], real_all.meta["labels"]) == ("measured", "all")
    for rule, made in (("measured", real), ("all", real_all)):
        for stays, inside in (
            ("test", made.stays["partition"] == "test"),
            ("train and val", made.stays["partition"] != "test"),
        ):
            for task in made.tasks:
                y = made.stays.loc[inside, task.name]
                fact = facts.loc[(task.name, rule, stays)]
                assert (fact["n"], fact["positive"]) == (y.notna().sum(), y.sum())
                assert fact["prevalence"] == round(y.mean(), 4)
    troponin = facts.loc[("Marked myocardial injury", "all", "test")]
    y = real_all.stays.set_index("stay_id")["Marked myocardial injury"]
    is_measured = real.stays.set_index("stay_id")["Marked myocardial injury"].notna()
    b = (real.stays["partition"] == "test").to_numpy()
    assert round(roc_auc_score(y[b], is_measured[b]), 2) == 0.93 < troponin["auroc"]


@pytest.mark.parametrize("stays", ["test", "train and val"])
def test_the_table_of_both_conventions_equals_a_computation_from_two_cohorts(real, real_all, stays):
    from sklearn.metrics import roc_auc_score

    compared = compare_conventions(real.meta["label_facts"], stays)
    assert list(compared.index) == [task.name for task in real.tasks]
    inside = ((real.stays["partition"] == "test") == (stays == "test")).to_numpy()
    for task, row in compared.iterrows():
        known, every = real.stays[task][inside], real_all.stays[task][inside]
        for y, rule in ((known, "measured"), (every, "all")):
            assert row[[f"n_{rule}", f"positive_{rule}"]].tolist() == [y.notna().sum(), y.sum()]
            assert row[f"prevalence_{rule}"] == pytest.approx(y.mean())
        is_measured = known.notna()[every.notna()]
        assert row["fraction_measured"] == is_measured.mean()
        if is_measured.all():
            assert np.isnan(row["auroc"])
        else:
            assert row["auroc"] == pytest.approx(roc_auc_score(every.dropna(), is_measured), abs=1e-4)
            assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    assert compared["auroc"].isna().sum() == 4 and compared["auroc"].idxmax() == "Marked myocardial injury"


def test_the_number_of_samples_ranks_the_labels_as_the_facts_say(real, raw, shared):
    "Lactate in set b, counted line by line with the standard library."
    from rnn_transfer.utilities.ranking import delong

    n = {}
    with tarfile.open(shared / "data" / "physionet2012" / "set-b.tar.gz") as t:
        for m in [m for m in t.getmembers() if m.isfile()]:
            rows = [row.split(",") for row in t.extractfile(m).read().decode().splitlines()[1:]]
            n[int(m.name.split("/")[-1][:-4])] = sum(
                p == "Lactate" and 0.1 <= float(v) <= 40 for _, p, v in set(map(tuple, rows))
            )
    test = real.stays[real.stays["partition"] == "test"]
    y, score = test["Hyperlactataemia"].to_numpy(), test["stay_id"].map(n).to_numpy(float)
    found = delong(y[~np.isnan(y)], score[~np.isnan(y)])
    fact = next(
        f
        for f in real.meta["label_facts"]
        if (f["task"], f["labels"], f["stays"]) == ("Hyperlactataemia", "measured", "test")
    )
    half = 1.96 * np.sqrt(np.asarray(found.covariance).item())
    expected = np.asarray(found.auroc).item() + np.array([-half, 0, half])
    np.testing.assert_allclose([fact["auroc_low"], fact["auroc"], fact["auroc_high"]], expected, atol=3e-4)


def test_labels_equal_those_written_out_by_hand(real_all, raw):
    made = real_all.stays.set_index("stay_id")
    n_labelled = 0
    for stay, g in raw.groupby("stay"):
        if stay not in made.index:
            continue
        n_labelled += 1
        for task, y in by_hand(g).items():
            assert made.loc[stay, task] == float(y), (stay, task)
    assert n_labelled > 90


def test_enough_tasks_can_be_held_out(real):
    low, high = real.meta["held_out_prevalence"]
    train = real.stays[real.stays["partition"] == "train"]
    names = [t.name for t in real.tasks if t.kind == "phenotype"]
    assert len(names) == 25 and train[names].mean().between(low, high).sum() >= 14


def test_respiratory_rate_is_never_charted_under_ventilation(real):
    "The notebook says so."
    observed = real.stays["stay_id"].isin(real.events["stay_id"][real.events["channel"] == "Respiratory rate"])
    y = real.stays["Mechanical ventilation"]
    assert y[observed].sum() == 0 and abs(y[~observed].mean() - 7 / 8) < 0.001


def test_the_long_stay_and_oliguria_are_what_the_notebook_says(real, shared):
    d = (
        pd.concat(pd.read_csv(shared / "data" / "physionet2012" / f"Outcomes-{s}.txt") for s in "ab")
        .set_index("RecordID")
        .reindex(real.stays["stay_id"])
    )
    dead, long = (d["In-hospital_death"] == 1).to_numpy(), real.stays["Long hospital stay"]
    assert ((d["Length_of_stay"].to_numpy() <= 14) & dead).sum() == 760 and dead.sum() == 1122
    assert [
        round(long[dead].mean(), 2),
        round(long[~dead].mean(), 2),
        round(long[real.stays["partition"] != "test"].mean(), 2),
    ] == [0.32, 0.31, 0.31]
    assert (
        long[real.stays["partition"] != "test"].mean() > real.meta["held_out_prevalence"][1]
        and real.stays["Oliguria"].sum() == 462
    )


def test_content_is_that_of_the_first_long_run(real_all):
    "Words of source and note may change; labels, tasks and definitions are those that results were published on."
    meta = {key: value for key, value in real_all.meta.items() if key != "descriptors"}
    undescribed = Cohort(real_all.events, real_all.stays, real_all.channels, real_all.tasks, meta)
    assert undescribed.fingerprint.startswith("5a8f9e518789")


def test_another_convention_of_labels_is_rejected(two):
    with pytest.raises(BadInput, match="labels='some': expected measured or all"):
        p12.cohort(two, labels="some")


def test_save_and_load(real, tmp_path):
    real.save(tmp_path / "cohort")
    assert Cohort.load(tmp_path / "cohort").fingerprint == real.fingerprint


# ---------------------------------------------------------------- the tables


def test_no_task_reads_an_input_channel_and_every_rule_names_its_source():
    p, r = PARAMETERS, p12.TASK_RULES
    assert not set(r["parameter"]) & set(p.index[p["channel"].notna()])
    assert set(r["parameter"]) - set(p.index) == {"Length_of_stay", "In-hospital_death"}
    assert r["source"].notna().all() and (r[r["kind"] == "phenotype"]["task"].nunique(), set(r["relation"])) == (
        25,
        {">=", ">", "<", "="},
    )
    assert (
        p["reason"].notna().all()
        and (p["low"] <= p["high"].fillna(np.inf)).all()
        and set(p["channel"].dropna()) == {c.name for c in p12.CHANNELS}
    )


def test_notes_tell_where_rule_and_source_part():
    r = p12.TASK_RULES.drop_duplicates("task").set_index("task")
    own = set(r.index[r["source"].str.startswith("own choice")])
    assert own == {"Marked myocardial injury", "Long hospital stay"} and own | {
        "Oliguria",
        "Hypercapnia",
        "Hypokalaemia",
    } <= set(p12._META["task_notes"])
    assert (
        "Kardalas" in r.loc["Hypokalaemia", "source"]
        and "Gennari" in define_task("Hypokalaemia", p12.TASK_RULES)
        and "mortality" in p12._META["task_notes"]["Long hospital stay"]
    )


def test_no_two_tasks_ask_the_same_side_of_one_parameter():
    r = p12.TASK_RULES.assign(side=p12.TASK_RULES["relation"].str[0])
    duplicated = r[r.duplicated(["parameter", "statistic", "side"], keep=False)]
    assert duplicated.empty


# ---------------------------------------------------------------- forms on disk


def pack(folder, form, top="set-{}/"):
    "Replace the set folders by archives, with the files that macOS adds."
    for s in "ab":
        files = {top.format(s) + p.name: p.read_bytes() for p in sorted((folder / f"set-{s}").iterdir(), reverse=True)}
        files |= {
            top.format(s) + ".DS_Store": b"\0\1",
            "__MACOSX/" + top.format(s) + "._100.txt": b"\0\5",
            top.format(s) + "._101.txt": b"\0\5",
            "__MACOSX/101.txt": b"x",
        }
        out = folder / f"set-{s}{form}"
        if form == ".zip":
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
                for n, b in files.items():
                    z.writestr(n, b)
        else:
            with tarfile.open(out, "w:" + ("" if form == ".tar" else "gz")) as t:
                for n, b in files.items():
                    info = tarfile.TarInfo(n)
                    info.size = len(b)
                    t.addfile(info, io.BytesIO(b))
        shutil.rmtree(folder / f"set-{s}")
    return folder


@pytest.mark.parametrize("form", [".tar.gz", ".tgz", ".tar", ".zip"])
@pytest.mark.parametrize("top", ["set-{}/", "", "deep/er/"])
def test_every_form_gives_the_same_cohort(two, form, top):
    expected = p12.cohort(two).fingerprint
    c = p12.cohort(pack(two, form, top))
    assert c.fingerprint == expected and c.meta["counts_of_rows"]["other files in the set"] == 8


def test_names_in_capitals_and_a_folder_in_the_folder(two):
    expected = p12.cohort(two).fingerprint
    (two / "set-a").rename(two / "x")
    (two / "SET-A").mkdir()
    (two / "x").rename(two / "SET-A" / "set-a")
    (two / "Outcomes-a.txt").rename(two / "outcomes-A.TXT")
    assert p12.cohort(two).fingerprint == expected


def test_a_folder_goes_before_an_archive_unless_it_is_empty(two):
    other = put(two.parent / "other", "a", some(300))
    same = p12.cohort(two).fingerprint
    shutil.make_archive(str(two / "set-a"), "zip", two, "set-a")
    assert p12.cohort(two).fingerprint == same
    shutil.make_archive(str(two / "set-a"), "zip", other, "set-a")
    with pytest.raises(BadInput, match="set-a and set-a.zip are both there and differ .*keep the right one"):
        p12.cohort(two)
    shutil.rmtree(two / "set-a")
    shutil.copy(other / "Outcomes-a.txt", two)
    (two / "set-a").mkdir()
    with pytest.raises(BadInput, match="."):
        p12.cohort(two / "set-a")
    assert 300 in p12.cohort(two).stays["stay_id"].tolist()


@pytest.mark.parametrize("form", [".tar.gz", ".tgz", ".tar", ".zip"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_cut_archive_is_rejected(tmp_path, form, keep):
    r = np.random.default_rng(0)
    rows = {
        i: record(i, *[f"{h:02d}:{m:02d},HR,{r.integers(50, 120)}" for h in range(40) for m in (3, 33)])
        for i in range(100, 130)
    }
    d = pack(put(put(tmp_path / "d", "a", rows), "b", rows), form)
    file = d / f"set-a{form}"
    whole = file.read_bytes()
    cut = int(len(whole) * keep)
    file.write_bytes(whole[: cut - cut % 512 if form == ".tar" else cut])
    with pytest.raises(BadInput, match="set-a.*(cut or damaged|three fields belong)"):
        p12.cohort(d)


@pytest.mark.parametrize("form", [".tar.gz", ".zip", ".tar"])
def test_an_archive_that_is_none_is_rejected(two, form):
    shutil.rmtree(two / "set-b")
    (two / f"set-b{form}").write_bytes(b"<html>404</html>" * 200)
    with pytest.raises(BadInput, match="set-b.*download it again"):
        p12.cohort(two)


# ---------------------------------------------------------------- sets and partitions


def test_the_last_set_is_the_test_set_by_default(two):
    put(two, "c", some(300))

    def part(**k):
        return p12.cohort(two, **k).stays.set_index("stay_id")["partition"]

    def is_test(p):
        return set(p.index[p == "test"] // 100)

    assert (
        is_test(part()) == {3}
        and is_test(part(sets="ab")) == {2}
        and is_test(part(test="a")) == {1}
        and is_test(part(test=["b", "c"])) == {2, 3}
    )
    assert (part() == "val").sum() == round(0.2 * 12) and part().equals(part()) and not part().equals(part(seed=1))
    p = part(sets="b")
    assert {*p} == {"train", "val", "test"} and (p == "test").sum() == 1
    assert is_test(part(test="")) <= {1, 2, 3} and (part(test="") == "test").sum() == round(0.2 * 18)
    assert p12.cohort(two).meta["sets"] == {"a": ["train", "val"], "b": ["train", "val"], "c": ["test"]}


@pytest.mark.parametrize(
    "kwargs,says",
    [
        (dict(sets="abc"), "set c was asked for and is not there"),
        (dict(test="c"), "test='c': the data have a, b; name among them"),
        (dict(test="ab"), "none is left to train on"),
    ],
)
def test_impossible_wishes(two, kwargs, says):
    with pytest.raises(BadInput, match=says):
        p12.cohort(two, **kwargs)


def test_given_partitions_replace_sets_and_draws(two, tmp_path):
    sets = p12.cohort(two).stays
    listed = pd.DataFrame(dict(subject_id=sets["subject_id"], partition=["test", *["train"] * (len(sets) - 1)]))
    listed.to_csv(tmp_path / "mine.csv", index=False)
    made = p12.cohort(two, partitions=tmp_path / "mine.csv")
    assert made.stays["partition"].tolist() == listed["partition"].tolist() != sets["partition"].tolist()
    assert made.meta["note"].endswith("The partitions are those of mine.csv.")
    with pytest.raises(BadInput, match="each says the test stays; give one of the two"):
        p12.cohort(two, test="b", partitions=tmp_path / "mine.csv")
    listed[1:].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(BadInput, match="few.csv: column subject_id: .* is missing"):
        p12.cohort(two, partitions=tmp_path / "few.csv")


def test_missing_things(two, tmp_path):
    with pytest.raises(BadInput, match="no such folder; give the folder"):
        p12.cohort(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="not a folder"):
        p12.cohort(two / "Outcomes-a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds none of set-a"):
        p12.cohort(tmp_path / "empty")
    (two / "Outcomes-b.txt").unlink()
    with pytest.raises(
        BadInput,
        match="Outcomes-b.txt is missing next to set-b; download it, or move set-b out of the folder .*sets='a'",
    ):
        p12.cohort(two)
    assert len(p12.cohort(two, sets="a").stays) == 6
    for p in (two / "set-a").iterdir():
        p.unlink()
    (two / "set-a" / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match="holds no record"):
        p12.cohort(two, sets="a")


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    "row,says",
    [
        ("03:00,HR,7x", r"set-a/100.txt, row 9: found '03:00,HR,7x': the value of HR is not a number"),
        ("03:00,HR,nan", "is not a number"),
        ("03:00,HR,inf", "is not a number"),
        ("03:00,HeartRate,70", r"set-a/100.txt, row 9: .*'HeartRate' is no parameter of the challenge"),
        ("03:00,Lactat,2", "did you mean 'Lactate'"),
        ("03:00,HR", r"row 9: found '03:00,HR': three fields belong here"),
        ("03:00,HR,70,1", "three fields belong here"),
        ("03:0", "three fields belong here"),
        ('03:00,"HR,70"', "is no parameter|not a number"),
    ],
)
def test_bad_rows_are_rejected_with_file_and_row(two, row, says):
    put(two, "a", some(100) | {100: record(100, "00:07,HR,73", row, "04:00,HR,71")})
    with pytest.raises(BadInput, match=says) as e:
        p12.cohort(two)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "text,says",
    [("<html>\n", "row 1: found '<html>'"), ("Time,Parameter\n1,2\n", "row 1"), ("00:00,RecordID,100\n", "row 1")],
)
def test_files_that_are_no_records(two, text, says):
    put(two, "a", some(100) | {100: text})
    with pytest.raises(BadInput, match=says):
        p12.cohort(two)


def test_what_is_counted_and_not_rejected(two):
    odd = record(100, "00:07,HR,73", "01:00,,3", "01:00,K,", "later,K,4", "48:01,K,4", "48:00,HR,80", "01:00,,x")
    put(two, "a", some(100) | {100: odd, 101: record(101), 102: "", 103: HEAD, 104: record(999, "00:10,HR,60")})
    with pytest.raises(BadInput, match="too much is lost: .*fix the files, or accept it with --allow-loss"):
        p12.cohort(two)
    c = p12.cohort(two, allow_loss=True)
    n = c.meta["counts_of_rows"]
    assert (
        n["rows without a parameter"],
        n["rows without a value"],
        n["rows with an unreadable time"],
        n["rows after hour 48"],
    ) == (2, 1, 1, 1)
    assert (
        n["records without a reading of an input channel"] == 3
        and n["record numbers that differ from the file name"] == 1
    )
    assert (
        c.events[c.events["stay_id"] == 100]["hour"].tolist() == [7 / 60, 48.0]
        and c.meta["flow"][0]["stays"] == 12
        and len(c.stays) == 9
    )


def test_unknown_parameters_can_be_counted(two):
    put(two, "a", some(100) | {100: record(100, "00:07,HR,73", "01:00,Zinc,3", "01:00,Zinc,low")})
    with pytest.raises(BadInput, match="fix the row or take it out .in Python, unknown="):
        p12.cohort(two)
    c = p12.cohort(two, unknown="count")
    assert c.meta["counts_of_rows"]["rows of an unknown parameter"] == 2


def test_outcome_mismatches_and_repeated_records_are_counted(two):
    put(two, "a", some(100), [f"{i},6,1,5,-1,{i % 2}" for i in (101, 102, 103, 104, 105, 777, 105)])
    put(two, "b", some(200) | {101: record(101, "00:07,HR,1")})
    with pytest.raises(BadInput, match="1 of 7 records .* set-b: differs from an earlier file of its number"):
        p12.cohort(two)
    c = p12.cohort(two, allow_loss=True)
    n = c.meta["counts_of_rows"]
    assert (
        n["records without an outcome"],
        n["outcomes without a record"],
        n["records that repeat an earlier number"],
        n["outcome rows that repeat an earlier record"],
    ) == (1, 1, 1, 2)
    assert np.isnan(c.stays.set_index("stay_id").loc[100, "In-hospital mortality"]) and c.events[
        c.events["stay_id"] == 101
    ]["value"].tolist() == [73.0]
    assert c.stays.set_index("stay_id").loc[101, "partition"] != "test"


@pytest.mark.parametrize(
    "line,says",
    [
        ("100,1,1,5,-1,2", "In-hospital_death: row 2: found '2'"),
        ("100,1,1,x,-1,0", "Length_of_stay: row 2: found 'x'"),
        ("100,1,1,5,-1", "row 2: 5 fields where the header has 6"),
        ("1e2x,1,1,5,-1,0", "RecordID: row 2"),
    ],
)
def test_bad_outcomes(two, line, says):
    put(two, "a", some(100), [line])
    with pytest.raises(BadInput, match=says):
        p12.cohort(two)


def test_outcomes_without_a_column_or_content(two):
    for text in ("RecordID,Length_of_stay\n100,3\n", "", "\0\1\2"):
        (two / "Outcomes-a.txt").write_text(text)
        with pytest.raises(BadInput, match="Outcomes-a.txt"):
            p12.cohort(two)


def test_missing_codes_of_outcomes_are_null(two):
    put(two, "a", some(100), [f"{i},-1,-1,{-1 if i == 100 else 30},-1,{-1 if i == 101 else 1}" for i in some(100)])
    y = p12.cohort(two).stays.set_index("stay_id")
    assert (
        np.isnan(y.loc[100, "Long hospital stay"])
        and np.isnan(y.loc[101, "In-hospital mortality"])
        and y.loc[101, "Long hospital stay"] == 1
    )


# ---------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2880),
            st.sampled_from(["HR", "K", "SysABP", "NISysABP", "GCS", "pH", ""]),
            st.one_of(st.integers(-1, 900), st.floats(-1, 900).map(lambda x: round(x, 2))),
        ),
        max_size=40,
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
def test_rows_survive_any_line_ends(rows, end, bom, blank):
    lines = [f"{m // 60:02d}:{m % 60:02d},{p},{v}" for m, p, v in rows]
    text = (end + end if blank else end).join(["Time,Parameter,Value", *lines]).encode()
    text = b"\xef\xbb\xbf" + text if bom else text
    got, n = read_readings({7: text}, "x")
    filled = [(m, PARAMETERS.index.get_loc(p), float(v)) for m, p, v in rows if p]
    named = list(dict.fromkeys(filled))
    assert list(zip(got["minute"], got["parameter"], got["value"])) == named and (got["stay_id"] == 7).all()
    assert n["rows without a parameter"] == len(rows) - len(filled)
    assert n["rows that repeat an earlier row"] == len(filled) - len(named)
    kept, counts = clean_rows(got)
    assert (counts["kept"] + counts["missing code"] + counts["outside range"] == counts["values"]).all() and counts[
        "values"
    ].sum() == len(named)
    low, high = (PARAMETERS[c].to_numpy()[kept["parameter"]] for c in ("low", "high"))
    assert ((kept["value"] >= low) & (kept["value"] <= high)).all()
    events, merged = p12.channel_events(kept)
    fed = PARAMETERS["channel"].notna().to_numpy()[kept["parameter"]].sum()
    assert len(events) + sum(merged.values()) == fed and not events.duplicated(["stay_id", "hour", "channel"]).any()
    Cohort(
        events, pd.DataFrame(dict(stay_id=[7], subject_id=[7], los_hours=[48.0], partition=["train"])), p12.CHANNELS, []
    ).validate()


@given(st.integers(0, 9999), st.integers(0, 59))
def test_minutes_of_a_time(h, m):
    assert parse_minutes([f"{h:02d}:{m:02d}"])[0] == 60 * h + m


@given(st.text(max_size=8))
def test_minutes_and_numbers_never_crash(t):
    assert np.isnan(parse_minutes([t])[0]) or ":" in t
    x = parse_numbers([t])[0]
    assert np.isnan(x) or x == float(t)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_rise_is_the_greatest_later_minus_earlier(values):
    x = pd.DataFrame(dict(stay_id=1, minute=range(len(values)), value=np.array(values) / 10))
    assert stay_statistic(x.sample(frac=1, random_state=0), "rise")[1] == pytest.approx(
        max(b - a for i, a in enumerate(values) for b in values[i:]) / 10
    )


@given(st.integers(600, 850))
def test_a_ph_without_its_point(n):
    rows = pd.DataFrame(dict(stay_id=[1], minute=[0], parameter=[PARAMETERS.index.get_loc("pH")], value=[float(n)]))
    kept, counts = clean_rows(rows)
    assert counts.loc["pH", "decimal point restored"] == 1 and kept["value"].tolist() == (
        [n / 100] if 650 <= n <= 800 else []
    )


def test_tasks_of_one_class_are_named_for_the_command(two):
    c = p12.cohort(two)
    names = {t.name for t in c.tasks}
    assert c.meta["left_out"] == c.meta["tasks_left_out"] and not names & set(c.meta["left_out"])
    assert len(names) + len(c.meta["left_out"]) == 26 and "Hypokalaemia" in names


def test_readings_after_the_horizon_do_not_count():
    rows = pd.DataFrame(dict(stay_id=[1, 1], minute=[60, 300], parameter="Lactate", value=[1.0, 5.0]))
    rule = dict(task="High", parameter="Lactate", statistic="highest", relation=">=", threshold=4)
    for hours, horizon, expected in ((np.nan, 48, 1), (np.nan, 5, 1), (np.nan, 4, 0), (4, 48, 0), (5, 48, 1)):
        rules = pd.DataFrame([rule | dict(hours=hours)])
        labels = label_stays(rows, pd.DataFrame(), [1, 2], rules, horizon, "all")
        assert labels["High"].tolist() == [expected, 0], (hours, horizon)
        assert label_stays(rows, pd.DataFrame(), [1, 2], rules, horizon)["High"].isna().tolist() == [False, True]


def test_two_coma_scores_of_one_minute_keep_the_lower(two):
    put(two, "a", some(100) | {100: record(100, "01:00,GCS,15", "01:00,GCS,3", "01:00,GCS,9")})
    c = p12.cohort(two)
    scale = next(x for x in c.channels if x.values)
    assert [scale.values[int(v)] for v in c.events[c.events["stay_id"] == 100]["value"]] == ["3"]


def test_report_is_json_and_holds_counts_only(two, tmp_path):
    c = p12.cohort(two)
    p12.write_counts_report(c, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == p12.counts_report(c) and "NaN" not in text and str(two) not in text
