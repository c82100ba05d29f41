"The source physionet2019 against few-line computations of its own, and against every fault we could think of."

import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from fuzz import fuzz

from rnn_transfer.data import Cohort
from rnn_transfer.experiment.commands import rnn_transfer_cohort
from rnn_transfer.experiment.run import _fill_in_options
from rnn_transfer.sources import physionet2012 as p12
from rnn_transfer.sources import physionet2019 as p19
from rnn_transfer.sources.physionet2012_rows import PARAMETERS as PARAMETERS_2012
from rnn_transfer.sources.physionet2019_rows import COLUMNS, PARAMETERS, USED
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.files import load_csv_resource

HEADER = "|".join(COLUMNS)


def line(hour, label=0, columns=COLUMNS, **values):
    "One row of a stay; what is not given is NaN."
    row = dict(ICULOS=hour, SepsisLabel=label) | values
    return "|".join(str(row.get(name, "NaN")) for name in columns)


def stay(n_hours=30, onset=None, **values):
    "The text of a stay with a heart rate every hour."
    rows = [
        line(h, int(onset is not None and h >= onset), **dict(HR=80 + h % 3) | values) for h in range(1, n_hours + 1)
    ]
    return "\n".join([HEADER, *rows, ""])


def name_of(number):
    return f"training_set{'A' if number < 100_000 else 'B'}/p{number:06d}.psv"


def put(folder, stays):
    "Write stays, {number: text or bytes}, into the folders of their hospitals."
    for number, text in stays.items():
        file = folder / name_of(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def some(first, n=5):
    return {first + k: stay(Lactate=2 + k, onset=28 if k == 1 else None) for k in range(n)}


@pytest.fixture
def two(tmp_path):
    return put(tmp_path / "data", some(1) | some(100_001))


def reasons(cohort):
    return {loss["reason"]: loss["n"] for loss in cohort.meta["losses"]}


# ---------------------------------------------------------------- the real data


@pytest.fixture(scope="session")
def folder(shared):
    path = shared / "data" / "physionet2019"
    if not path.is_dir():
        pytest.skip("needs physionet2019 in ../shared/data, which is not here")
    return path


@pytest.fixture(scope="session")
def real(folder):
    return p19.cohort(folder)


LABORATORY = dict(Lactate=(0.1, 40), Platelets=(1, 3000), Potassium=(1, 12), Creatinine=(0.05, 40))
LABORATORY |= dict(Hct=(4, 75), TroponinI=(0.01, 500), HCO3=(2, 60), PTT=(5, 400), AST=(1, 50_000))
LABORATORY |= dict(BUN=(1, 300), Bilirubin_total=(0.05, 100), WBC=(0.05, 600), PaCO2=(5, 200))
LABORATORY |= dict(Magnesium=(0.3, 15), Phosphate=(0.1, 30))


@pytest.fixture(scope="session")
def raw(folder):
    "Every stay, line by line with the standard library: hours, label, and the laboratory values of 24 hours."
    stays = []
    for letter in "AB":
        with tarfile.open(folder / f"training_set{letter}.tar.xz") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                head, *lines = archive.extractfile(member).read().decode().splitlines()
                column = {name: k for k, name in enumerate(head.split("|"))}
                rows = [row.split("|") for row in lines]
                hours = [int(row[column["ICULOS"]]) for row in rows]
                onset = [h for h, row in zip(hours, rows) if row[column["SepsisLabel"]] == "1"]
                values = {
                    name: [
                        v for h, row in zip(hours, rows) if h <= 24 and low <= (v := float(row[column[name]])) <= high
                    ]
                    for name, (low, high) in LABORATORY.items()
                }
                n_heart = sum(h <= 24 and row[column["HR"]] != "NaN" for h, row in zip(hours, rows))
                stays.append(
                    (letter, int(member.name[-10:-4]), hours[0], hours[-1], min(onset, default=0), n_heart, values)
                )
    return pd.DataFrame(stays, columns=["site", "stay_id", "first", "last", "onset", "n_heart", "values"])


DEFINITIONS = {  # by hand: what makes the values of 24 hours positive
    "Hyperlactataemia": ("Lactate", lambda x: max(x) >= 4),
    "Thrombocytopenia": ("Platelets", lambda x: min(x) < 100),
    "Hypokalaemia": ("Potassium", lambda x: min(x) < 3.5),
    "Hyperkalaemia": ("Potassium", lambda x: max(x) > 5.5),
    "Renal dysfunction": ("Creatinine", lambda x: max(x) >= 2),
    "Acute kidney injury": (
        "Creatinine",
        lambda x: max(round(b - min(x[: k + 1]), 6) for k, b in enumerate(x)) >= 0.3,
    ),
    "Severe anaemia": ("Hct", lambda x: min(x) < 24),
    "Marked myocardial injury": ("TroponinI", lambda x: max(x) > 3),
    "Low bicarbonate": ("HCO3", lambda x: min(x) < 20),
    "Prolonged PTT": ("PTT", lambda x: max(x) > 60),
    "Raised transaminases": ("AST", lambda x: max(x) > 120),
    "Azotaemia": ("BUN", lambda x: max(x) >= 28),
    "Hyperbilirubinaemia": ("Bilirubin_total", lambda x: max(x) >= 2),
    "Leucocytosis": ("WBC", lambda x: max(x) >= 20),
    "Leucopenia": ("WBC", lambda x: min(x) < 4),
    "Hypercapnia": ("PaCO2", lambda x: max(x) >= 49),
    "Hypocapnia": ("PaCO2", lambda x: min(x) < 32),
    "Hypomagnesaemia": ("Magnesium", lambda x: min(x) < 1.6),
    "Hypophosphataemia": ("Phosphate", lambda x: min(x) < 2.5),
    "Hyperphosphataemia": ("Phosphate", lambda x: max(x) > 4.5),
}


def test_every_task_has_a_computation_of_its_own(real):
    assert {task.name for task in real.tasks} == {*DEFINITIONS, p19.SEPSIS}


def test_real_cohort_is_what_it_should_be(real):
    real.validate()
    assert (len(real.channels), len(real.tasks), real.meta["hours"]) == (10, 21, 24)
    assert real.stays["site"].value_counts().to_dict() == dict(A=20_323, B=14_973)
    assert real.events["hour"].between(1, 24).all() and (real.events["hour"] % 1 == 0).all()
    assert not real.events.duplicated(["stay_id", "hour", "channel"]).any()
    found = real.stays.groupby(["site", "partition"]).size().unstack()
    assert (found["val"] == (found.sum(axis=1) * 0.16).round()).all() and (found["test"] > found["val"]).all()


@pytest.mark.parametrize("task", DEFINITIONS)
def test_labels_equal_a_computation_from_the_files(real, raw, task):
    parameter, is_positive = DEFINITIONS[task]
    needed = 2 if task == "Acute kidney injury" else 1  # a rise needs two values
    label = raw["values"].map(
        lambda values: float(is_positive(values[parameter])) if len(values[parameter]) >= needed else np.nan
    )
    label = pd.Series(label.to_numpy(), raw["stay_id"]).loc[real.stays["stay_id"]]
    np.testing.assert_array_equal(label.to_numpy(), real.stays[task].to_numpy())
    assert label.sum() > 40 and label.isna().sum() > 1000


def test_the_old_convention_is_an_option(two):
    put(two, {3: stay(), 4: stay(Lactate=1)})
    measured, every = (p19.cohort(two, labels=rule).stays.set_index("stay_id") for rule in ("measured", "all"))
    assert measured["Hyperlactataemia"].loc[[1, 3, 4, 5]].fillna(-1).tolist() == [0, -1, 0, 1]
    assert every["Hyperlactataemia"].loc[[1, 3, 4, 5]].tolist() == [0, 0, 0, 1]
    assert measured[p19.SEPSIS].equals(every[p19.SEPSIS])
    with pytest.raises(BadInput, match="labels='some': expected measured or all"):
        p19.cohort(two, labels="some")


def test_facts_say_what_the_real_labels_are(real):
    facts = pd.DataFrame(real.meta["label_facts"]).set_index(["task", "labels", "stays"])
    assert len(facts) == 21 * 4 and facts.loc[p19.SEPSIS]["auroc"].isna().all()
    for stays, inside in (
        ("test", real.stays["partition"] == "test"),
        ("train and val", real.stays["partition"] != "test"),
    ):
        for task in real.tasks:
            y, fact = real.stays.loc[inside, task.name], facts.loc[(task.name, "measured", stays)]
            assert (fact["n"], fact["positive"], fact["prevalence"]) == (y.notna().sum(), y.sum(), round(y.mean(), 4))
            assert fact["positive"] == facts.loc[(task.name, "all", stays), "positive"]
            assert task.name == p19.SEPSIS or facts.loc[(task.name, "all", stays), "n"] == inside.sum()


GOLDEN = {  # positive stays at A and B
    "Hyperlactataemia": (1024, 645),
    "Thrombocytopenia": (1844, 1488),
    "Acute kidney injury": (1254, 521),
    "Low bicarbonate": (2654, 49),
    "Marked myocardial injury": (239, 861),
    p19.SEPSIS: (965, 456),
}


@pytest.mark.parametrize("task", GOLDEN)
def test_positive_stays_at_both_sites(real, task):
    assert tuple(real.stays.groupby("site")[task].sum().astype(int)) == GOLDEN[task]


def test_committed_counts_are_those_of_the_real_data(real):
    committed = load_csv_resource("physionet2019_counts.csv").set_index("task")
    assert p19.count_by_site(real).equals(committed)


def test_sepsis_equals_a_computation_from_the_files(real, raw):
    at_risk = raw[(raw["first"] <= 24) & (raw["last"] > 24) & ((raw["onset"] == 0) | (raw["onset"] > 24))]
    at_risk = at_risk[at_risk["stay_id"].isin(real.stays["stay_id"])]
    found = real.stays.dropna(subset=p19.SEPSIS)
    assert sorted(at_risk["stay_id"]) == sorted(found["stay_id"])
    assert (found.set_index("stay_id")[p19.SEPSIS] == (at_risk.set_index("stay_id")["onset"] > 0)).all()
    of_a = found[found["site"] == "A"]
    assert (len(of_a), int(of_a[p19.SEPSIS].sum())) == (15_596, 965)


def test_events_of_the_real_data(real, raw):
    n = (real.events["channel"] == "Heart Rate").sum()
    assert n == raw["n_heart"].sum()  # no heart rate is out of range
    assert (real.stays["los_hours"].to_numpy() == raw.set_index("stay_id").loc[real.stays["stay_id"], "last"]).all()


def test_losses_of_the_real_data(real):
    found = reasons(real)
    assert found["hospital B: published and not here"] == 5023 and found["first row after hour 24"] == 15
    assert not any("hour without" in reason or "SepsisLabel" in reason for reason in found)


# ---------------------------------------------------------------- definitions


def test_tasks_are_those_of_physionet2012():
    ours, theirs = p19.task_rules(48), p12.TASK_RULES
    shared_tasks = [task for task in ours["task"].unique() if task in set(theirs["task"])]
    assert len(shared_tasks) == 17
    for task in shared_tasks:
        mine, other = ours[ours["task"] == task], theirs[theirs["task"] == task]
        columns = ["statistic", "relation", "threshold", "unit", "source"]
        assert set(map(tuple, mine[columns].to_numpy())) <= set(map(tuple, other[columns].to_numpy()))


def test_no_task_reads_an_input_and_ranges_are_those_of_physionet2012():
    assert not set(p19.task_rules()["parameter"]) & set(PARAMETERS.index[PARAMETERS["channel"].notna()])
    assert set(p19.task_rules()["parameter"]) == set(PARAMETERS.index[PARAMETERS["use"] == "label"])
    used = PARAMETERS.loc[USED]
    assert used[["low", "high"]].notna().all(axis=None)
    same = used.dropna(subset="physionet2012")
    there = PARAMETERS_2012.loc[same["physionet2012"], ["low", "high"]]
    assert (same[["low", "high"]].to_numpy(float) == there.to_numpy(float)).all()


@pytest.mark.parametrize(
    "first,last,onset,label",
    [(1, 25, 25, 1), (1, 25, None, 0), (1, 24, None, None), (1, 40, 24, None), (25, 40, 30, None), (24, 25, 25, 1)],
)
def test_who_is_at_risk_of_sepsis(first, last, onset, label):
    row = dict(first_hour=first, last_hour=last, onset=onset or np.nan, n_missing=0, label_problem="")
    found = p19.label_sepsis(pd.DataFrame([row], index=[1]))[1]
    assert found == label or (label is None and np.isnan(found))


def test_a_row_falls_into_the_bin_of_its_hour(tmp_path):
    text = "\n".join([HEADER, *(line(h, HR=h + 20) for h in range(1, 27)), ""])
    made = p19.cohort(put(tmp_path, some(2) | {1: text}))
    grid = made.grid(24)
    assert grid.X[0, :, grid.columns.index("Heart Rate")].tolist() == [h + 20 for h in range(1, 25)]
    assert grid.X[0, :, grid.columns.index("mask->Heart Rate")].all()


# ---------------------------------------------------------------- forms, partitions, the command


def pack(folder, out, kind):
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for p in sorted(folder.rglob("*.psv")):
                archive.write(p, "training/" + p.relative_to(folder).as_posix())
        return
    with tarfile.open(out, f"w:{kind}") as archive:
        for p in sorted(folder.rglob("*.psv"), reverse=True):
            archive.add(p, p.relative_to(folder).as_posix())


@pytest.mark.parametrize("ending,kind", [(".zip", "zip"), (".tar", ""), (".tar.gz", "gz"), (".tar.xz", "xz")])
def test_archives_are_read_like_folders(two, tmp_path, ending, kind):
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / f"training{ending}"
    pack(two, archive, kind)
    expected = p19.cohort(two).fingerprint
    assert p19.cohort(tmp_path / "packed").fingerprint == expected == p19.cohort(archive).fingerprint


def test_one_hospital_alone_has_the_partitions_of_both(two):
    both = p19.cohort(two).stays
    alone = p19.cohort(two / "training_setA").stays
    assert both[both["site"] == "A"]["partition"].tolist() == alone["partition"].tolist()
    assert p19.cohort(two, seed=3).stays["partition"].tolist() != both["partition"].tolist()


def test_hospital_to_test_on(two):
    stays = p19.cohort(two, test="B").stays
    assert set(stays["partition"][stays["site"] == "B"]) == {"test"} and "test" not in set(
        stays["partition"][stays["site"] == "A"]
    )
    with pytest.raises(BadInput, match="test='C': the data have A, B; name among them"):
        p19.cohort(two, test="C")


def test_given_partitions_replace_the_draw(two, tmp_path, capsys):
    drawn = p19.cohort(two).stays
    listed = pd.DataFrame(dict(subject_id=drawn["subject_id"], partition=["test", *["train"] * 8, "val"]))
    listed.to_csv(tmp_path / "mine.csv", index=False)
    rnn_transfer_cohort(
        "physionet2019", path=str(two), partitions=str(tmp_path / "mine.csv"), out=str(tmp_path / "out")
    )
    made = Cohort.load(tmp_path / "out")
    assert made.stays["partition"].tolist() == listed["partition"].tolist()
    assert made.meta["note"].endswith("MIMIC and of PhysioNet 2012. The partitions are those of mine.csv.")
    listed[1:].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(BadInput, match="few.csv: column subject_id: 1 is missing; give every subject a partition"):
        p19.cohort(two, partitions=tmp_path / "few.csv")
    with pytest.raises(BadInput, match="each says the test stays; give one of the two"):
        p19.cohort(two, test="B", partitions=tmp_path / "mine.csv")


def test_an_absent_hospital_is_named(two):
    assert "is not among the files" not in p19.cohort(two).meta["note"]
    assert "Hospital B is not among the files." in p19.cohort(two / "training_setA").meta["note"]


def test_published_partitions_are_those_of_the_real_data(real, root):
    published = pd.read_csv(root / "docs/results/physionet2019-partitions.csv.gz")
    pd.testing.assert_frame_equal(published, real.stays[["subject_id", "partition"]], check_dtype=False)


@pytest.mark.parametrize("run", ["a-b", "b-a", "a-b-carried", "b-a-few"])
def test_the_published_runs_are_of_this_cohort(real, root, run):
    manifest = json.loads((root / f"docs/results/physionet2019-{run}/manifest.json").read_text(encoding="utf-8"))
    assert manifest["cohort"]["fingerprint"] == real.fingerprint


@pytest.mark.parametrize("name", ["hospitalB.zip", "B/training_setB.zip"])
def test_an_archive_that_is_not_read_has_a_line_of_its_own(two, name):
    (two / name).parent.mkdir(exist_ok=True)
    shutil.make_archive(two / name.removesuffix(".zip"), "zip", two, "training_setB")
    shutil.rmtree(two / "training_setB")
    made = p19.cohort(two)
    [said] = [reason for reason in reasons(made) if "archive not read" in reason]
    assert said.startswith(f"archive not read: {name}; if it holds stays, put it directly into the folder")
    assert made.stays["site"].unique().tolist() == ["A"]


def test_stays_that_are_packed_one_by_one_stop_the_command(two, tmp_path):
    for path in (two / "training_setA").glob("*.psv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    n = len(list((two / "training_setA").iterdir()))
    with pytest.raises(BadInput, match=f"{n} of 10 stays .* packed one by one, such as p000001.psv.gz.*: unpack these"):
        p19.cohort(two)
    made = p19.cohort(two, allow_loss=True)
    assert made.stays["site"].unique().tolist() == ["B"] and "files that are no stays" not in reasons(made)
    with pytest.raises(BadInput, match="holds no stay, .*; its stays are packed one by one: unpack them"):
        p19.cohort(two / "training_setA")


def test_impossible_descriptors_are_counted(two):
    put(two, {1: stay(Age=999, Gender=2, Unit1=1, Unit2=1)})
    made = p19.cohort(two)
    counted = reasons(made)
    assert counted["Age: not between 0 and 120"] == counted["Gender: neither 0 nor 1"] == 1
    assert counted["Unit1 and Unit2: both are 1"] == 1
    first = made.stays.iloc[0]
    assert np.isnan(first["age"]) and pd.isna(first["sex"]) and first["unit"] == "unknown"


def test_files_in_one_folder_need_no_names_of_sets(two, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for p in two.rglob("*.psv"):
        shutil.copy(p, flat)
    assert p19.cohort(flat).fingerprint == p19.cohort(two).fingerprint


def test_the_command_builds_the_cohort(two, tmp_path, capsys):
    rnn_transfer_cohort("physionet2019", path=str(two), out=str(tmp_path / "out"), hours=12, test="B")
    made = Cohort.load(tmp_path / "out")
    assert made.meta["hours"] == 12 and made.events["hour"].max() == 12
    printed = capsys.readouterr().out
    assert "10 stays" in printed and "labels: measured; train and val" in printed and made.meta["labels"] == "measured"
    rnn_transfer_cohort("physionet2019", path=str(two), out=str(tmp_path / "all"), labels="all")
    assert Cohort.load(tmp_path / "all").meta["labels"] == "all"
    assert made.stays["site"].tolist() == list("AAAAABBBBB")


def test_a_changed_site_is_noticed(two, tmp_path):
    made = p19.cohort(two)
    made.save(tmp_path / "out")
    made.stays.assign(site="A").to_parquet(tmp_path / "out" / "stays.parquet")
    with pytest.raises(BadInput, match="the fingerprint is not that"):
        Cohort.load(tmp_path / "out")
    with pytest.raises(BadInput, match="column site: .*name no site"):
        Cohort(made.events, made.stays.assign(site=None), made.channels, made.tasks).validate()


def test_a_run_takes_the_window_of_the_cohort(two, tmp_path):
    p19.cohort(two).save(tmp_path / "out")
    toy_cohort(60).save(tmp_path / "toy")
    assert _fill_in_options(tmp_path / "out", "quick", {})[0]["hours"] == 24
    assert _fill_in_options(tmp_path / "out", "quick", dict(hours=12))[0]["hours"] == 12
    assert _fill_in_options(tmp_path / "toy", "quick", {})[0]["hours"] == 48


@pytest.mark.parametrize("hours", [0, 1.5, 400, True, "24", float("nan"), float("inf")])
def test_impossible_windows(two, hours):
    with pytest.raises(BadInput, match="expected a whole number from 1 to 336"):
        p19.cohort(two, hours=hours)


# ---------------------------------------------------------------- faults


def replace_line(text, k, new):
    lines = text.split("\n")
    lines[k] = new
    return "\n".join(lines)


FAULTS = {
    "missing column": (stay().replace("|Lactate|", "|Lactat|"), "column Lactate: is missing; found 'Lactat': rename"),
    "no label": (
        "\n".join(row.rpartition("|")[0] for row in stay().split("\n")),
        "p000003.psv: column SepsisLabel: is missing",
    ),
    "commas": (stay().replace("|", ","), "fields are separated by |"),
    "text": (replace_line(stay(), 4, line(4, HR="high")), "column HR: row 5: found 'high', which is no number"),
    "infinite": (replace_line(stay(), 2, line(2, Temp="inf")), "column Temp: row 3: found 'inf'"),
    "decimal comma": (replace_line(stay(), 2, line(2, Temp="37,5")), "column Temp: row 3: found '37,5'"),
    "cut row": (stay()[:-40], "fields where the header has 41; the file is cut or damaged"),
    "one field more": (replace_line(stay(), 3, line(3) + "|0"), "row 4: 42 fields where the header has 41"),
    "twice": (stay().replace("|EtCO2|", "|HR|"), "column HR: is there twice"),
    "web page": ("<html>\nNot found</html>", "fields are separated by |"),
    "binary": (b"\x00\x01\xff" * 99, "is missing"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_in_a_file_are_named(two, what):
    text, message = FAULTS[what]
    put(two, {3: text})
    with pytest.raises(BadInput) as caught:
        p19.cohort(two)
    assert message in str(caught.value) and "p000003.psv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["training_setA/p3.psv", "training_setA/more/000003.psv"])
def test_a_fault_names_the_file_as_it_is_called(two, name):
    (two / name).parent.mkdir(exist_ok=True)
    (two / "training_setA" / "p000003.psv").rename(two / name)
    for text in (FAULTS["missing column"][0], FAULTS["text"][0]):
        (two / name).write_text(text)
        with pytest.raises(BadInput, match=f"data: {name}: column"):
            p19.cohort(two)


LOSSES = {
    "empty file": (b"", "file without a row", 1),
    "header alone": (HEADER, "file without a row", 1),
    "hour twice": (stay() + line(30, HR=80) + "\n", "same as an earlier row of its hour", 1),
    "hour twice, different": (stay() + line(30, HR=99) + "\n", "differs from an earlier row of its hour", 1),
    "gap": (replace_line(stay(), 4, line(3, HR=80)), "hours without a row between first and last", 1),
    "no hour": (replace_line(stay(), 4, line("NaN", HR=80)), "ICULOS is no hour", 1),
    "half an hour": (replace_line(stay(), 4, line(4.5, HR=80)), "ICULOS is no hour", 1),
    "label falls back": (
        replace_line(stay(onset=27), 30, line(30, 0, HR=80)),
        "SepsisLabel falls back to 0",
        1,
    ),
    "label missing": (replace_line(stay(), 9, line(9, "NaN")), "SepsisLabel is empty in a row", 1),
    "label of 2": (replace_line(stay(), 9, line(9, 2)), "SepsisLabel is neither 0 nor 1 in a row", 1),
    "label of a half": (replace_line(stay(), 9, line(9, 0.5)), "SepsisLabel is neither 0 nor 1 in a row", 1),
    "row with a label of 2": (replace_line(stay(), 9, line(9, 2)), "SepsisLabel is neither 0 nor 1", 1),
    "row without a label": (replace_line(stay(), 9, line(9, "NaN")), "SepsisLabel is empty", 1),
    "header twice": (stay() + HEADER + "\n", "headers in the middle of a file", 1),
    "starts late": (
        "\n".join([HEADER, *(line(h, HR=80) for h in range(30, 40))]),
        "first row after hour 24",
        1,
    ),
    "no hours": ("\n".join([HEADER, line("NaN", HR=80), ""]), "no row of the stay has a readable hour", 1),
    "spaces": (HEADER + "\n  \n", "file without a row", 1),
    "no reading": (stay(HR="NaN", Lactate=3), "without a reading of an input channel in the first 24 hours", 1),
    "impossible values": (stay(HR=-5, FiO2=4000, Temp=37), "HR: outside the possible range", 24),
}


@pytest.mark.parametrize("what", LOSSES)
def test_losses_are_counted(two, what):
    text, reason, n = LOSSES[what]
    put(two, {3: text})
    assert reasons(p19.cohort(two, allow_loss=True).validate())[reason] == n


def test_losses_above_their_limit_stop_the_command(two, capsys):
    put(two, {3: b""})
    with pytest.raises(SystemExit):
        rnn_transfer_cohort("physionet2019", path=str(two), out=str(two / "out"))
    assert "1 of 10 stays (10.0%) dropped: file without a row, above 1%" in capsys.readouterr().err
    assert not (two / "out").exists()


def test_an_empty_label_and_another_number_have_reasons_of_their_own(two):
    "Of a stay with several problems one counts; the sepsis task is null in each of the three."
    put(two, {1: replace_line(stay(), 9, line(9, 2, HR=80)), 3: replace_line(stay(onset=27), 30, line(30, 0, HR=80))})
    put(two, {2: replace_line(replace_line(stay(onset=27), 30, line(30, 0, HR=80)), 9, line(9, "NaN", HR=80))})
    made = p19.cohort(two, allow_loss=True)
    found = {reason: n for reason, n in reasons(made).items() if reason.startswith("SepsisLabel")}
    assert found == {
        "SepsisLabel is empty": 1,
        "SepsisLabel is neither 0 nor 1": 1,
        "SepsisLabel falls back to 0": 1,
        "SepsisLabel is empty in a row": 1,
        "SepsisLabel is neither 0 nor 1 in a row": 1,
    }
    if p19.SEPSIS in made.stays:
        assert made.stays.set_index("stay_id").loc[[1, 2, 3], p19.SEPSIS].isna().all()
    with pytest.raises(BadInput, match="SepsisLabel is neither 0 nor 1 in a row, above 1%: download the sets again"):
        p19.cohort(two)


def test_an_unclear_label_makes_only_sepsis_null(two):
    put(two, {2: replace_line(stay(onset=27, Lactate=5), 30, line(30, 0, HR=80))})
    stays = p19.cohort(two, allow_loss=True).stays.set_index("stay_id")
    assert np.isnan(stays.loc[2, p19.SEPSIS]) and stays.loc[2, "Hyperlactataemia"] == 1


def test_unknown_columns_are_counted_and_order_does_not_matter(two):
    plain = p19.cohort(two)
    columns = ["Ward", *sorted(COLUMNS)]
    rows = [line(h, columns=columns, HR=80 + h % 3, Lactate=4, Ward=7) for h in range(1, 31)]
    put(two, {3: "\n".join(["|".join(columns), *rows, ""])})
    made = p19.cohort(two)
    assert made.fingerprint == plain.fingerprint
    assert reasons(made)["unknown column Ward, which the challenge does not have"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: b"\xef\xbb\xbf" + t.encode(),
        lambda t: t.encode("utf-16"),
        lambda t: t.replace("\n", "\n\n").encode(),
        lambda t: t.replace("NaN", "").encode(),
        lambda t: t.rstrip("\n").encode(),
        lambda t: (t.split("\n", 1)[0] + "\n" + "\n".join(t.rstrip("\n").split("\n")[:0:-1])).encode(),
        lambda t: t.replace("|80|", "| 80.0 |").encode(),
    ],
)
def test_other_ways_to_write_the_same(two, change):
    plain = p19.cohort(two).fingerprint
    put(two, {number: change(text) for number, text in some(1).items()})
    made = p19.cohort(two, allow_loss=True)
    assert made.fingerprint == plain


def test_mixed_hospitals_are_rejected(two):
    (two / "training_setA" / "p100001.psv").write_text(stay())
    with pytest.raises(BadInput, match="'training_setA/p100001.psv' lies in the set of hospital A; numbers from"):
        p19.cohort(two)


def test_numbers_of_neither_hospital_are_rejected(two):
    (two / "p200001.psv").write_text(stay())
    with pytest.raises(BadInput, match="has a number of neither hospital"):
        p19.cohort(two)


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_damaged_archives_are_rejected(two, tmp_path, kind):
    archive = tmp_path / f"training_setA.tar.{kind}"
    pack(two, archive, kind)
    whole = archive.read_bytes()
    for damaged in (whole[:-30], whole[: len(whole) // 2], b"", whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]):
        archive.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"training_setA.tar.*(cannot be read to its end|holds no stay)"):
            p19.cohort(archive)


def test_a_second_copy_counts_once_and_a_different_one_is_a_loss(two, tmp_path):
    plain = p19.cohort(two).fingerprint
    pack(two, two / "training.zip", "zip")
    made = p19.cohort(two)
    assert made.fingerprint == plain and reasons(made)["same as an earlier file of its number"] == 10
    put(two, {3: stay(40)})
    with pytest.raises(BadInput, match="differs from an earlier file of its number"):
        p19.cohort(two)


def test_other_files_are_counted(two):
    (two / "notes.md").write_text("x")
    (two / "training_setA" / "._p000001.psv").write_text("x")
    assert reasons(p19.cohort(two))["files that are no stays"] == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_nothing_is_a_loss(two):
    (two / "training_setA" / "p000009.psv").symlink_to(two / "nowhere")
    assert reasons(p19.cohort(two, allow_loss=True))["no regular file, or a link to nothing"] == 1


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "holds no stay"), (tmp_path / "nowhere", "no such folder or archive")):
        with pytest.raises(BadInput, match=message):
            p19.cohort(path)
    (tmp_path / "x.psv").write_text(stay())
    with pytest.raises(BadInput, match="no folder and no archive"):
        p19.cohort(tmp_path / "x.psv")


OTHERS = {  # {files: the database}
    ("set-a.tar.gz", "Outcomes-a.txt"): "PhysioNet 2012 .*, which the source physionet2012 reads",
    ("Outcomes-a.txt",): "PhysioNet 2012 .*, which the source physionet2012 reads",
    ("hosp/labevents.csv.gz", "icu/chartevents.csv.gz"): "MIMIC-IV .*, which the source mimic4 reads",
    ("NOTEEVENTS.csv.gz", "CHARTEVENTS.csv.gz"): "MIMIC-III .*, which the source mimic3 reads",
    ("data/0.parquet", "metadata/codes.parquet"): "MEDS .*, which the source meds reads",
}


@pytest.mark.parametrize("names", OTHERS)
def test_other_databases_are_named(tmp_path, names):
    for name in names:
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    if (tmp_path / "data" / "set-a.tar.gz").exists():
        (tmp_path / "set-a").mkdir()
        (tmp_path / "set-a" / "132539.txt").write_text("Time,Parameter,Value\n")
        shutil.make_archive(tmp_path / "data" / "set-a", "gztar", tmp_path, "set-a")
    with pytest.raises(BadInput, match=f"holds no stay.*; this is {OTHERS[names]}") as error:
        p19.cohort(tmp_path / "data")
    assert "unpack" not in str(error.value) and "challenge-2019" not in str(error.value)


def test_an_archive_of_the_other_challenge_is_named(tmp_path):
    (tmp_path / "set-a").mkdir()
    (tmp_path / "set-a" / "132539.txt").write_text("Time,Parameter,Value\n")
    archive = shutil.make_archive(tmp_path / "set-a", "gztar", tmp_path, "set-a")
    with pytest.raises(BadInput, match="this is PhysioNet 2012 .set-a.tar.gz., which the source physionet2012 reads"):
        p19.cohort(archive)


def test_compressed_tables_are_no_archives(tmp_path):
    (tmp_path / "tables.csv.gz").touch()
    with pytest.raises(BadInput, match="such as p000001.psv; download training_setA"):
        p19.cohort(tmp_path)


def test_the_other_challenge_names_these_data(two):
    with pytest.raises(BadInput, match="this is PhysioNet 2019 .*, which the source physionet2019 reads"):
        p12.cohort(two)


def test_archives_in_an_archive_are_named(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz"):
        pass
    with zipfile.ZipFile(tmp_path / "training.zip", "w") as archive:
        archive.writestr("training_setA.tar.gz", inner.getvalue())
    with pytest.raises(BadInput, match="it holds archives: unpack them first"):
        p19.cohort(tmp_path / "training.zip")


def test_a_task_that_is_no_phenotype_is_a_target(two, tmp_path):
    from rnn_transfer.data import PreparedCohort, run_data
    from rnn_transfer.transfer import transfer_tasks

    run_data(p19.cohort(two, allow_loss=True), tmp_path / "run", 24)
    prepared = PreparedCohort.load(tmp_path / "run")
    assert transfer_tasks(prepared, ["Hyperlactataemia"]) == {"Hyperlactataemia": "phenotype", p19.SEPSIS: "other"}


def test_fuzzing_finds_nothing():
    counts, faults = fuzz("physionet2019", 60, seed=1)
    assert not faults and counts["accepted"] and counts["rejected"]
