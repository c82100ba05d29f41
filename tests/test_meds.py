"MEDS: the open demo of MIMIC-IV against its raw tables, and faults in datasets made by hand."

import json
import re
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from test_mimic4 import phenotype_facts

from rnn_transfer.cohorts.losses import read_losses
from rnn_transfer.data import Cohort
from rnn_transfer.experiment.commands import rnn_transfer_cohort
from rnn_transfer.sources import meds, mimic4, synthetic_raw
from rnn_transfer.sources.meds_codes import match_codes_to_rules, mimic4_code_rules
from rnn_transfer.sources.meds_conversion import convert_to_meds, write_meds_shard
from rnn_transfer.sources.mimic3_rules import item_map
from rnn_transfer.sources.mimic3_tables import write_toy_tables
from rnn_transfer.sources.mimic4_tables import convert_to_mimic4
from rnn_transfer.utilities.errors import BadInput

HEART_RATE, SATURATION = "LAB//220045//bpm", "LAB//220277//%"


# ---- the demo in both forms ----


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic4-demo-meds"


@pytest.fixture(scope="module")
def made(demo):
    return meds.cohort(demo)


@pytest.fixture(scope="module")
def right(shared):
    "The cohort of the raw tables, with the numbers of stays that MEDS gives: 1000 times the subject, and a count."
    tables = shared / "data" / "mimic4-demo"
    cohort = mimic4.cohort(tables)
    stays = pd.read_csv(tables / "icu" / "icustays.csv.gz").sort_values(["subject_id", "intime"])
    number = stays["subject_id"] * 1000 + stays.groupby("subject_id").cumcount() + 1
    number = dict(zip(stays["stay_id"], number))
    rename = [frame.assign(stay_id=frame["stay_id"].map(number)) for frame in (cohort.stays, cohort.events)]
    sorted_stays, events = (frame.sort_values(by) for frame, by in zip(rename, ("stay_id", ["stay_id", "hour"])))
    return Cohort(events, sorted_stays.reset_index(drop=True), cohort.channels, cohort.tasks, cohort.meta)


def test_stays_and_labels_of_the_demo_are_those_of_the_tables(made, right):
    assert len(made.stays) == 112 and made.meta["flow"] == right.meta["flow"]
    assert [task.name for task in made.tasks] == [task.name for task in right.tasks]
    assert len(made.tasks) == 26 and not made.meta["left_out"]
    exact = [column for column in right.stays if column != "los_hours"]
    pd.testing.assert_frame_equal(made.stays[exact], right.stays[exact])
    assert np.abs(made.stays["los_hours"] - right.stays["los_hours"]).max() < 1e-9  # LOS has 15 digits in the table


def test_events_of_the_demo_are_those_of_the_tables(made, right):
    keys = ["stay_id", "hour", "channel"]
    ours, theirs = (c.events.assign(channel=c.events["channel"].astype(str)) for c in (made, right))
    joined = ours.merge(theirs, on=keys, how="outer", suffixes=("", "_of_tables"), indicator=True)
    assert len(ours) == len(theirs) == 36_114
    assert set(joined["_merge"]) == {"both"}
    assert (joined["value"] == joined["value_of_tables"]).all()


def test_corrected_values_of_the_demo_are_those_of_the_tables(shared, demo):
    made, right = meds.cohort(demo, corrected="all"), mimic4.cohort(shared / "data" / "mimic4-demo", "all")
    ours, theirs = (c.events.merge(c.stays[["stay_id", "subject_id"]]).drop(columns="stay_id") for c in (made, right))
    by = ["subject_id", "channel", "hour", "value"]
    ours, theirs = (d.astype({"channel": str}).sort_values(by, ignore_index=True)[by] for d in (ours, theirs))
    assert len(ours) == 36_051 and ours.equals(theirs)


def test_grid_of_the_demo_has_no_differing_cell(made, right):
    ours, theirs = made.grid(hours=48), right.grid(hours=48)
    assert list(ours.stay_ids) == list(theirs.stay_ids)
    assert list(ours.columns) == list(theirs.columns)
    assert (ours.X != theirs.X).sum() == 0 and ours.X.shape == (112, 48, 76)


def test_times_of_the_demo_stays_are_those_of_the_table(shared, demo):
    "All 140 stays, before any is left out: first and last unit and both times."
    query = f"SELECT subject_id, time, code FROM '{demo}/data/*.parquet' WHERE code LIKE 'ICU%' ORDER BY ALL"
    marks = duckdb.sql(query).df()
    stays = pd.read_csv(shared / "data" / "mimic4-demo" / "icu" / "icustays.csv.gz")
    times = ["intime", "outtime"]
    stays[times] = stays[times].apply(pd.to_datetime)
    for unit, time, word in (("first", "intime", "ADMISSION"), ("last", "outtime", "DISCHARGE")):
        code = f"ICU_{word}//" + stays[f"{unit}_careunit"]
        expected = set(zip(stays["subject_id"], stays[time], code))
        ours = marks[marks["code"].str.startswith(f"ICU_{word}")]
        assert expected == set(ours.itertuples(index=False, name=None)) and len(expected) == 140


def test_phenotypes_of_the_demo_are_counted_again(shared, demo, made):
    "From the codes themselves and the shared lists: those at the discharge of the admission that holds the stay."
    query = "SELECT subject_id, time, code FROM '{}/data/*.parquet' WHERE code LIKE '{}%'"
    diagnoses, ends = (duckdb.sql(query.format(demo, code)).df() for code in ("DIAGNOSIS", "HOSPITAL_DISCHARGE"))
    parts = diagnoses["code"].str.split("//", expand=True)
    names = {(str(version), code): name for (version, code), name in phenotype_facts(shared).items()}
    diagnoses["phenotype"] = [names.get(key) for key in zip(parts[2], parts[3])]
    icu = duckdb.sql(query.format(demo, "ICU_ADMISSION")).df().sort_values(["subject_id", "time"])
    icu["stay_id"] = icu["subject_id"] * 1000 + icu.groupby("subject_id").cumcount() + 1
    ends = ends.sort_values("time").rename(columns={"time": "end"})
    of_stay = pd.merge_asof(
        icu.sort_values("time"), ends, left_on="time", right_on="end", by="subject_id", direction="forward"
    )
    merged = of_stay.merge(diagnoses, left_on=["subject_id", "end"], right_on=["subject_id", "time"])
    found = set(zip(merged["stay_id"], merged["phenotype"]))
    for name in names.values():
        assert [(s, name) in found for s in made.stays["stay_id"]] == made.stays[name].astype(bool).tolist(), name


def test_losses_of_the_demo_are_counted(made):
    assert "time is empty" not in reasons(made) and "unit is none of" not in reasons(made)
    counted = {loss.reason: loss for loss in read_losses(made.meta)}
    repeated = counted["rows that repeat another row in all columns"]
    assert (repeated.n, repeated.of) == (82_516, 916_166)
    ambiguous = counted["a verbal score of 1 stands for two words"]
    assert (ambiguous.n, ambiguous.of) == (1_426, 3_266)
    assert any("codes that stand for no channel" in reason for reason in counted)
    assert any("float32" in reason for reason in counted)
    assert "no text_value" in made.meta["note"]
    assert made.meta["version"] == "MIMIC-IV-Demo (re-laid) 2.2"


# ---- one source for the map of items ----


def test_codes_are_those_of_the_items():
    items = item_map()
    codes = [f"LAB//{itemid}//any unit" for itemid in items["itemid"]]
    rules = mimic4_code_rules()
    found = match_codes_to_rules(codes, rules)
    assert [rules[found[code]].channel for code in codes] == items["channel"].tolist()


# ---- datasets made by hand ----


def dataset(folder: Path, n: int = 6, more: tuple = ()) -> Path:
    "Subjects with a stay of three days, a heart rate each hour, and mortality of every second one."
    rows = list(more)
    for subject in range(1, n + 1):
        marks = [("2040-01-01", "MEDS_BIRTH"), ("2100-01-01 08:00", "HOSPITAL_ADMISSION//EW EMER.")]
        marks += [("2100-01-01 10:00", "ICU_ADMISSION//MICU"), ("2100-01-04 10:00", "ICU_DISCHARGE//MICU")]
        marks += [("2100-01-06 10:00", "HOSPITAL_DISCHARGE//DIED"), ("2100-01-06 10:00", "DIAGNOSIS//ICD//10//R6521")]
        marks += [("2100-01-06 10:00", "MEDS_DEATH")] if subject % 2 else []
        rows += [(subject, time, code, None) for time, code in marks]
        hours = pd.date_range("2100-01-01 10:00", periods=48, freq="h").strftime("%Y-%m-%d %H:%M")
        rows += [(subject, hour, HEART_RATE, 80.1 + i % 5) for i, hour in enumerate(hours)]
    write_meds_shard(folder / "data" / "0.parquet", rows)
    return folder


def reasons(cohort: Cohort) -> str:
    return "\n".join(map(str, read_losses(cohort.meta)))


def change(folder: Path, sql: str) -> None:
    "Write the only shard again, by a query over `rows`."
    path = folder / "data" / "0.parquet"
    rows = duckdb.sql(f"FROM '{path}'").df()  # noqa: F841
    duckdb.sql(sql).to_arrow_table()
    duckdb.sql(sql).write_parquet(str(path))


def test_float32_values_are_read_as_charted(tmp_path):
    made = meds.cohort(dataset(tmp_path))
    assert sorted(made.events["value"].unique()) == [80.1, 81.1, 82.1, 83.1, 84.1]
    assert "288 of 288 values (100.0%) imputed: numeric_value: float32" in reasons(made)


@pytest.mark.parametrize(
    "sql, problem",
    [
        ("SELECT * EXCLUDE (code) FROM rows", "column code is missing"),
        ("SELECT * EXCLUDE (subject_id), subject_id AS patient_id FROM rows", "rename patient_id"),
        ("SELECT * REPLACE (time::VARCHAR AS time) FROM rows", "column time is of type VARCHAR"),
        ("SELECT * REPLACE (time::DATE AS time) FROM rows",
         "0.parquet: column time is of type DATE; write times with hour and minute"),
        ("SELECT * REPLACE (subject_id::VARCHAR AS subject_id) FROM rows", "column subject_id is of type VARCHAR"),
        ("SELECT * REPLACE (numeric_value::VARCHAR AS numeric_value) FROM rows", "column numeric_value is of type"),
        ("SELECT * REPLACE (1 AS code) FROM rows", "column code is of type INTEGER"),
        ("SELECT * FROM rows WHERE NOT starts_with(code, 'ICU')", "no ICU stay"),
        ("SELECT * FROM rows WHERE NOT starts_with(code, 'LAB')", "no code is a channel"),
        ("SELECT * FROM rows WHERE code <> 'MEDS_BIRTH'", "ICU stays of subjects without MEDS_BIRTH"),
        ("SELECT * FROM rows WHERE NOT (starts_with(code, 'ICU_DIS') AND subject_id = 1)", "without a discharge"),
        ("SELECT * REPLACE (CASE WHEN numeric_value > 84 THEN NULL ELSE time END AS time) FROM rows", "time is empty"),
        ("SELECT * REPLACE (time + INTERVAL 9 DAY AS time) FROM rows WHERE numeric_value > 0 UNION ALL "
         "SELECT * FROM rows WHERE NOT coalesce(numeric_value > 0, false)", "no row of a mapped code lies within"),
        ("SELECT * FROM rows LIMIT 0", "no code is a channel"),
        ("SELECT * REPLACE (NULL::TIMESTAMP AS time) FROM rows", r"column time is empty in all \d+ rows; write"),
        ("SELECT * REPLACE ('nan'::FLOAT AS numeric_value) FROM rows",
         "no row of a mapped code lies within .*; 288 of 288 values .* not a finite number"),
    ],
)  # fmt: skip
def test_wrong_datasets_end_in_one_line(tmp_path, sql, problem):
    change(dataset(tmp_path), sql)
    with pytest.raises(BadInput, match=problem) as error:
        meds.cohort(tmp_path)
    assert "\n" not in str(error.value)


def test_a_shard_of_dates_among_shards_of_times_is_named(tmp_path):
    shard = dataset(tmp_path) / "data" / "0.parquet"
    late = f"SELECT * REPLACE (time::DATE AS time, subject_id + 6 AS subject_id) FROM '{shard}'"
    duckdb.sql(late).write_parquet(str(tmp_path / "data" / "1.parquet"))
    with pytest.raises(BadInput, match="data/1.parquet: column time is of type DATE; write times with hour"):
        meds.cohort(tmp_path)


MARKS = dict(MEDS_DEATH=3, MEDS_BIRTH=6, ICU_ADMISSION=6, ICU_DISCHARGE=6)  # {code: rows of the 6 subjects}
MARKS |= dict(HOSPITAL_ADMISSION=6, HOSPITAL_DISCHARGE=6, DIAGNOSIS=6)
EMPTY_MARKS = [(code, "time") for code in MARKS] + [("MEDS_DEATH", "subject_id"), ("MEDS_BIRTH", "subject_id")]


@pytest.mark.parametrize("code, column", EMPTY_MARKS)
def test_marks_without_a_time_or_a_subject_stop_the_command(tmp_path, code, column):
    "One row in 330, which a limit over all rows would pass, and the first reason is the true one."
    empty = f"CASE WHEN starts_with(code, '{code}') AND subject_id = 1 THEN NULL ELSE {column} END AS {column}"
    change(dataset(tmp_path), f"SELECT * REPLACE ({empty}) FROM rows")
    n, problem = MARKS[code], f"{code}: {column} is empty"
    first = rf"too much is lost: 1 of {n} rows \([0-9.]+%\) dropped: {problem}, above 1%: fill the column"
    with pytest.raises(BadInput, match=first) as error:
        meds.cohort(tmp_path)
    assert "shard" not in str(error.value) and "add MEDS_BIRTH" not in str(error.value)
    made = meds.cohort(tmp_path, allow_loss=True)
    assert f"1 of {n} rows ({1 / n:.1%}) dropped: {problem}" in reasons(made)
    fixes = " ".join(loss.fix for loss in read_losses(made.meta))
    assert "shard" not in fixes and "add MEDS_BIRTH" not in fixes


def test_fifty_deaths_without_a_time_are_no_survivors(tmp_path):
    "50 of 150 deaths, in 16,500 rows: 0.3 % of all rows, and a third of the labels."
    empty = "CASE WHEN code = 'MEDS_DEATH' AND subject_id < 100 THEN NULL ELSE time END AS time"
    change(dataset(tmp_path, 300), f"SELECT * REPLACE ({empty}) FROM rows")
    with pytest.raises(BadInput, match=r"50 of 150 rows \(33.3%\) dropped: MEDS_DEATH: time is empty"):
        meds.cohort(tmp_path)


def test_few_marks_without_a_time_are_counted_and_explain_what_is_missing(tmp_path):
    "1 discharge in 120 is below the limit."
    empty = "CASE WHEN starts_with(code, 'ICU_DIS') AND subject_id = 1 THEN NULL ELSE time END AS time"
    change(dataset(tmp_path, 120), f"SELECT * REPLACE ({empty}) FROM rows")
    made = meds.cohort(tmp_path)
    assert len(made.stays) == 119
    found = {loss.reason: loss for loss in read_losses(made.meta)}
    assert found["ICU_DISCHARGE: time is empty"].n == 1
    pairs = found["ICU: admissions without a discharge"]
    assert pairs.fix == "ICU_DISCHARGE: time is empty in 1 of 120 rows; fill the column"
    assert not any("codes that are used" in reason for reason in found)


def test_marks_of_icu_stays_do_not_count_where_stays_are_given(tmp_path):
    empty = "CASE WHEN starts_with(code, 'ICU') THEN NULL ELSE time END AS time"
    change(dataset(tmp_path), f"SELECT * REPLACE ({empty}) FROM rows")
    with pytest.raises(BadInput, match="ICU_ADMISSION: time is empty"):
        meds.cohort(tmp_path)
    with pytest.raises(BadInput, match="no ICU stay .*; ICU_ADMISSION: time is empty in 6 of 6 rows; fill the column"):
        meds.cohort(tmp_path, allow_loss=True)
    stays = pd.DataFrame(dict(subject_id=range(1, 7), intime="2100-01-01 10:00:00", outtime="2100-01-04 10:00:00"))
    stays.to_csv(tmp_path / "stays.csv", index=False)
    made = meds.cohort(tmp_path, stays=tmp_path / "stays.csv")
    assert len(made.stays) == 6 and "time is empty" not in reasons(made)


def in_unit(folder: Path, unit: str, condition: str) -> Path:
    "The dataset with some heart rates in another unit."
    changed = f"CASE WHEN code = '{HEART_RATE}' AND {condition} THEN 'LAB//220045//{unit}' ELSE code END AS code"
    change(dataset(folder), f"SELECT * REPLACE ({changed}) FROM rows")
    return folder


def test_values_in_an_unknown_unit_are_dropped_and_counted(tmp_path):
    plain = meds.cohort(dataset(tmp_path / "plain"))
    few = meds.cohort(in_unit(tmp_path / "few", "furlongs", "numeric_value > 84"))
    known = "Heart Rate: unit is none of beats/min: LAB//220045//furlongs"
    assert f"54 of 288 rows (18.8%) dropped: {known}" in reasons(few)
    assert "codes that stand for no channel" not in reasons(few)
    kept = plain.events[plain.events["value"] < 84].reset_index(drop=True)
    assert few.events.equals(kept) and len(plain.events) - len(kept) == 54
    with pytest.raises(BadInput, match=rf"108 of 288 rows .* dropped: {known}, above 20%: convert the values"):
        meds.cohort(in_unit(tmp_path / "many", "furlongs", "numeric_value > 83"))
    with pytest.raises(BadInput, match=f"no code is in a unit that is read: 288 of 288 rows .*{known}.*--codes FILE"):
        meds.cohort(in_unit(tmp_path / "all", "furlongs", "true"), allow_loss=True)


@pytest.mark.parametrize("unit", ["", "UNK", "BPM", "beats/min", "/min", "beats per minute"])
def test_spellings_of_a_known_unit_are_read(tmp_path, unit):
    plain = meds.cohort(dataset(tmp_path / "plain"))
    made = meds.cohort(in_unit(tmp_path / "other", unit, "true"))
    assert made.events.equals(plain.events) and "unit is none of" not in reasons(made)


@pytest.mark.parametrize(
    "code, value, expected",
    [
        ("LAB//226512//pounds", 200, 200 * 0.453592),
        ("LAB//226512//kg", 90, 90),
        ("LAB//226512//stone", 14, None),
        ("LAB//226707//inches", 70, 178),
        ("LAB//223761//°F", 98.6, 37),
        ("LAB//223762//K", 310, None),
        ("LAB//50931//mg/dL", 120, 120),
        ("LAB//50931//mmol/L", 6.7, None),
        ("LAB//220052//kPa", 11, None),
        ("LAB//223835//%", 40, 0.4),
        ("LAB//223835//UNK", 40, 0.4),
    ],
)
def test_a_unit_is_read_as_the_cleaning_rule_needs_it(tmp_path, code, value, expected):
    dataset(tmp_path, more=tuple((s, "2100-01-01 11:00", code, value) for s in range(1, 7)))
    made = meds.cohort(tmp_path, allow_loss=True)
    found = made.events.loc[made.events["channel"] != "Heart Rate", "value"]
    if expected is None:
        assert found.empty and f": {code}" in reasons(made)
    else:
        np.testing.assert_allclose(found, [expected] * 6, rtol=1e-6)


def test_a_file_of_codes_that_fits_nothing_is_named(tmp_path):
    codes = dataset(tmp_path) / "mine.csv"
    codes.write_text("name,channel,unit\nVITAL//XX,Heart Rate,/min\n")
    problem = rf"mine.csv: column name: VITAL//XX fits no code of .*{HEART_RATE}\); correct the names"
    with pytest.raises(BadInput, match=problem) as error:
        meds.cohort(tmp_path, codes=codes)
    assert "--codes" not in str(error.value)
    codes.write_text("code,chan\nVITAL//HR,Heart Rate\n")
    with pytest.raises(BadInput, match="mine.csv: column code: is not known; a mapping has name.*and 3 more") as error:
        meds.cohort(tmp_path, codes=codes)
    assert "\n" not in str(error.value)


def test_damaged_files_end_in_one_line(tmp_path):
    path = dataset(tmp_path) / "data" / "0.parquet"
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"x" * 100, whole[:-8] + b"\xff" * 4 + whole[-4:]):
        path.write_bytes(content)
        fix = "a damaged Parquet file; copy it again" if content else "an empty file; download it again"
        with pytest.raises(BadInput, match=f"0.parquet: {fix}") as error:
            meds.cohort(tmp_path)
        assert "\n" not in str(error.value)


def test_a_shard_damaged_in_its_middle_is_named(tmp_path):
    path = dataset(tmp_path) / "data" / "1.parquet"
    write_meds_shard(path, [(9, "2100-01-01 10:00", HEART_RATE, 80.0)])
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])
    with pytest.raises(BadInput, match="1.parquet: a damaged Parquet file; copy it again") as error:
        meds.cohort(tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_in_place_of_the_folder(tmp_path):
    with pytest.raises(BadInput, match="0.parquet: a file; give the folder of a MEDS dataset"):
        meds.cohort(dataset(tmp_path) / "data" / "0.parquet")


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_numbers_that_are_not_finite_have_their_own_reason(tmp_path, number):
    plain = meds.cohort(dataset(tmp_path))
    infinite = f"CASE WHEN numeric_value > 84 THEN '{number}'::FLOAT ELSE numeric_value END AS numeric_value"
    change(tmp_path, f"SELECT * REPLACE ({infinite}) FROM rows")
    made = meds.cohort(tmp_path)
    said = reasons(made)
    assert "54 of 288 values (18.8%) unreadable: numeric_value: not a finite number" in said
    assert "no room for the last digits" not in said and "the value is empty" not in said
    kept = plain.events[plain.events["value"] < 84].reset_index(drop=True)
    assert made.events["value"].tolist() == kept["value"].tolist() and len(plain.events) - len(kept) == 54


def test_large_numbers_of_float32_keep_their_reason(tmp_path):
    change(dataset(tmp_path), "FROM rows UNION ALL SELECT 1, '2100-01-01 11:30'::TIMESTAMP, 'DRUG', 16777217::FLOAT")
    assert "1 of 289 values (0.3%) unreadable: numeric_value: float32 has no room" in reasons(meds.cohort(tmp_path))


def test_folders_that_hold_no_dataset(tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        meds.cohort(tmp_path / "nowhere")
    tables = convert_to_mimic4(write_toy_tables(tmp_path / "three"), tmp_path / "four")
    with pytest.raises(BadInput, match="this is MIMIC-IV .* which the source mimic4 reads"):
        meds.cohort(tables)
    (dataset(tmp_path / "meds") / "metadata").mkdir()
    with pytest.raises(BadInput, match="this is MEDS .metadata., which the source meds reads"):
        mimic4.cohort(tmp_path / "meds")


def test_a_missing_shard_stops_the_command(tmp_path):
    dataset(tmp_path)
    shutil.copy(tmp_path / "data" / "0.parquet", tmp_path / "data" / "2.parquet")
    with pytest.raises(BadInput, match="shards that are not there: 1.parquet"):
        meds.cohort(tmp_path)
    made = meds.cohort(tmp_path, allow_loss=True)  # the shard that is there twice changes nothing
    (tmp_path / "data" / "2.parquet").unlink()
    alone = meds.cohort(tmp_path)
    assert made.events.equals(alone.events) and made.stays.equals(alone.stays)
    assert "rows that repeat another row" in reasons(made) and "rows that repeat" not in reasons(alone)


def test_splits_of_the_dataset_are_the_partitions(tmp_path):
    dataset(tmp_path)
    names = ["train", "train", "train", "tuning", "held_out", "held_out"]
    (tmp_path / "metadata").mkdir()
    splits = pd.DataFrame(dict(subject_id=range(1, 7), split=names))
    splits.to_parquet(tmp_path / "metadata" / "subject_splits.parquet")
    made = meds.cohort(tmp_path)
    assert made.stays["partition"].tolist() == ["train"] * 3 + ["val", "test", "test"]
    splits.assign(split=names[::-1]).to_parquet(tmp_path / "other.parquet")
    assert meds.cohort(tmp_path, partitions=tmp_path / "other.parquet").stays["partition"][0] == "test"
    pd.concat([splits, splits.assign(subject_id=99)]).drop_duplicates("subject_id").to_parquet(tmp_path / "o.parquet")
    with pytest.raises(BadInput, match="subjects without a row in data; is a shard missing"):
        meds.cohort(tmp_path, partitions=tmp_path / "o.parquet")
    splits[:5].to_parquet(tmp_path / "o.parquet")
    with pytest.raises(BadInput, match="column subject_id: 6 is missing"):
        meds.cohort(tmp_path, partitions=tmp_path / "o.parquet")
    splits.assign(split="dev").to_parquet(tmp_path / "o.parquet")
    with pytest.raises(BadInput, match="column split: 'dev' is none of train, tuning, held_out"):
        meds.cohort(tmp_path, partitions=tmp_path / "o.parquet")


def test_time_zones_are_read_as_utc_and_counted(tmp_path):
    plain = meds.cohort(dataset(tmp_path))
    path = tmp_path / "data" / "0.parquet"
    frame = pd.read_parquet(path)
    in_boston = frame.assign(time=frame["time"].dt.tz_localize("America/New_York"))
    in_boston.to_parquet(path)
    made = meds.cohort(tmp_path)
    assert made.events.equals(plain.events)
    assert "the times have a time zone and are read as UTC" in made.meta["note"]
    frame.to_parquet(tmp_path / "data" / "1.parquet")
    with pytest.raises(BadInput, match="column time has a time zone, and that of .*1.parquet has none"):
        meds.cohort(tmp_path)


def test_repeated_rows_and_order_change_nothing(tmp_path):
    plain = meds.cohort(dataset(tmp_path))
    change(tmp_path, "SELECT * FROM (FROM rows UNION ALL FROM rows WHERE subject_id < 4) ORDER BY hash(time, code)")
    made = meds.cohort(tmp_path)
    assert made.events.equals(plain.events) and made.stays.equals(plain.stays)
    assert "rows that repeat another row in all columns" in reasons(made)


def test_codes_of_another_hospital(tmp_path):
    change(dataset(tmp_path), f"SELECT * REPLACE (replace(code, '{HEART_RATE}', 'VITAL//TEMP') AS code) FROM rows")
    codes = tmp_path / "codes.csv"
    codes.write_text("name,channel,unit\nVITAL//*,Temperature,°F\n")
    made = meds.cohort(tmp_path, codes=codes)
    assert set(made.events["channel"]) == {"Temperature"}
    assert np.isclose(made.events["value"].min(), (80.1 - 32) * 5 / 9)
    assert set(made.stays["partition"]) <= {"train", "val", "test"}
    for text, problem in (
        ("name,channel\nVITAL//*,Pulse\n", "'Pulse' of VITAL//\\* is no channel"),
        ("name,channel,unit\nVITAL//*,Temperature,mmHg\n", "no conversion from mmHg to"),
        ("name,channel\nVITAL//*,\n", "no code has a channel"),
        ("code,channel\nx,Heart Rate\n", "column code: is not known"),
        ("name,channel\nother,Heart Rate\n", "codes.csv: column name: other fits no code of"),
    ):
        codes.write_text(text)
        with pytest.raises(BadInput, match=problem):
            meds.cohort(tmp_path, codes=codes)


@pytest.mark.parametrize(
    ("ends", "value", "unit", "expected", "said"),
    [
        (
            "//°F",
            98.6,
            "°C",
            37,
            "6 of 6 rows (100.0%) converted: Temperature: in the unit of the code, not of the file",
        ),
        ("//degC", 37, "°F", 37, "converted: Temperature: in the unit of the code"),
        ("", 37, "°C", 37, ""),
        ("//furlongs", 37, "°C", 37, ""),  # no unit that anyone knows: the file says it
        ("//1", 37, "°C", 37, ""),  # a number of something
    ],
)
def test_a_star_over_several_units_reads_each_in_its_own(tmp_path, ends, value, unit, expected, said):
    rows = tuple((s, "2100-01-01 11:00", f"TEMP{ends}", value) for s in range(1, 7))
    codes = dataset(tmp_path, more=rows) / "codes.csv"
    codes.write_text(f"name,channel,unit\n{HEART_RATE},Heart Rate,bpm\nTEMP*,Temperature,{unit}\n")
    made = meds.cohort(tmp_path, codes=codes)
    np.testing.assert_allclose(made.events.loc[made.events["channel"] == "Temperature", "value"], [expected] * 6)
    assert said in reasons(made) and bool(said) == ("converted" in reasons(made))


def test_a_unit_without_a_conversion_is_left_out_and_counted(tmp_path):
    rows = [(s, f"2100-01-01 {h}:00", "GLU//mg/dL", 120) for s in range(1, 7) for h in range(11, 20)]
    rows += [(s, "2100-01-01 11:30", "GLU//mmHg", 120) for s in range(1, 7)]
    codes = dataset(tmp_path, more=tuple(rows)) / "codes.csv"
    codes.write_text("name,channel,unit\nGLU//*,Glucose,mg/dL\n")
    made = meds.cohort(tmp_path, codes=codes)
    assert "6 of 60 rows (10.0%) dropped: Glucose: unit is none of mg/dL: GLU//mmHg" in reasons(made)
    assert len(made.events) == 54


def test_impossible_values_of_a_file_of_codes_are_left_out_and_counted(tmp_path):
    rows = tuple((s, "2100-01-01 11:30", HEART_RATE, wrong) for s in range(1, 7) for wrong in (-5, 99_999))
    codes = dataset(tmp_path, more=rows) / "codes.csv"
    codes.write_text("name,channel,unit\nLAB//220045//*,Heart Rate,bpm\n")
    made = meds.cohort(tmp_path, codes=codes)
    assert "12 of 300 values (4.0%) unreadable: Heart Rate: the value is outside the possible range" in reasons(made)
    assert made.events["value"].between(80, 85).all() and len(made.events) == 288
    codes.write_text("name,channel,unit\nLAB//220045//*,pH,\n")
    with pytest.raises(BadInput, match="pH: unit is none of .*220045//bpm|pH: the value is outside the possible range"):
        meds.cohort(tmp_path, codes=codes)


def test_names_and_channels_of_a_mapping_that_give_nothing_are_named(tmp_path, capsys):
    late = "SELECT 1, '2101-01-01'::TIMESTAMP, 'VITAL//RR', 12::FLOAT"
    change(dataset(tmp_path / "in"), f"FROM rows UNION ALL {late}")
    codes = tmp_path / "codes.csv"
    codes.write_text(
        "name,channel,unit\nLAB//220045//*,Heart Rate,bpm\nVITAL//RR,Respiratory rate,\nTEMPP,Temperature,\n"
    )
    rnn_transfer_cohort("meds", path=str(tmp_path / "in"), codes=str(codes), out=str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert (
        "1 of 3 names (33.3%) dropped: codes.csv: fit no code of the data, or only codes of an earlier row: TEMPP"
        in printed
    )
    assert (
        "2 of 3 channels (66.7%) dropped: codes.csv: no value in the cohort: Respiratory rate, Temperature" in printed
    )
    codes.write_text("name,channel,unit\nLAB//220045//*,Heart Rate,bpm\n")
    assert "codes.csv" not in reasons(meds.cohort(tmp_path / "in", codes=codes))


def test_scores_and_texts_become_categories(tmp_path):
    change(dataset(tmp_path), "SELECT *, CASE WHEN numeric_value > 83 THEN 'obeys' END AS text_value FROM rows")
    codes = tmp_path / "codes.csv"
    channel = "Glascow coma scale motor response"
    codes.write_text(f"name,channel,text,category\nLAB//220045//*,{channel},obeys,6 Obeys Commands\n")
    with pytest.raises(BadInput, match="cannot be read"):  # the other rows are numbers that no text says
        meds.cohort(tmp_path, codes=codes)
    made = meds.cohort(tmp_path, codes=codes, allow_loss=True)
    index = next(c.values.index("6 Obeys Commands") for c in made.channels if c.name == channel)
    assert set(made.events["value"]) == {index}


def test_given_stays_replace_codes(tmp_path):
    change(dataset(tmp_path), "SELECT * FROM rows WHERE NOT starts_with(code, 'ICU')")
    stays = pd.DataFrame(dict(subject_id=range(1, 7), intime="2100-01-01 10:00:00", outtime="2100-01-04 10:00:00"))
    stays.assign(stay_id=range(11, 17)).to_csv(tmp_path / "stays.csv", index=False)
    made = meds.cohort(tmp_path, stays=tmp_path / "stays.csv")
    assert made.stays["stay_id"].tolist() == list(range(11, 17)) and len(made.events) == 288
    hours = [f"2100-01-01 1{hour}:00:00" for hour in range(6)]
    for wrong, problem in (
        (stays.drop(columns="intime"), "column intime is missing"),
        (stays.assign(intime="soon"), "column intime: row 1: no time"),
        (stays.assign(outtime="2099-01-01 00:00:00"), "row 1: outtime is before intime"),
        (stays.assign(intime="2100-01-01 10:00:00+01:00"), "a time zone, and the times of the data have none"),
        (stays.assign(stay_id=1), "column stay_id: 1 stands twice"),
        (stays.assign(subject_id="p1"), "column subject_id: write whole numbers"),
        (stays.assign(intime="2100-01-01"), "column intime: row 1: a day without a time; write YYYY-MM-DD HH"),
        (stays.assign(subject_id=1, intime=hours), "row 2, and 4 more: begins before another stay of the subject ends"),
        (stays.assign(subject_id=stays["subject_id"] * 10**17), "column subject_id: above 9,.*; add a column stay_id"),
    ):
        wrong.to_csv(tmp_path / "stays.csv", index=False)
        with pytest.raises(BadInput, match=problem):
            meds.cohort(tmp_path, stays=tmp_path / "stays.csv")


def test_a_repeated_row_of_given_stays_counts_once(tmp_path):
    stays = pd.DataFrame(dict(subject_id=range(1, 7), intime="2100-01-01 10:00:00", outtime="2100-01-04 10:00:00"))
    stays.to_csv(tmp_path / "once.csv", index=False)
    pd.concat([stays, stays[:3]]).to_csv(tmp_path / "twice.csv", index=False)
    once, twice = (meds.cohort(dataset(tmp_path), stays=tmp_path / f"{name}.csv") for name in ("once", "twice"))
    assert twice.fingerprint == once.fingerprint and len(once.stays) == 6
    assert re.search(r"3 of 9 stays \(33.3%\) merged: .*twice.csv: stays that repeat an earlier row", reasons(twice))


def test_midnights_of_a_column_of_times_are_times(tmp_path):
    stays = pd.DataFrame(dict(subject_id=range(1, 7), intime="2100-01-01", outtime="2100-01-05")).astype(
        dict(intime="datetime64[us]", outtime="datetime64[us]")
    )
    stays.to_parquet(tmp_path / "stays.parquet")
    made = meds.cohort(dataset(tmp_path), stays=tmp_path / "stays.parquet")
    assert len(made.stays) == 6 and made.events["hour"].min() == 10


def test_a_stay_over_two_admissions_is_left_out_and_counted(tmp_path):
    dataset(tmp_path, n=200, more=tuple(LOST_ENDS))
    made = meds.cohort(tmp_path)
    assert "1 of 201 stays (0.5%) dropped: ICU stays over two hospital admissions" in reasons(made)
    assert len(made.stays) == 200 and made.stays["los_hours"].max() == 72


LOST_ENDS = [  # a subject whose first discharge from the ICU and second admission to it are lost
    (900, "2040-01-01", "MEDS_BIRTH", None),
    (900, "2100-01-01 08:00", "HOSPITAL_ADMISSION", None),
    (900, "2100-01-01 10:00", "ICU_ADMISSION//MICU", None),
    (900, "2100-01-06 10:00", "HOSPITAL_DISCHARGE", None),
    (900, "2100-01-06 10:00", "DIAGNOSIS//ICD//10//R6521", None),
    (900, "2100-08-01 08:00", "HOSPITAL_ADMISSION", None),
    (900, "2100-08-03 10:00", "ICU_DISCHARGE//MICU", None),
    (900, "2100-08-06 10:00", "HOSPITAL_DISCHARGE", None),
    (900, "2100-01-01 11:00", HEART_RATE, 80),
]


def test_the_note_says_where_partitions_come_from(tmp_path):
    assert "partitions: published test subjects of MIMIC-IV" in meds.cohort(dataset(tmp_path)).meta["note"]
    codes = tmp_path / "codes.csv"
    codes.write_text(f"name,channel,unit\n{HEART_RATE},Heart Rate,bpm\n")
    made = meds.cohort(tmp_path, codes=codes)
    assert "partitions: drawn by a hash of subject_id" in made.meta["note"] and "database" not in made.meta
    listed = tmp_path / "mine.csv"
    pd.DataFrame(dict(subject_id=range(1, 7), partition=["train", "val", "test"] * 2)).to_csv(listed, index=False)
    made = meds.cohort(tmp_path, partitions=listed)
    assert "partitions: mine.csv" in made.meta["note"] and made.meta["database"] == "MIMIC-IV"
    assert made.stays["partition"].tolist() == ["train", "val", "test"] * 2


def test_labels_become_tasks(tmp_path):
    dataset(tmp_path)
    folder = tmp_path / "labels" / "readmission"
    folder.mkdir(parents=True)
    time = pd.to_datetime(["2100-01-03 12:00"] * 6 + ["2100-01-01 12:00", "2101-01-01 00:00"])
    frame = pd.DataFrame(dict(subject_id=[*range(1, 7), 1, 1], prediction_time=time, boolean_value=[True, False] * 4))
    frame.to_parquet(folder / "0.parquet")
    made = meds.cohort(tmp_path, labels=tmp_path / "labels")
    assert made.stays["readmission"].tolist() == [1, 0] * 3
    assert [task.kind for task in made.tasks if task.name == "readmission"] == ["other"]
    assert "1 of 8 labels (12.5%) dropped: readmission: before the input window ends" in reasons(made)
    assert "1 of 8 labels (12.5%) dropped: readmission: outside of every stay" in reasons(made)
    early = meds.cohort(tmp_path, labels=tmp_path / "labels", hours=2)
    assert early.meta["hours"] == 2 and early.events["hour"].max() <= 2
    assert early.stays["readmission"][0] == 1  # the label of noon, two hours after admission
    frame.assign(prediction_time=frame["prediction_time"].dt.date).to_parquet(folder / "0.parquet")
    with pytest.raises(BadInput, match="column prediction_time is of type DATE; write times with hour and minute"):
        meds.cohort(tmp_path, labels=tmp_path / "labels")
    frame.assign(boolean_value=1).to_parquet(folder / "0.parquet")
    with pytest.raises(BadInput, match="column boolean_value is of type BIGINT"):
        meds.cohort(tmp_path, labels=tmp_path / "labels")


def labels_file(folder: Path, **columns) -> Path:
    "A task `l` with the label of each of the six subjects, of which some columns are others."
    time = pd.to_datetime(["2100-01-03 12:00"] * 6)
    frame = pd.DataFrame(dict(subject_id=range(1, 7), prediction_time=time, boolean_value=[True, False] * 3) | columns)
    frame.to_parquet(folder / "l.parquet")
    return folder / "l.parquet"


LABELS_OF_NOBODY = {
    "other subjects": (dict(subject_id=range(101, 107)), r"\(6 outside of every stay that is kept\); check subject_id"),
    "after every stay": (
        dict(prediction_time=pd.Timestamp("2101-01-01")),
        r"\(6 outside of every stay that is kept\); check subject_id and prediction_time",
    ),
    "too early": (
        dict(prediction_time=pd.Timestamp("2100-01-01 12:00")),
        r"\(6 before the input window ends\); a shorter input window keeps them: --hours",
    ),
    "empty": (dict(boolean_value=pd.array([None] * 6, "boolean")), r"\(6 boolean_value or prediction_time is empty\)"),
}


@pytest.mark.parametrize("allow_loss", [False, True])
@pytest.mark.parametrize("what", LABELS_OF_NOBODY)
def test_a_task_of_which_no_label_is_left_stops_the_command(tmp_path, what, allow_loss):
    columns, problem = LABELS_OF_NOBODY[what]
    labels = labels_file(tmp_path, **columns)
    expected = f"l.parquet: task l: none of 6 rows gives a stay a label {problem}"
    with pytest.raises(BadInput, match=expected) as error:
        meds.cohort(dataset(tmp_path / "in"), labels=labels, allow_loss=allow_loss)
    assert "\n" not in str(error.value)


def test_a_task_without_a_row_stops_the_command(tmp_path):
    labels = labels_file(tmp_path)
    pd.read_parquet(labels)[:0].to_parquet(labels)
    with pytest.raises(BadInput, match="l.parquet: task l: no row; write its labels, or leave the task out"):
        meds.cohort(dataset(tmp_path / "in"), labels=labels)


def test_labels_of_stays_without_an_event_are_outside(tmp_path):
    change(dataset(tmp_path / "in"), "FROM rows WHERE NOT (subject_id = 1 AND starts_with(code, 'LAB'))")
    labels = labels_file(tmp_path)
    made = meds.cohort(tmp_path / "in", labels=labels, allow_loss=True)
    assert made.stays["l"].tolist() == [0, 1, 0, 1, 0]
    assert "1 of 6 labels (16.7%) dropped: l: outside of every stay that is kept" in reasons(made)
    pd.read_parquet(labels)[:1].to_parquet(labels)
    with pytest.raises(BadInput, match="task l: none of 1 rows gives a stay a label"):
        meds.cohort(tmp_path / "in", labels=labels, allow_loss=True)


def test_without_diagnoses_mortality_and_labels_remain(tmp_path):
    change(dataset(tmp_path), "SELECT * FROM rows WHERE NOT starts_with(code, 'DIAG')")
    made = meds.cohort(tmp_path)
    assert [task.name for task in made.tasks] == ["In-hospital mortality"]
    assert made.stays["In-hospital mortality"].tolist() == [1, 0] * 3


def test_without_admissions_each_stay_is_its_own(tmp_path):
    change(
        dataset(tmp_path), "SELECT * FROM rows WHERE NOT starts_with(code, 'HOSPITAL') AND NOT starts_with(code, 'D')"
    )
    made = meds.cohort(tmp_path)
    assert len(made.stays) == 6 and "mortality is death within the ICU stay" in made.meta["note"]


def test_simulated_tables_give_the_same_cohort_in_both_forms(tmp_path):
    "But for laboratory rows without an admission, and codes of diagnosis that the dictionary lacks."
    synthetic_raw.write_raw(tmp_path / "three", 300, 3, others=0)
    tables = convert_to_mimic4(tmp_path / "three", tmp_path / "four")
    right, made = mimic4.cohort(tables), meds.cohort(convert_to_meds(tables, tmp_path / "meds", shards=3))
    assert made.meta["flow"][:4] == right.meta["flow"][:4] and len(made.stays) >= len(right.stays) > 250
    numbers = [c.stays.assign(los_hours=c.stays["los_hours"].round(1)) for c in (made, right)]
    pairs = numbers[0].merge(numbers[1], on=["subject_id", "age", "los_hours"], suffixes=("", "_of_tables"))
    assert len(pairs) >= len(right.stays)
    number = dict(zip(pairs["stay_id_of_tables"], pairs["stay_id"]))
    theirs = right.events.assign(
        stay_id=right.events["stay_id"].map(number), channel=right.events["channel"].astype(str)
    )
    ours = made.events.assign(channel=made.events["channel"].astype(str))
    both = ours[ours["stay_id"].isin(theirs["stay_id"])].merge(
        theirs, on=["stay_id", "hour", "channel"], how="outer", suffixes=("", "_of_tables"), indicator=True
    )
    more = both[both["_merge"] == "left_only"]
    assert not (both["_merge"] == "right_only").any() and set(more["channel"]) <= {"Glucose", "pH"}
    same = both[both["_merge"] == "both"]
    assert np.allclose(same["value"], same["value_of_tables"], rtol=1e-6) and len(more) < 0.001 * len(same)


def test_the_command_says_what_it_built(tmp_path, capsys):
    rnn_transfer_cohort("meds", path=str(dataset(tmp_path / "in")), out=str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "6 stays" in printed and "float32" in printed
    assert json.loads((tmp_path / "out" / "cohort.json").read_text())["source"] == "meds"
    with pytest.raises(SystemExit):
        rnn_transfer_cohort("mimic4", path=str(tmp_path), codes="x.csv", out=str(tmp_path / "no"))
    assert "mimic4 has no such option" in capsys.readouterr().err
