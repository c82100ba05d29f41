"Tasks from codes of MEDS: the demo's phenotypes again, thresholds counted by hand, and faults in the file."

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from test_meds import HEART_RATE, change, dataset, reasons

from rnn_transfer.experiment.commands import rnn_transfer_cohort
from rnn_transfer.sources import meds
from rnn_transfer.sources.meds_code_tasks import _make_spans
from rnn_transfer.sources.mimic3_stays import PHENOTYPE_TASKS, phenotypes_by_code
from rnn_transfer.utilities.errors import BadInput

CREATININE, GLUCOSE = "LAB//50912//mg/dL", "LAB//50931//mg/dL"
COLUMNS = ["task", "code", "period", "relation", "threshold", "unit"]


def tasks_file(folder: Path, *rows: str, header: str = ",".join(COLUMNS)) -> Path:
    path = folder / "tasks.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


# ---- the demo ----


@pytest.fixture(scope="module")
def demo(shared):
    return shared / "data" / "mimic4-demo-meds"


@pytest.fixture(scope="module")
def made(demo, tmp_path_factory):
    "All 25 phenotypes by their codes under other names, and two thresholds."
    codes = [(name, v, code) for v in (9, 10) for code, name in phenotypes_by_code(v).items()]
    rows = [f'"{name} again",DIAGNOSIS//ICD//{v}//{code},admission,,,' for name, v, code in codes]
    rows += [f"Kidney failure,{CREATININE},rest of stay,>,2,mg/dL", "High glucose,LAB//50931//*,stay,>=,180,mg/dL"]
    return meds.cohort(demo, tasks=tasks_file(tmp_path_factory.mktemp("tasks"), *rows))


def test_phenotypes_of_the_demo_by_a_file_of_codes_are_the_same(made):
    for task in PHENOTYPE_TASKS:
        assert made.stays[task.name].equals(made.stays[f"{task.name} again"].rename(task.name)), task.name
        assert made.stays[task.name].sum() > 0


def values_of(demo, made, code: str) -> list[pd.DataFrame]:
    "Hour and value of a code's rows within each kept stay, straight from the shard."
    query = "SELECT subject_id, time, code, numeric_value::FLOAT::VARCHAR::DOUBLE AS x FROM '{}/data/*.parquet'"
    rows = duckdb.sql(query.format(demo) + f" WHERE code LIKE 'ICU%' OR code = '{code}' ORDER BY time").df()
    starts = rows[rows["code"].str.startswith("ICU_ADMISSION")].groupby("subject_id")["time"].agg(list)
    found = []
    for stay_id, subject, los in made.stays[["stay_id", "subject_id", "los_hours"]].itertuples(index=False):
        of_subject = rows[(rows["subject_id"] == subject) & (rows["code"] == code)]
        hour = (of_subject["time"] - starts[subject][stay_id % 1000 - 1]) / pd.Timedelta(hours=1)
        found.append(of_subject.assign(hour=hour)[hour.between(0, los + 1e-9)])
    return found


def test_a_threshold_after_the_window_is_counted_by_hand(demo, made):
    expected = []
    for los, rows in zip(made.stays["los_hours"], values_of(demo, made, CREATININE)):
        late = rows[rows["hour"] > 48 + 1e-6]["x"].dropna()
        expected.append(float((late > 2).any()) if los > 48 and len(late) else -1.0)
    assert made.stays["Kidney failure"].fillna(-1).tolist() == expected
    assert (expected.count(1), expected.count(0), expected.count(-1)) == (12, 33, 67)
    said = reasons(made)
    assert "58 of 112 stays (51.8%) dropped: Kidney failure: the stay ends within the input window" in said
    assert "9 of 112 stays (8.0%) dropped: Kidney failure: no number in the period" in said
    definition = next(task.definition for task in made.tasks if task.name == "Kidney failure")
    assert definition == f"{CREATININE} above 2 mg/dL after the first 48 h, in the ICU stay (1 row; tasks.csv)"


def test_what_the_network_reads_of_a_task_is_in_the_note(demo, made):
    early = positive = 0
    for label, rows in zip(made.stays["High glucose"], values_of(demo, made, GLUCOSE)):
        high = rows[rows["x"] >= 180]
        assert (label == 1) == (len(high) > 0)
        positive, early = positive + (len(high) > 0), early + (high["hour"] <= 48).any()
    sentence = f"task High glucose: {early} of {positive} positive stays have such a row before the input window ends"
    assert sentence + ", which the network reads as Glucose" in made.meta["note"] and (early, positive) == (35, 41)
    assert "task Kidney failure: 9 of 12 positive stays" in made.meta["note"]


# ---- datasets made by hand ----

LACTATE = "LAB//LAC//mmol/L"
LATE, EARLY, AT_48 = "2100-01-03 22:00", "2100-01-01 22:00", "2100-01-03 10:00"


def labelled(folder: Path, *rows: str, **options):
    return meds.cohort(folder, tasks=tasks_file(folder, *rows), **options)


@pytest.fixture
def six(tmp_path):
    "Lactate of five subjects: late and high, high at hour 48, early and high then low, late without a number, early."
    more = [(1, LATE, LACTATE, 4.1), (2, AT_48, LACTATE, 4.1), (3, EARLY, LACTATE, 4.1), (3, LATE, LACTATE, 2.0)]
    more += [
        (4, LATE, LACTATE, None),
        (1, LATE, "DRUG//A", None),
        (5, "2100-01-05 10:00", "DRUG//A", None),
        (6, EARLY, LACTATE, 1.0),
    ]
    return dataset(tmp_path, more=(*more, (2, "2100-02-01", LACTATE, 9.0)))


@pytest.mark.parametrize(
    "row, expected",
    [
        (f"t,{LACTATE},rest of stay,>,4,mmol/L", [1, None, 0, None, None, None]),
        (f"t,{LACTATE},window,>,4,mmol/L", [None, 1, 1, None, None, 0]),
        (f"t,{LACTATE},stay,>,4,mmol/L", [1, 1, 1, None, None, 0]),
        (f"t,{LACTATE},stay,<,4,", [0, 0, 1, None, None, 1]),
        (f"t,{LACTATE},stay,>=,4.1,", [1, 1, 1, None, None, 0]),
        (f"t,{LACTATE},stay,=,2,", [0, 0, 1, None, None, 0]),
        (f"t,{LACTATE},stay,<=,2,", [0, 0, 1, None, None, 1]),
        ("t,DRUG//*,rest of stay,,,", [1, 0, 0, 0, 0, 0]),
        ("t,DRUG//A,rest of admission,,,", [1, 0, 0, 0, 1, 0]),
        ("t,*//A,admission,,,", [1, 0, 0, 0, 1, 0]),
        ("t,MEDS_DEATH,admission,,,", [1, 0, 1, 0, 1, 0]),
    ],
)
def test_periods_and_relations(six, row, expected):
    label = labelled(six, row).stays["t"]
    assert label.astype(object).where(label.notna(), None).tolist() == expected


@pytest.mark.parametrize("relation, expected", [(">", []), (">=", ["t"])])
def test_float32_numbers_are_compared_as_charted(six, relation, expected):
    "4.1 in float32 is above 4.1 as a double."
    made = labelled(six, f"t,{LACTATE},stay,{relation},4.1,", "t,DRUG//A,rest of admission,,,")
    at_limit = made.stays.loc[made.stays["subject_id"] == 2, "t"].item()
    assert at_limit == (1 if expected else 0)


def test_rows_of_a_task_are_joined_by_or(six):
    made = labelled(six, f"t,{LACTATE},rest of stay,>,4,", "t,DRUG//A,admission,,,")
    assert made.stays["t"].tolist() == [1, 0, 0, 0, 1, 0]  # a code that is not there is a 0, so that nobody is null


def test_without_reading_is_negative_where_the_file_says_so(six):
    header = "task,code,period,relation,threshold,without_reading,kind,source"
    path = tasks_file(six, f"t,{LACTATE},rest of stay,>,4,0,phenotype,a guideline", header=header)
    made = meds.cohort(six, tasks=path)
    assert made.stays["t"].tolist() == [1, 0, 0, 0, 0, 0]
    task = next(task for task in made.tasks if task.name == "t")
    assert task.kind == "phenotype" and "(1 row; a guideline)" in task.definition


def test_a_shorter_window_moves_the_rest(six):
    made = labelled(six, f"t,{LACTATE},rest of stay,>,4,", hours=6)
    assert made.stays["t"].fillna(-1).tolist() == [1, 1, 1, -1, -1, 0]


def test_what_gives_no_label_is_counted(six):
    said = reasons(labelled(six, *[f"t,{LACTATE},rest of stay,>,4,"] * 2, "t,X*,rest of stay,,,"))
    assert "1 of 3 rows (33.3%) merged: tasks.csv: rows given twice" in said
    assert "1 of 2 rows (50.0%) dropped: tasks.csv: fit no code of the data: X*" in said
    assert "4 of 7 rows (57.1%) dropped: t: outside of the period of every stay that is kept" in said
    assert "1 of 7 rows (14.3%) unreadable: t: no number to compare" in said
    assert "4 of 6 stays (66.7%) dropped: t: no number in the period, and no label" in said  # by X* nobody is a 0


def test_a_diagnosis_at_the_seam_of_two_admissions_belongs_to_the_first(tmp_path):
    "As the phenotypes: the second admission begins at the moment of the first one's discharge."
    marks = [("2100-01-06 10:00", "HOSPITAL_ADMISSION//X"), ("2100-01-06 12:00", "ICU_ADMISSION//MICU")]
    marks += [("2100-01-09 12:00", "ICU_DISCHARGE//MICU"), ("2100-01-12 12:00", "HOSPITAL_DISCHARGE//HOME")]
    more = [(1, time, code, None) for time, code in marks] + [(1, "2100-01-06 13:00", HEART_RATE, 80.0)]
    more += [(1, "2100-01-12 12:00", "DIAGNOSIS//ICD//10//I10", None)]
    made = labelled(dataset(tmp_path, more=tuple(more)), "t,DIAGNOSIS//ICD//10//R6521,admission,,,")
    assert made.stays["t"].tolist() == made.stays["Shock"].tolist() == [1, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("discharge, begins_after", [("2100-01-05", "2100-01-05"), ("2100-01-20", None)])
def test_an_admission_within_another_keeps_its_rows(discharge, begins_after):
    con = duckdb.connect()
    con.execute("CREATE TABLE admissions (SUBJECT_ID INT, HADM_ID INT, ADMITTIME TIMESTAMP, DISCHTIME TIMESTAMP)")
    con.execute(f"INSERT INTO admissions VALUES (1, 1, '2100-01-01', '{discharge}')")
    con.execute("INSERT INTO admissions VALUES (1, 2, '2100-01-05', '2100-01-15')")
    columns = "*, HADM_ID AS ICUSTAY_ID, ADMITTIME AS INTIME, DISCHTIME AS OUTTIME"
    con.execute(f"CREATE TABLE stays AS SELECT {columns} FROM admissions")
    _make_spans(con, 48)
    query = "SELECT first, last, after FROM task_spans WHERE stay_id = 2 AND period = 'admission'"
    first, last, after = con.execute(query).fetchone()
    assert (str(first), str(last)) == ("2100-01-05 00:00:00", "2100-01-15 00:00:00")
    assert after == (pd.Timestamp(begins_after).to_pydatetime() if begins_after else None)


def test_a_row_in_two_stays_is_one_row_of_the_counts(tmp_path):
    "Two overlapping admissions: a row in both counts for both labels, and once among the rows."
    marks = [("2100-01-05 10:00", "HOSPITAL_ADMISSION//X"), ("2100-01-05 12:00", "ICU_ADMISSION//MICU")]
    marks += [("2100-01-09 12:00", "ICU_DISCHARGE//MICU"), ("2100-01-12 12:00", "HOSPITAL_DISCHARGE//HOME")]
    both = "2100-01-05 20:00"
    more = [(1, time, code, None) for time, code in marks] + [(1, "2100-01-05 13:00", HEART_RATE, 80.0)]
    more += [(1, "2100-01-12 12:00", "DIAGNOSIS//ICD//10//I10", None)]
    more += [(1, both, LACTATE, None), (1, both, LACTATE, 5.0), (1, "2100-02-01", LACTATE, 9.0)]
    more += [(2, EARLY, LACTATE, 1.0)]
    made = labelled(dataset(tmp_path, more=tuple(more)), f"t,{LACTATE},admission,>,4,mmol/L")
    assert made.stays.loc[made.stays["subject_id"] == 1, "t"].tolist() == [1, 1]
    said = reasons(made)
    assert "1 of 4 rows (25.0%) dropped: t: outside of the period of every stay that is kept" in said
    assert "1 of 4 rows (25.0%) unreadable: t: no number to compare" in said


def test_lines_with_the_same_code_are_counted_in_pairs(six):
    said = reasons(labelled(six, *[f"t,{LACTATE},{period},>,4,mmol/L" for period in ("window", "rest of stay")]))
    assert "8 of 14 pairs of a row and a line (57.1%) dropped: t: outside of the period of every stay" in said
    assert "2 of 14 pairs of a row and a line (14.3%) unreadable: t: no number to compare" in said


def test_a_task_of_one_class_is_left_out_and_said(six, capsys):
    path = tasks_file(six, f"t,{LACTATE},stay,>,40,", f"u,{LACTATE},stay,>,0.5,", "v,DRUG//A,rest of stay,,,")
    rnn_transfer_cohort("meds", path=str(six), tasks=str(path), out=str(six / "out"))
    line = next(line for line in capsys.readouterr().out.splitlines() if "left out, as not both classes" in line)
    assert "t, u" in line and "v" not in line.split(": ")[1].split(", ")


def test_units_are_those_of_the_codes(six):
    rows = "SELECT 5 AS subject_id, '2100-01-03 22:00'::TIMESTAMP AS time, 'LAB//LAC//UNK' AS code, 5::FLOAT AS x"
    change(six, f"FROM rows UNION ALL {rows} UNION ALL {rows.replace('UNK', 'umol/L').replace('5::', '4500::')}")
    made = labelled(six, "t,LAB//LAC//umol/L,rest of stay,>,4,mmol/L", "t,DRUG//A,rest of stay,,,")
    assert made.stays["t"].tolist() == [1, 0, 0, 0, 1, 0]
    assert "task t: numbers converted to mmol/L: LAB//LAC//umol/L" in made.meta["note"]
    made = labelled(six, "t,LAB//LAC//UNK,rest of stay,>,4,mmol/L", "t,DRUG//A,rest of stay,,,")
    assert "task t: numbers taken to be in mmol/L: LAB//LAC//UNK" in made.meta["note"]
    with pytest.raises(BadInput, match="column unit: empty, and LAB//LAC//\\* is in mmol/L and umol/L; name one"):
        labelled(six, "t,LAB//LAC//*,rest of stay,>,4,")
    with pytest.raises(BadInput, match="LAB//LAC//mmol/L is in mmol/L, and no conversion to mmHg is known"):
        labelled(six, f"t,{LACTATE},rest of stay,>,4,mmHg")


@pytest.mark.parametrize(
    "rows, problem",
    [
        (["t,X,stay,,,"], "column code: X of task t fits no code of the data; correct it, or leave the task out"),
        (["t,DRUG//A,stay,,,", "t,DRUG//A,ward,,,"], "column period: line 3: expected admission, stay, window"),
        (["t,DRUG//A,,,,"], "column period: line 2: expected admission"),
        ([",DRUG//A,stay,,,"], "column task: line 2: empty"),
        (["t,,stay,,,"], "column code: line 2: empty"),
        (["t,DRUG//A,stay,above,2,"], "column relation: line 2: expected >, >="),
        (["t,DRUG//A,stay,,2,"], "column relation: line 2: empty, and there is a threshold"),
        (["t,DRUG//A,stay,>,,"], "column threshold: line 2: empty, and there is a relation"),
        (["t,DRUG//A,stay,,,mg"], "column threshold: line 2: empty, and there is a unit"),
        (["t,DRUG//A,stay,>,two,"], "column threshold: line 2: no number"),
        (["t,DRUG//A,stay,>,inf,"], "column threshold: line 2: no number"),
        (['t,DRUG//A,stay,>,"2,5",'], "column threshold: line 2: no number; write one with a decimal point"),
        (["Shock,DRUG//A,stay,,,"], "column task: line 2: a name that another column of the stays has"),
        (["los_hours,DRUG//A,stay,,,"], "column task: line 2: a name"),
        (["t,DRUG//A,stay,>,2,"], "task t: no stay has a label .*2 of 2 rows .*no number to compare"),
        (["t,DRUG//A,stay"], "line 2: 3 fields, expected 6"),
        ([], "no row; name a task"),
    ],
)  # fmt: skip
def test_faults_of_the_file_end_in_one_line(six, rows, problem):
    with pytest.raises(BadInput, match=problem) as error:
        labelled(six, *rows)
    assert "\n" not in str(error.value) and "tasks.csv" in str(error.value)


@pytest.mark.parametrize(
    "header, row, problem",
    [
        ("task,code", "t,X", "column period is missing"),
        ("task,code,period,treshold", "t,X,stay,2", "column treshold is not known; a file of tasks has task, code"),
        ("task,code,period,unit,unit", "t,X,stay,,", "column unit stands twice"),
        (
            "task,code,period,kind",
            "t,DRUG//A,stay,illness",
            "column kind: line 2: expected other, phenotype",
        ),
        ("task,code,period,without_reading", "t,DRUG//A,stay,0", "column threshold: line 2: empty, and there is a wit"),
    ],
)
def test_faults_of_the_columns_end_in_one_line(six, header, row, problem):
    with pytest.raises(BadInput, match=problem):
        meds.cohort(six, tasks=tasks_file(six, row, header=header))


def test_two_kinds_of_one_task(six):
    header = "task,code,period,kind"
    with pytest.raises(BadInput, match="column kind: lines 2, 3: two kinds of one task"):
        rows = ("t,DRUG//A,stay,phenotype", "t,DRUG//A,admission,")
        meds.cohort(six, tasks=tasks_file(six, *rows, header=header))


def test_rows_without_a_time(six):
    change(six, "FROM rows UNION ALL SELECT 1, NULL::TIMESTAMP, 'GENDER//F', NULL::FLOAT")
    with pytest.raises(BadInput, match="column code: GENDER//F of task t has no row with a time"):
        labelled(six, "t,GENDER//F,admission,,,")
    change(six, "FROM rows UNION ALL SELECT 1, NULL::TIMESTAMP, 'DRUG//A', NULL::FLOAT FROM range(20)")
    with pytest.raises(BadInput, match="column time is empty, in rows of codes that are used"):
        labelled(six, "t,DRUG//A,admission,,,")
    assert "column time is empty" not in reasons(meds.cohort(six))  # nothing is read from these rows
    assert labelled(six, "t,DRUG//A,admission,,,", allow_loss=True).stays["t"].tolist() == [1, 0, 0, 0, 1, 0]


def test_numbers_in_texts_and_numbers_that_are_none(six):
    change(six, "SELECT *, NULL::VARCHAR AS text_value FROM rows")
    text = "SELECT {}, '2100-01-03 22:00'::TIMESTAMP, 'LAB//LAC//mmol/L', NULL::FLOAT, '{}'"
    rows = " UNION ALL ".join(text.format(*row) for row in ((5, "4.5"), (6, "nan"), (4, "high")))
    change(six, f"FROM rows UNION ALL {rows} UNION ALL SELECT 6, '{LATE}'::TIMESTAMP, '{LACTATE}', 'inf'::FLOAT, NULL")
    made = labelled(six, f"t,{LACTATE},rest of stay,>,4,mmol/L")
    assert made.stays["t"].fillna(-1).tolist() == [1, -1, 0, -1, 1, -1]


def test_a_label_file_and_a_task_of_the_same_name(six):
    labels = dict(subject_id=range(1, 7), prediction_time=pd.Timestamp(LATE), boolean_value=[True, False] * 3)
    pd.DataFrame(labels).to_parquet(six / "t.parquet")
    with pytest.raises(BadInput, match="a second task is called t; give each a name of its own"):
        labelled(six, "t,DRUG//A,admission,,,", labels=six / "t.parquet")
    both = labelled(six, "u,DRUG//A,admission,,,", labels=six / "t.parquet")
    assert both.stays["t"].tolist() == [1, 0] * 3 and both.stays["u"].tolist() == [1, 0, 0, 0, 1, 0]


def test_order_and_repeats_of_the_rows_change_nothing(six):
    rows = (f"t,{LACTATE},rest of stay,>,4,mmol/L", "u,DRUG//A,admission,,,")
    plain = labelled(six, *rows)
    change(six, "SELECT * FROM (FROM rows UNION ALL FROM rows WHERE subject_id < 4) ORDER BY hash(time, code)")
    again = labelled(six, *rows)
    assert plain.stays.equals(again.stays) and plain.tasks == again.tasks
