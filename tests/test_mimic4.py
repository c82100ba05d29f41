"MIMIC-IV: the open demo against a few lines of pandas, and faults in tables made by hand."

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.experiment.commands import rnn_transfer_cohort
from rnn_transfer.sources import mimic3, mimic4, synthetic_raw
from rnn_transfer.sources.mimic3_tables import write_toy_tables
from rnn_transfer.sources.mimic4_tables import convert_to_mimic4
from rnn_transfer.utilities.errors import BadInput


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic4-demo"


@pytest.fixture(scope="module")
def cohort(demo):
    return mimic4.cohort(demo)


@pytest.fixture(scope="module")
def tables(demo):
    "The demo's small tables, read by pandas."
    names = dict(stays="icu/icustays", admissions="hosp/admissions", patients="hosp/patients")
    names |= dict(diagnoses="hosp/diagnoses_icd", dictionary="hosp/d_icd_diagnoses")
    return {name: pd.read_csv(demo / f"{path}.csv.gz", dtype=dict(icd_code=str)) for name, path in names.items()}


@pytest.fixture(scope="module")
def kept(tables):
    "The stays that the rules keep."
    d = tables["stays"]
    d = d[d["first_careunit"] == d["last_careunit"]]
    d = d.merge(tables["admissions"]).merge(tables["patients"])
    d = d[~d.duplicated("hadm_id", keep=False)]
    year = pd.to_datetime(d["intime"]).dt.year
    return d.assign(age=d["anchor_age"] + year - d["anchor_year"]).query("age >= 18").sort_values("stay_id")


def phenotype_facts(shared) -> dict[tuple[int, str], str]:
    "{(version, code): phenotype} of the shared lists: a code is of ICD-9 if the list of ICD-9 has it."
    if not (shared / "facts").is_dir():
        pytest.skip("needs the lists of codes in ../shared/facts, which is not here")
    nine = json.loads((shared / "facts" / "phenotypes.json").read_text())
    nine = {code for phenotype in nine for code in phenotype["icd9"]}
    both = json.loads((shared / "facts" / "phenotypes_mimic4.json").read_text())["phenotypes"]
    pairs = [(code, name) for name, phenotype in both.items() for code in phenotype["codes"]]
    return {(9 if code in nine else 10, code): name for code, name in pairs}


# ---- the demo ----


def test_the_flow_is_counted_again(cohort, tables, kept):
    flow = {step["step"]: (step["stays"], step["subjects"]) for step in cohort.meta["flow"]}
    assert flow["ICU stays"] == (len(tables["stays"]), tables["stays"]["subject_id"].nunique())
    assert flow["age 18 or more"] == (len(kept), kept["subject_id"].nunique())
    assert flow["with an event in the ICU: phenotyping"] == (len(cohort.stays), cohort.stays["subject_id"].nunique())
    assert list(cohort.stays["stay_id"]) == list(kept["stay_id"])
    assert np.array_equal(cohort.stays["age"], kept["age"])


def test_phenotypes_are_counted_again(shared, cohort, tables, kept):
    "By the shared lists of codes."
    names = phenotype_facts(shared)
    known = tables["diagnoses"].merge(tables["dictionary"][["icd_code", "icd_version"]])
    found = pd.Series([names.get(key) for key in zip(known["icd_version"], known["icd_code"])])
    for name in set(names.values()):
        expected = kept["hadm_id"].isin(known["hadm_id"][(found == name).to_numpy()]).to_numpy(int)
        assert np.array_equal(cohort.stays[name], expected), name
    assert len(set(names.values())) == 25


def test_mortality_is_counted_again(cohort, kept):
    long = kept["los"].to_numpy() * 24 >= 48 - 1e-6
    mortality = cohort.stays["In-hospital mortality"]
    assert np.array_equal(mortality.notna(), long)
    assert np.array_equal(mortality[long], kept["hospital_expire_flag"][long])


def test_test_subjects_are_the_published_ones(shared, cohort):
    listed = dict(csv.reader((shared / "facts" / "mimic4_testset.csv").open()))
    test = {int(subject) for subject, is_test in listed.items() if is_test == "1"}
    assert test == mimic4.mimic4_test_subjects()
    is_test = cohort.stays["partition"] == "test"
    assert np.array_equal(is_test, cohort.stays["subject_id"].isin(test))
    rest = mimic4.mimic4_partitions([int(subject) for subject in listed if int(subject) not in test])
    assert 0.14 < (rest == "val").mean() < 0.16


def test_heart_rates_are_those_of_the_table(demo, cohort, kept):
    "The highest at each time, as text: 99 wins over 100."
    d = pd.read_csv(demo / "icu" / "chartevents_numeric_rebuilt.csv.gz", usecols=[2, 4, 6, 7], dtype=dict(value=str))
    d = d[d["itemid"] == 220045].merge(kept[["stay_id", "intime", "los"]])
    d["hour"] = (pd.to_datetime(d["charttime"]) - pd.to_datetime(d["intime"])).dt.total_seconds() / 3600
    d = d[(d["hour"] >= 0) & (d["hour"] < np.minimum(48, d["los"] * 24) + 1e-6)]
    text = d.assign(value=d["value"].str.removesuffix(".0"))
    expected = text.groupby(["stay_id", "hour"])["value"].max().astype(float)
    found = cohort.events[cohort.events["channel"] == "Heart Rate"]
    assert np.array_equal(found["stay_id"], expected.index.get_level_values(0))
    assert np.allclose(found["hour"], expected.index.get_level_values(1), atol=1e-9)
    assert np.array_equal(found["value"], expected)


def test_what_the_rebuilt_table_lacks_is_said(cohort):
    assert "capillary refill and other texts are absent" in cohort.meta["note"]
    [lost] = [loss for loss in cohort.meta["losses"] if "two words" in loss["reason"]]
    assert (lost["n"], lost["of"]) == (1426, 3266)
    assert "Capillary refill rate" not in set(cohort.events["channel"])
    assert (cohort.events["channel"] == "Glucose").sum() == 1142  # 785 without the numbers of hidden texts


# ---- tables made by hand ----


@pytest.fixture
def toy(tmp_path):
    return convert_to_mimic4(write_toy_tables(tmp_path / "mimic3"), tmp_path / "mimic4")


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return mimic3.cohort(write_toy_tables(tmp_path_factory.mktemp("toy")))


def same(made, right):
    tasks = [task.name for task in right.tasks]
    assert [task.name for task in made.tasks] == tasks
    columns = ["stay_id", "subject_id", "los_hours", *tasks]
    pd.testing.assert_frame_equal(made.stays[columns], right.stays[columns])
    pd.testing.assert_frame_equal(made.events, right.events)


def change(folder, name, edit):
    [path] = folder.glob(f"*/{name}.csv")
    path.write_text(edit(path.read_text()))
    return folder


def upper_case(folder):
    for path in folder.glob("*/*.csv"):
        header, _, rows = path.read_text().partition("\n")
        path.write_text(header.upper() + "\n" + rows)


def flat(folder):
    for path in folder.glob("*/*.csv"):
        path.rename(folder / path.name)


def packed(folder):
    for path in folder.glob("*/*.csv"):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def further_columns(folder):
    "Version 3.1 has more columns, in another order, than 2.2; and 2.2 some that it lacks."
    for path in folder.glob("*/*.csv"):
        d = pd.read_csv(path, dtype=str, keep_default_na=False)
        for optional in ("race", "gender", "anchor_year_group", "caregiver_id", "storetime", "warning", "specimen_id"):
            d = d.drop(columns=optional, errors="ignore")
        d.assign(language="ENGLISH", order_provider_id="P1").iloc[:, ::-1].to_csv(path, index=False)


@pytest.mark.parametrize("form", [upper_case, flat, packed, further_columns])
def test_the_form_of_the_tables_does_not_matter(toy, right, form):
    form(toy)
    same(mimic4.cohort(toy), right)


def test_the_simulated_hospital_is_the_same_in_both_forms(tmp_path):
    "But for admissions with a move between wards of one care unit: MIMIC-IV has no wards."
    synthetic_raw.write_raw(tmp_path / "mimic3", 600, 3)
    right = mimic3.cohort(tmp_path / "mimic3")
    made = mimic4.cohort(convert_to_mimic4(tmp_path / "mimic3", tmp_path / "mimic4", ".csv.gz"))
    both = set(made.stays["stay_id"]) & set(right.stays["stay_id"])
    assert len(both) > 0.95 * max(len(made.stays), len(right.stays))
    for c in made, right:
        c.stays = c.stays[c.stays["stay_id"].isin(both)].reset_index(drop=True)
        c.events = c.events[c.events["stay_id"].isin(both)].reset_index(drop=True)
    same(made, right)


FAULTS = {
    "no version": ("diagnoses_icd", lambda t: t.replace(",9\n", ",\n"), "column ICD_VERSION: neither 9 nor 10"),
    "no column of versions": (
        "diagnoses_icd",
        lambda t: t.replace("icd_version", "x"),
        "column ICD_VERSION is missing",
    ),
    "a code of ICD-10 as ICD-9": (
        "d_icd_diagnoses",
        lambda t: t.replace("78552,9", "78552,10"),
        "column ICD_VERSION: the code is one of the other version, such as 78552",
    ),
    "unknown codes": ("diagnoses_icd", lambda t: t.replace("78552", "X9999"), "ICD_CODE: no entry in D_ICD_DIAGNOSES"),
    "a stay twice": ("icustays", lambda t: t + t.splitlines()[2] + "\n", "column STAY_ID: 300 stands in lines 3, 10"),
    "no age": ("patients", lambda t: t.replace(",60,", ",,"), "column ANCHOR_AGE: an empty cell"),
    "no laboratory number": ("labevents", lambda t: t.replace("valuenum", "x"), "column VALUENUM is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_line_and_leaves_nothing(toy, tmp_path, fault):
    name, edit, message = FAULTS[fault]
    change(toy, name, edit)
    with pytest.raises(BadInput, match=message) as caught:
        mimic4.cohort(toy, out=tmp_path / "cohort")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cohort").exists()


def test_unknown_codes_are_counted(toy):
    losses = {loss["reason"]: loss["n"] for loss in mimic4.cohort(toy).meta["losses"]}
    assert losses["DIAGNOSES_ICD: column ICD_CODE: no entry in D_ICD_DIAGNOSES, such as ZZZ99"] == 1


def test_a_code_counts_under_its_version_alone(toy):
    "V420 is a transplanted kidney in ICD-9, and an accident in ICD-10."
    change(toy, "d_icd_diagnoses", lambda t: t + "V420,9,Kidney\nV420,10,Accident\nN17.9,10,Renal failure\n")
    change(toy, "diagnoses_icd", lambda t: t + "2,20,2,V420,9\n3,30,3,V420,10\n6,60,2,n179,10\n")
    found = mimic4.cohort(toy).stays.set_index("stay_id")
    assert found["Chronic kidney disease"].to_dict() == {200: 1, 300: 0, 600: 0, 900: 0}
    assert found["Acute and unspecified renal failure"].to_dict() == {200: 0, 300: 0, 600: 1, 900: 0}


def test_hidden_laboratory_texts_are_read_from_the_number(toy, right):
    change(toy, "labevents", lambda t: t.replace(",155,", ",___,").replace(",7.31,", ",,"))
    same(mimic4.cohort(toy), right)


def test_a_table_in_two_places_is_named(toy):
    shutil.copy(toy / "icu" / "icustays.csv", toy)
    with pytest.raises(BadInput, match=r"table ICUSTAYS is there twice: icustays.csv .* and icu/icustays.csv"):
        mimic4.cohort(toy)


def test_a_folder_inside_is_no_folder_of_tables(toy):
    with pytest.raises(BadInput, match="name the folder above, which has hosp and icu"):
        mimic4.cohort(toy / "icu")


def test_each_source_names_the_other(toy, tmp_path):
    with pytest.raises(BadInput, match="this is MIMIC-III .*, which the source mimic3 reads"):
        mimic4.cohort(tmp_path / "mimic3")
    with pytest.raises(BadInput, match="this is MIMIC-IV .*, which the source mimic4 reads"):
        mimic3.cohort(toy)
    flat(toy)
    with pytest.raises(BadInput, match="this is MIMIC-IV .*, which the source mimic4 reads"):
        mimic3.cohort(toy)


def test_the_real_chart_comes_before_the_rebuilt_one(toy, right):
    (toy / "icu" / "chartevents_numeric_rebuilt.csv").write_text("anything\n")
    made = mimic4.cohort(toy)
    same(made, right)
    assert "stands in" not in made.meta["note"]


def test_scores_of_the_rebuilt_chart_are_metavisions_words(toy):
    (toy / "icu" / "chartevents.csv").rename(toy / "icu" / "chartevents_numeric_rebuilt.csv")
    rows = "".join(
        f"6,60,600,,2100-03-01 09:30:00,,{item},{score}.0,{score},,0\n"
        for item, score in ((220739, 4), (223901, 6), (223900, 1))
    )
    change(toy, "chartevents_numeric_rebuilt", lambda t: t + rows)
    made = mimic4.cohort(toy)
    at = made.events.query("stay_id == 600 and hour == 1.5").set_index("channel")["value"]
    words = {c.name: c.values for c in made.channels if c.name in at}
    assert words["Glascow coma scale eye opening"][int(at["Glascow coma scale eye opening"])] == "Spontaneously"
    assert words["Glascow coma scale motor response"][int(at["Glascow coma scale motor response"])] == "Obeys Commands"
    assert "Glascow coma scale verbal response" not in at
    assert "stands in for CHARTEVENTS" in made.meta["note"]


def test_corrections_that_do_not_apply_are_named(toy):
    assert set(mimic4.cohort(toy, "all").meta["corrected"]) <= set(mimic4.MIMIC4_CORRECTIONS)
    with pytest.raises(BadInput, match="'ages' is not a correction; there are fluids, fio2_fraction"):
        mimic4.cohort(toy, "ages")


def test_the_command_builds_it(toy, tmp_path, capsys):
    rnn_transfer_cohort("mimic4", path=str(toy), out=str(tmp_path / "cohort"), corrected="capillary_refill,ranges")
    assert "corrected: capillary_refill, 1 touched" in capsys.readouterr().out
    assert json.loads((tmp_path / "cohort" / "cohort.json").read_text())["version"] == "MIMIC-IV"


# ---- the input window ----


@pytest.mark.parametrize("source", [mimic3, mimic4])
def test_another_window_is_stated(tmp_path, source):
    three = write_toy_tables(tmp_path / "three")
    tables = three if source is mimic3 else convert_to_mimic4(three, tmp_path / "four")
    usual, short = source.cohort(tables), source.cohort(tables, hours=2)
    assert "hours" not in usual.meta and short.meta["hours"] == 2
    assert short.events["hour"].max() <= 2.01 < usual.events["hour"].max()
    for hours in (0, 2.5, True, "24", float("nan")):
        with pytest.raises(BadInput, match="expected a whole number from 1, such as 48"):
            source.cohort(tables, hours=hours)
    name = source.__name__.rpartition(".")[2]
    rnn_transfer_cohort(name, path=str(tables), hours=2, out=str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "cohort.json").read_text())["hours"] == 2
