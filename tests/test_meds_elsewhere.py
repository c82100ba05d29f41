"MEDS as other hospitals write it: deaths, care units, outpatients, folders of labels, units in codes, column types."

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_meds import HEART_RATE, change, dataset, reasons

from rnn_transfer.sources import meds
from rnn_transfer.sources.meds_conversion import write_meds_shard
from rnn_transfer.utilities.errors import BadInput


def died(cohort) -> list:
    "The labels of mortality; a task that nobody has is left out of a cohort."
    return cohort.stays.get("In-hospital mortality", pd.Series(0, cohort.stays.index)).tolist()


@pytest.fixture
def codes(tmp_path):
    "A file of codes: the dataset is of another hospital than MIMIC's."
    path = tmp_path / "codes.csv"
    path.write_text(f"name,channel,unit\n{HEART_RATE},Heart Rate,bpm\n")
    return path


# ---- deaths: the stays of `dataset` are discharged on 2100-01-06 at 10:00 ----


@pytest.mark.parametrize(
    ("death", "discharge", "elsewhere", "in_mimic"),
    [
        ("2100-01-06 09:59", "2100-01-06 10:00", 1, 1),
        ("2100-01-06 10:00", "2100-01-06 10:00", 1, 1),
        ("2100-01-06 20:00", "2100-01-06 10:00", 0, 1),  # after the discharge; MIMIC has a day alone
        ("2100-01-07 00:10", "2100-01-06 10:00", 0, 0),
        ("2100-01-06 00:00", "2100-01-06 10:00", 1, 1),  # a day without a time
        ("2100-01-06 23:59:59", "2100-01-06 10:00", 1, 1),
        ("2100-01-01 00:00", "2100-01-06 10:00", 1, 0),  # the day of the admission
        ("2100-01-06 20:00", "2100-01-06 00:00", 1, 1),  # a discharge without a time
        ("2100-01-07 00:00", "2100-01-06 10:00", 0, 0),
    ],
)
def test_who_died_in_hospital(tmp_path, codes, death, discharge, elsewhere, in_mimic):
    dataset(tmp_path)
    time = f"""CASE WHEN code = 'MEDS_DEATH' THEN TIMESTAMP '{death}'
        WHEN time = TIMESTAMP '2100-01-06 10:00' THEN TIMESTAMP '{discharge}' ELSE time END AS time"""
    change(tmp_path, f"SELECT * REPLACE ({time}) FROM rows")
    assert died(meds.cohort(tmp_path, codes=codes)) == [elsewhere, 0] * 3
    assert died(meds.cohort(tmp_path)) == [in_mimic, 0] * 3


def test_without_admissions_a_death_after_the_stay_is_none_in_it(tmp_path, codes):
    time = "CASE WHEN code = 'MEDS_DEATH' THEN TIMESTAMP '2100-01-04 23:00' ELSE time END AS time"
    kept = "NOT starts_with(code, 'HOSPITAL') AND NOT starts_with(code, 'DIAG')"
    change(dataset(tmp_path), f"SELECT * REPLACE ({time}) FROM rows WHERE {kept} AND subject_id <> 2")
    made = meds.cohort(tmp_path, codes=codes, allow_loss=True)
    assert "mortality is death within the ICU stay" in made.meta["note"] and sum(died(made)) == 0


# ---- care units, and diagnoses of outpatients ----


def test_where_patients_went_is_no_care_unit(tmp_path, codes):
    change(
        dataset(tmp_path), "SELECT * REPLACE (replace(code, 'DISCHARGE//MICU', 'DISCHARGE//HOME') AS code) FROM rows"
    )
    made = meds.cohort(tmp_path, codes=codes)
    assert len(made.stays) == 6
    assert "6 of 6 stays (100.0%) imputed: ICU: ICU_DISCHARGE//HOME names no unit of an ICU_ADMISSION" in reasons(made)
    with pytest.raises(BadInput, match='no stay is left after the step "without transfers"'):
        meds.cohort(tmp_path)  # the units of MIMIC are those of stays


def test_a_discharge_from_another_unit_is_a_transfer(tmp_path, codes):
    moved = "CASE WHEN subject_id = 1 AND code LIKE 'ICU%' THEN replace(code, '{}', 'SICU') ELSE code END AS code"
    change(dataset(tmp_path), f"SELECT * REPLACE ({moved.format('MICU')}) FROM rows")  # SICU is a unit now
    assert len(meds.cohort(tmp_path, codes=codes).stays) == 6
    moved = "CASE WHEN subject_id = 2 THEN replace(code, 'DISCHARGE//MICU', 'DISCHARGE//SICU') ELSE code END AS code"
    change(tmp_path, f"SELECT * REPLACE ({moved}) FROM rows")
    assert len(meds.cohort(tmp_path, codes=codes).stays) == 5


@pytest.mark.parametrize(("time", "stops"), [("2099-01-01 10:00", False), ("2100-01-20 10:00", True)])
def test_diagnoses_that_miss_an_admission_by_days_stop_and_those_of_outpatients_do_not(tmp_path, codes, time, stops):
    dataset(tmp_path, more=tuple((s, time, "DIAGNOSIS//ICD//10//I10", None) for s in range(1, 7)))
    if stops:
        with pytest.raises(BadInput, match="6 of 12 diagnoses .*up to a day before an admission or 30 days after"):
            meds.cohort(tmp_path, codes=codes)
    made = meds.cohort(tmp_path, codes=codes, allow_loss=stops)
    line = "up to a day before an admission or 30 days after a discharge" if stops else "outside of every admission"
    assert f"6 of 12 diagnoses (50.0%) dropped: diagnoses {line}" in reasons(made) and len(made.stays) == 6


# ---- folders of labels ----


def write_labels(path, subjects, positive=True, time="2100-01-03 12:00"):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = pd.to_datetime([time] * len(subjects))
    frame = pd.DataFrame(dict(subject_id=subjects, prediction_time=times, boolean_value=positive))
    frame.to_parquet(path)


def names_and_labels(cohort) -> dict:
    others = [task.name for task in cohort.tasks if task.kind == "other"]
    return {name: cohort.stays[name].tolist() for name in others}


@pytest.mark.parametrize("given", ["labels", "labels/readm"])
@pytest.mark.parametrize("files", [("train/0", "tuning/0", "held_out/0"), ("0", "1", "2"), ("train", "tuning", "x")])
def test_shards_and_splits_of_labels_are_one_task(tmp_path, given, files):
    for i, name in enumerate(files):
        write_labels(tmp_path / f"labels/readm/{name}.parquet", [2 * i + 1, 2 * i + 2], [True, False])
    if given.endswith("readm") and files[-1] == "x":
        pytest.skip("a file with a name of its own is a task of its own there")
    made = meds.cohort(dataset(tmp_path / "in"), labels=tmp_path / given)
    assert names_and_labels(made) == {"readm": [1, 0] * 3}


def test_tasks_in_folders_of_one_name_stay_apart(tmp_path):
    for place, positive in ("in_icu", True), ("in_hospital", False):
        for split, subjects in ("train", [1, 2, 3, 4]), ("held_out", [5, 6]):
            path = tmp_path / f"labels/mortality/{place}/first_24h/{split}/0.parquet"
            write_labels(path, subjects, [positive ^ (subject == 1) for subject in subjects])
    made = meds.cohort(dataset(tmp_path / "in"), labels=tmp_path / "labels")
    assert names_and_labels(made) == {
        "mortality/in_hospital/first_24h": [1, 0, 0, 0, 0, 0],
        "mortality/in_icu/first_24h": [0, 1, 1, 1, 1, 1],
    }
    made.save(tmp_path / "out")
    alone = meds.cohort(tmp_path / "in", labels=tmp_path / "labels/mortality/in_icu/first_24h")
    assert names_and_labels(alone) == {"first_24h": [0, 1, 1, 1, 1, 1]}


# ---- units in codes, scores ----


@pytest.mark.parametrize(
    ("code", "unit", "value", "expected", "said"),
    [
        ("WEIGHT//lb", "", 180, 81.647, "6 of 6 rows (100.0%) converted: Weight: in the unit of the code, not of the"),
        (
            "WEIGHT//lb",
            "kg",
            80,
            80,
            "6 of 6 rows (100.0%) converted: Weight: in the unit of the file, not of the code",
        ),
        ("WEIGHT//kg", "", 80, 80, ""),
        ("WEIGHT//kg", "kg", 80, 80, ""),
        ("WEIGHT//mmHg", "", 80, 80, ""),  # the row says that it is a weight
        ("WEIGHT", "", 80, 80, ""),
        ("lb", "", 80, 80, ""),  # no unit after a code
    ],
)
def test_a_code_that_is_written_out_is_read_in_its_unit(tmp_path, code, unit, value, expected, said):
    rows = tuple((s, "2100-01-01 11:00", code, value) for s in range(1, 7))
    file = dataset(tmp_path, more=rows) / "codes.csv"
    file.write_text(f"name,channel,unit\n{HEART_RATE},Heart Rate,bpm\n{code},Weight,{unit}\n")
    made = meds.cohort(tmp_path, codes=file)
    weights = made.events.loc[made.events["channel"] == "Weight", "value"]
    np.testing.assert_allclose(weights, [expected] * 6, rtol=1e-4)
    assert said in reasons(made) and bool(said) == ("converted: Weight" in reasons(made))


@pytest.mark.parametrize("text", ["4.0", "4", "Eyes open spontaneously", None])
def test_a_score_is_read_whatever_its_text_says(tmp_path, text):
    dataset(tmp_path)
    value = "NULL" if text is None else f"'{text}'"
    change(tmp_path, f"SELECT *, CASE WHEN code = '{HEART_RATE}' THEN {value} END AS text_value FROM rows")
    change(tmp_path, "SELECT * REPLACE (CASE WHEN numeric_value > 0 THEN 4 END::FLOAT AS numeric_value) FROM rows")
    file = tmp_path / "codes.csv"
    file.write_text(f"name,channel,unit,read_as\n{HEART_RATE},Glascow coma scale eye opening,,score\n")
    made = meds.cohort(tmp_path, codes=file)
    assert len(made.events) == 288 and made.events["value"].nunique() == 1 and "unreadable" not in reasons(made)


# ---- types and names of files ----


def write_again(folder, name="0", **types) -> pa.Table:
    "Write the shard of a dataset with other types of columns."
    path = folder / "data" / "0.parquet"
    table = pq.read_table(path)
    for column, kind in types.items():
        i = table.schema.get_field_index(column)
        table = table.set_column(i, column, table[column].cast(kind))
    pq.write_table(table, path.with_name(f"{name}.parquet"))
    return table


@pytest.mark.parametrize("kind", [pa.timestamp("ns", "UTC"), pa.timestamp("ms", "UTC"), pa.timestamp("ns")])
def test_every_type_of_time_is_read(tmp_path, kind):
    plain = meds.cohort(dataset(tmp_path))
    write_again(tmp_path, time=kind)
    made = meds.cohort(tmp_path)
    assert made.events.equals(plain.events)
    assert ("are read as UTC" in made.meta["note"]) == (kind.tz is not None)
    labels = pd.DataFrame(dict(subject_id=range(1, 7), boolean_value=[True, False] * 3))
    labels = labels.assign(prediction_time=pd.Timestamp("2100-01-03 12:00", tz=kind.tz).as_unit(kind.unit))
    labels.to_parquet(tmp_path / "l.parquet")
    assert names_and_labels(meds.cohort(tmp_path, labels=tmp_path / "l.parquet")) == {"l": [1, 0] * 3}


def test_columns_without_a_value_may_have_no_type(tmp_path):
    plain = meds.cohort(dataset(tmp_path))
    columns = ("subject_id", "time", "code", "numeric_value")
    pq.write_table(pa.table({name: pa.nulls(0) for name in columns}), tmp_path / "data" / "1.parquet")
    static = dict(subject_id=pa.array([1, 2]), code=pa.array(["GENDER//F", "GENDER//M"]))
    static |= dict(time=pa.nulls(2), numeric_value=pa.nulls(2))
    pq.write_table(pa.table({name: static[name] for name in columns}), tmp_path / "data" / "2.parquet")
    assert meds.cohort(tmp_path).events.equals(plain.events)
    write_labels(tmp_path / "labels/l/0.parquet", range(1, 7), [True, False] * 3)
    nothing = {name: pa.nulls(0) for name in ("subject_id", "prediction_time", "boolean_value")}
    pq.write_table(pa.table(nothing), tmp_path / "labels/l/1.parquet")
    assert names_and_labels(meds.cohort(tmp_path, labels=tmp_path / "labels")) == {"l": [1, 0] * 3}


def test_a_number_of_a_subject_without_room_is_named(tmp_path):
    table = pq.read_table(dataset(tmp_path) / "data" / "0.parquet")
    large = pa.array([2**63 + s for s in table["subject_id"].to_pylist()], pa.uint64())
    pq.write_table(table.set_column(0, "subject_id", large), tmp_path / "data" / "0.parquet")
    with pytest.raises(BadInput, match="0.parquet: column subject_id: a larger number than a subject can have; write"):
        meds.cohort(tmp_path)


def test_shards_may_be_counted_from_one(tmp_path):
    shard = dataset(tmp_path) / "data" / "0.parquet"
    duckdb.sql(f"FROM '{shard}' WHERE subject_id < 4").write_parquet(str(shard.with_name("1.parquet")))
    duckdb.sql(f"FROM '{shard}' WHERE subject_id >= 4").write_parquet(str(shard.with_name("2.parquet")))
    shard.unlink()
    made = meds.cohort(tmp_path)
    assert len(made.stays) == 6 and "data: shards that may never have been: 0.parquet" in reasons(made)


def test_hidden_folders_are_not_read(tmp_path):
    dataset(tmp_path)
    (tmp_path / "data" / ".ipynb_checkpoints").mkdir()
    write_meds_shard(tmp_path / "data" / ".ipynb_checkpoints" / "0.parquet", [(1, "2100-01-01 11:30", HEART_RATE, 200)])
    assert meds.cohort(tmp_path).events["value"].max() < 100


def test_stays_that_have_not_ended_are_counted(tmp_path):
    stays = pd.DataFrame(dict(subject_id=range(1, 201), intime="2100-01-01 10:00:00", outtime="2100-01-04 10:00:00"))
    stays.loc[3, "outtime"] = None
    stays.to_csv(tmp_path / "stays.csv", index=False)
    made = meds.cohort(dataset(tmp_path, n=200), stays=tmp_path / "stays.csv")
    assert len(made.stays) == 199
    assert "1 of 200 stays (0.5%) dropped: stays.csv: intime or outtime is empty" in reasons(made)
    stays.loc[4:9, "outtime"] = None
    stays.to_csv(tmp_path / "stays.csv", index=False)
    with pytest.raises(BadInput, match="7 of 200 stays .* intime or outtime is empty, above 1%: fill the column"):
        meds.cohort(tmp_path, stays=tmp_path / "stays.csv")
