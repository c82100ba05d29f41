"Tables of a hospital become a cohort: the same values as by hand, and one line for each thing that is wrong."

import html
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_transfer.frames.problems as frame_problems
from rnn_transfer import BadInput, Channel, Cohort, Task
from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS
from rnn_transfer.cohorts.units import find_conversion
from rnn_transfer.estimators.features import MIMICNetFeatures
from rnn_transfer.estimators.input_check import check_input
from rnn_transfer.estimators.pretraining import pretrain_network
from rnn_transfer.experiment.commands import describe_cohort, rnn_transfer_cohort
from rnn_transfer.frames.mapping import draft_mapping
from rnn_transfer.frames.problems import InputProblems
from rnn_transfer.frames.time_units import fill_of_stays, guess_time_units
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.utilities.csv_forms import line_starts
from rnn_transfer.utilities.errors import InputWarning

KNOWN = {c.name: c for c in BENCHMARK_CHANNELS}
MAPPING = {"hr": ("Heart Rate", "bpm"), "temp_f": ("Temperature", "°F"), "spo2": ("Oxygen saturation", "fraction")}
HOURLY = pd.DataFrame(
    dict(
        stay_id=[1, 1, 2, 3, 4],
        hour=[0, 1, 0, 0, 5],
        hr=[88.0, 91.0, 70.0, 65.0, np.nan],
        temp_f=[98.6, np.nan, 101.3, 97.7, 100.4],
        spo2=[0.97, 0.98, np.nan, 0.99, 0.95],
    )
)
STAYS = pd.DataFrame(dict(stay_id=[1, 2, 3, 4], subject_id=[1, 2, 3, 4], los_hours=50.0, sepsis=[1, 0, 0, 1]))


def long(hourly: pd.DataFrame = HOURLY) -> pd.DataFrame:
    "An hourly table as observations in the middle of each hour."
    rows = hourly.melt(["stay_id", "hour"], var_name="variable", value_name="value").dropna()
    return rows.assign(hour=rows["hour"] + 0.5)


def problems(*args, wide: bool = True, **kwargs) -> str:
    "What a conversion that must stop says."
    with pytest.raises(BadInput) as e:
        (Cohort.from_wide if wide else Cohort.from_frames)(*args, **kwargs)
    return str(e.value)


def test_values_are_those_by_hand():
    cohort = Cohort.from_wide(HOURLY, STAYS, MAPPING)
    events = cohort.events.set_index(["stay_id", "hour", "channel"])["value"].round(6)
    assert events[1, 0.5, "Temperature"] == 37.0
    assert events[1, 1.5, "Oxygen saturation"] == 98.0
    assert (4, 5.5, "Heart Rate") not in events.index
    assert [c.name for c in cohort.channels] == ["Heart Rate", "Oxygen saturation", "Temperature"]
    assert cohort.tasks == [Task("sepsis")]
    assert set(cohort.stays["partition"]) <= {"train", "val", "test"}


def test_long_and_wide_tables_are_the_same_cohort():
    wide = Cohort.from_wide(HOURLY, STAYS, MAPPING)
    assert Cohort.from_frames(long(), STAYS, MAPPING).fingerprint == wide.fingerprint
    one_based = HOURLY.assign(hour=HOURLY["hour"] + 1)
    assert Cohort.from_wide(one_based, STAYS, MAPPING).fingerprint == wide.fingerprint


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_rows_and_columns_changes_nothing(random):
    rows, names = list(range(len(HOURLY))), list(HOURLY.columns)
    random.shuffle(rows)
    random.shuffle(names)
    shuffled = Cohort.from_wide(HOURLY.iloc[rows][names], STAYS, MAPPING)
    assert shuffled.fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_files_of_any_kind(tmp_path, suffix):
    for name, frame in (("hourly", HOURLY), ("stays", STAYS)):
        path = tmp_path / f"{name}{suffix}"
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    read = Cohort.from_wide(tmp_path / f"hourly{suffix}", tmp_path / f"stays{suffix}", MAPPING)
    assert read.fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint


def test_timestamps_durations_and_hours_are_the_same():
    admitted = pd.Timestamp("2019-03-01 13:25")
    stays = STAYS.assign(intime=admitted)
    hours = long()["hour"]
    expected = Cohort.from_frames(long(), STAYS, MAPPING).events["hour"].to_numpy()
    for column in (
        pd.to_timedelta(hours, unit="h"),
        admitted + pd.to_timedelta(hours, unit="h"),
        (admitted + pd.to_timedelta(hours, unit="h")).dt.strftime("%Y-%m-%d %H:%M:%S"),
        (admitted + pd.to_timedelta(hours, unit="h")).dt.tz_localize("UTC"),
        hours.astype(str),
    ):
        events = Cohort.from_frames(long().assign(hour=column), stays, MAPPING).events
        assert np.allclose(events["hour"], expected)


def test_times_of_day_need_an_admission():
    times = long().assign(hour=pd.Timestamp("2019-03-01"))
    assert "no time of admission" in problems(times, STAYS, MAPPING, wide=False)
    text = problems(long().assign(hour="03/01/2019"), STAYS.assign(intime="2019-03-01"), MAPPING, wide=False)
    assert "column hour: rows 0, 1, 2 and 9 more (from 0): no time of the form" in text
    assert "January" in text


@pytest.mark.parametrize("unit", ["°F", "F", "degF", "deg F"])
def test_spellings_of_a_unit(unit):
    events = Cohort.from_wide(HOURLY, STAYS, MAPPING | {"temp_f": ("Temperature", unit)}).events
    assert events.loc[events["channel"] == "Temperature", "value"].round(6).tolist() == [37.0, 38.5, 36.5, 38.0]


def test_another_unit_than_stated_stops_and_names_the_right_one():
    assert "would fit °F" in problems(HOURLY, STAYS, MAPPING | {"temp_f": "Temperature"})
    assert "would fit °C" in problems(HOURLY.assign(temp_f=37.0), STAYS, MAPPING)
    assert "would fit fraction" in problems(
        HOURLY[["stay_id", "hour"]].assign(fio2=0.4), STAYS, {"fio2": ("Fraction inspired oxygen", "%")}
    )
    assert "'stone' is not that of Weight" in problems(HOURLY.assign(w=12), STAYS, {"w": ("Weight", "stone")})


def test_units_of_rows():
    rows = long().assign(unit=lambda d: d["variable"].map({"hr": "bpm", "temp_f": "°F", "spo2": "fraction"}))
    mapping = {name: channel for name, (channel, _) in MAPPING.items()}
    assert Cohort.from_frames(rows, STAYS, mapping).fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint


def test_a_number_is_never_a_category_unless_declared():
    motor, eyes = "Glascow coma scale motor response", "Glascow coma scale eye opening"
    scores = HOURLY[["stay_id", "hour"]].assign(m=[6, 5, 4, 1, 6])
    assert "say what they are" in problems(scores, STAYS, {"m": motor})
    cohort = Cohort.from_wide(scores, STAYS, {"m": dict(channel=motor, read_as="score")})
    channel = cohort.channels[0]
    numeric = [channel.numeric[int(v)] for v in cohort.events["value"]]
    assert numeric == [6, 5, 4, 1, 6]
    by_index = Cohort.from_wide(scores, STAYS, {"m": dict(channel=motor, read_as="index")})
    assert by_index.events["value"].tolist() == [6, 5, 4, 1, 6]
    texts = HOURLY[["stay_id", "hour"]].assign(e=["spontaneously", "To Pain", "asleep", "none", "4 Spontaneously"])
    mapped = dict(channel=eyes, categories={"asleep": "1 No Response"})
    events = Cohort.from_wide(texts, STAYS, {"e": mapped}).events["value"]
    assert [KNOWN[eyes].values[int(v)] for v in events] == [
        "Spontaneously",
        "To Pain",
        "1 No Response",
        "None",
        "4 Spontaneously",
    ]


def test_total_score_as_number_is_its_text():
    total = "Glascow coma scale total"
    events = Cohort.from_wide(HOURLY[["stay_id", "hour"]].assign(gcs=[15, 3.0, 7, 8, 9]), STAYS, {"gcs": total}).events
    assert [KNOWN[total].values[int(v)] for v in events["value"]] == ["15", "3", "7", "8", "9"]


def test_everything_wrong_is_named_at_once(tmp_path):
    stays = STAYS.assign(los_hours=[50, -1, 50, None], partition=["train", "val", "test", "holdout"])
    mapping = MAPPING | {"temp_f": "Temperature"}
    page = tmp_path / "input.html"
    with pytest.raises(InputProblems) as e:
        Cohort.from_wide(HOURLY, stays, mapping, report=page)
    text = str(e.value)
    assert text.startswith("3 problems:")
    assert "column los_hours: rows 1, 3 (from 0): no hours" in text
    assert "column partition: row 3 (from 0): not train, val or test (such as 'holdout')" in text
    assert "would fit °F" in text
    assert "los_hours" in page.read_text()
    assert str(page) in text


def test_losses_are_counted_and_limited():
    rows = pd.concat([long(), long().iloc[[0]].assign(stay_id=99), long().iloc[[0]].assign(hour=-1.0)])
    with pytest.warns(InputWarning, match=r"1 of 5 identifiers, of the form '99', where the stays have 4"):
        losses = {x["reason"]: x["n"] for x in Cohort.from_frames(rows, STAYS, MAPPING).meta["losses"]}
    assert losses == {"events: the stay is not in the table of stays": 1, "events: before admission": 1}
    untimed = long().assign(hour=lambda d: d["hour"].where(d.index != d.index[0]))
    said = problems(untimed, STAYS, MAPPING, wide=False)
    assert "the time is empty or unreadable (row 0 (from 0)): 1 of 12 rows" in said
    assert len(Cohort.from_frames(untimed, STAYS, MAPPING, allow_loss=True).events) == 11
    assert "no stay of the table of stays" in problems(HOURLY.assign(stay_id=9), STAYS, MAPPING)
    empty = pd.concat([STAYS, STAYS.assign(stay_id=[5, 6, 7, 8])])
    assert "no event is of this stay (rows 4, 5, 6 and 1 more (from 0)): 4 of 8 stays" in problems(
        HOURLY, empty, MAPPING
    )


def test_duplicated_hours_keep_the_last_row_and_are_counted():
    twice = pd.concat([HOURLY, HOURLY.iloc[[0]].assign(hr=99.0, temp_f=np.nan, spo2=np.nan)])
    cohort = Cohort.from_wide(twice, STAYS, MAPPING)
    first = cohort.events[(cohort.events["stay_id"] == 1) & (cohort.events["hour"] == 0.5)]
    assert first.loc[first["channel"] == "Heart Rate", "value"].tolist() == [99.0]
    assert [x["n"] for x in cohort.meta["losses"] if x["how"] == "merged"] == [1]


def test_text_identifiers_keep_their_names():
    names = {1: "P-01", 2: "P-02", 3: "P-003", 4: "Q"}
    hourly, stays = (t.assign(stay_id=t["stay_id"].map(names)) for t in (HOURLY, STAYS))
    stays = stays.assign(subject_id=["x", "x", "y", "z"])
    cohort = Cohort.from_wide(hourly, stays, MAPPING)
    assert cohort.stays["stay_name"].tolist() == list(names.values())
    assert cohort.stays["subject_id"].tolist() == [0, 0, 1, 2]
    last = cohort.events[cohort.events["channel"] == "Temperature"].groupby("stay_id")["value"].last().round(6)
    by_name = dict(zip(cohort.stays["stay_name"], cohort.stays["stay_id"]))
    assert last[by_name["P-02"]] == 38.5


def test_tasks_are_named_or_found():
    stays = STAYS.assign(age=[60, 70, 80, 90], died=[0, 0, 1, 1], never=0)
    found = Cohort.from_wide(HOURLY, stays, MAPPING)
    assert [(t.name, t.kind) for t in found.tasks] == [("sepsis", "phenotype"), ("died", "mortality")]
    assert "column never: holds only 0" in found.meta["note"]
    assert [t.name for t in Cohort.from_wide(HOURLY, stays, MAPPING, tasks=["died"]).tasks] == ["died"]
    said = problems(HOURLY, stays, MAPPING, tasks=["age"])
    assert "column age: rows 0, 1, 2 and 1 more (from 0): neither 0, 1 nor empty (such as 60, 70, 80)" in said
    assert "column never: holds only 0" in problems(HOURLY, stays, MAPPING, tasks=["never"])


def test_channels_of_ones_own():
    hourly = HOURLY.assign(stay_id=range(1, 6), crp=[1.0, 3, 5, 7, 9])
    stays = pd.concat([STAYS, STAYS[:1].assign(stay_id=5, subject_id=5)])
    cohort = Cohort.from_wide(hourly, stays, MAPPING | {"crp": ("CRP", "mg/L")})
    assert cohort.channels[-1] == Channel("CRP", "continuous", "mg/L", 5.0)
    assert "CRP is a channel of your own, whose normal value is its median, 5" in cohort.meta["note"]
    assert "name the channel that it is: " in cohort.meta["note"] and "Respiratory rate" in cohort.meta["note"]


def test_the_draft_of_a_mapping_names_no_unit(tmp_path):
    draft = draft_mapping(["HR", "Temp", "crp"], tmp_path / "mapping.csv")
    assert draft["channel"].tolist() == ["Heart Rate", "Temperature", ""]
    assert set(draft["unit"]) == {""}


def test_a_draft_replaces_no_file(tmp_path, capsys):
    HOURLY.to_csv(tmp_path / "hourly.csv", index=False)
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("mine")
    with pytest.raises(SystemExit) as e:
        rnn_transfer_cohort("table", events=str(tmp_path / "hourly.csv"), draft=str(mapping))
    said = capsys.readouterr().err.strip()
    assert e.value.code == 2 and "name another file" in said and "\n" not in said
    assert mapping.read_text() == "mine"


@pytest.mark.parametrize("name", ["Heart rate", "heart_rate", "HeartRate"])
def test_a_channel_spelt_almost_as_a_known_one_is_an_error(name):
    said = problems(HOURLY, STAYS, MAPPING | {"hr": (name, "bpm")})
    assert f"column hr: the mapping says {name!r}, and the known channel is 'Heart Rate'" in said
    assert "\n" not in said


def test_a_network_s_own_spelling_is_known():
    own = Channel("Heart rate", "continuous", "bpm", 80.0)
    cohort = Cohort.from_wide(HOURLY, STAYS, {"hr": "Heart rate"}, channels=[own, *BENCHMARK_CHANNELS], allow_loss=True)
    assert "Heart rate" in [c.name for c in cohort.channels]


def test_slips_of_the_pen_are_named():
    assert "no such option" in problems(HOURLY, STAYS, MAPPING, colums={})
    assert "is no role" in problems(HOURLY, STAYS, MAPPING, columns=dict(stay="stay_id"))
    assert "is missing, which columns names as stay_id" in problems(HOURLY, STAYS, MAPPING, columns=dict(stay_id="icu"))
    assert "no name stands for a channel" in problems(HOURLY.rename(columns=str.upper)[["STAY_ID", "HOUR"]], STAYS)
    assert "expected a data frame" in problems([1, 2], STAYS)


def test_the_command_draws_up_a_mapping_and_a_cohort(tmp_path, capsys):
    HOURLY.to_csv(tmp_path / "hourly.csv", index=False)
    STAYS.to_csv(tmp_path / "stays.csv", index=False)
    mapping, out = tmp_path / "mapping.csv", tmp_path / "ours"
    rnn_transfer_cohort("table", events=str(tmp_path / "hourly.csv"), draft=str(mapping))
    assert "names, " in capsys.readouterr().out
    frame = pd.read_csv(mapping, dtype=str)
    frame["unit"] = frame["name"].map({"hr": "bpm", "temp_f": "°F", "spo2": "fraction"})
    frame.to_csv(mapping, index=False)
    files = dict(events=str(tmp_path / "hourly.csv"), stays=str(tmp_path / "stays.csv"), mapping=str(mapping))
    rnn_transfer_cohort("table", out=str(out), **files)
    assert Cohort.load(out).fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint
    assert "Temperature" in (tmp_path / "ours-input.html").read_text()
    assert re.search(r"what came in.*input\.html", capsys.readouterr().out)


def test_the_command_stops_with_a_page_and_no_cohort(tmp_path, capsys):
    HOURLY.drop(columns="hour").to_csv(tmp_path / "hourly.csv", index=False)
    STAYS.to_csv(tmp_path / "stays.csv", index=False)
    with pytest.raises(SystemExit) as e:
        rnn_transfer_cohort(
            "table", events=str(tmp_path / "hourly.csv"), stays=str(tmp_path / "stays.csv"), out=str(tmp_path / "ours")
        )
    assert e.value.code == 2
    assert "hourly.csv: column hour: is missing" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
    assert (tmp_path / "ours-input.html").exists()


def icu(n: int = 60, seed: int = 0) -> Cohort:
    "A cohort of invented stays with three continuous channels and a category, measured at random times."
    rng = np.random.default_rng(seed)
    names = ["Glascow coma scale motor response", "Heart Rate", "Oxygen saturation", "Temperature"]
    draws = [lambda k: rng.integers(0, 12, k).astype(float), lambda k: rng.normal(90, 15, k)]
    draws += [lambda k: rng.uniform(85, 100, k), lambda k: rng.normal(37, 0.7, k)]
    rows = []
    for stay in range(n):
        for name, draw in zip(names, draws):
            k = rng.integers(0, 40)
            hour = rng.uniform(0, 48, k)
            rows.append(pd.DataFrame(dict(stay_id=stay, hour=hour, channel=name, value=draw(k))))
    events = pd.concat(rows).sort_values(["stay_id", "hour"], kind="stable", ignore_index=True)
    y = rng.permutation(np.arange(n) % 2).astype(float)
    partition = np.array(["train", "val", "test"])[np.arange(n) % 3]
    stays = pd.DataFrame(dict(stay_id=range(n), subject_id=range(n), los_hours=60.0, partition=partition, shock=y))
    return Cohort(events, stays, [KNOWN[name] for name in names], [Task("shock")])


def other_hospital(cohort: Cohort) -> pd.DataFrame:
    "The same stays as an hourly table with other names, units, scores and identifiers."
    events = cohort.events.assign(hour=np.ceil(cohort.events["hour"]).clip(1).astype(int) - 1)
    wide = events.groupby(["stay_id", "hour", "channel"], observed=True)["value"].last().unstack().reset_index()
    motor = KNOWN["Glascow coma scale motor response"]
    text = wide[motor.name].map(lambda v: motor.values[int(v)], na_action="ignore")
    table = dict(case="case " + wide["stay_id"].astype(str), t=wide["hour"], puls=wide["Heart Rate"], motor=text)
    return pd.DataFrame(table | dict(sat=wide["Oxygen saturation"] / 100, temp=wide["Temperature"] * 9 / 5 + 32))


def test_another_hospital_needs_nothing_but_a_mapping(tmp_path):
    cohort = icu()
    path = tmp_path / "net.safetensors"
    pretrain_network(cohort, hidden=[8], settings=TrainSettings(lr=1e-2, max_updates=20), threads=1).save(path)
    mapping = {"puls": ("Heart Rate", "1/min"), "motor": "Glascow coma scale motor response"}
    mapping |= {"sat": ("Oxygen saturation", "fraction"), "temp": ("Temperature", "°F")}
    stays = cohort.stays.assign(case="case " + cohort.stays["stay_id"].astype(str)).drop(columns="stay_id")
    columns = dict(stay_id="case", hour="t")
    theirs = Cohort.from_wide(other_hospital(cohort), stays, mapping, columns=columns, checkpoint=path)
    ours = MIMICNetFeatures(path).fit(cohort).transform(cohort)
    back = MIMICNetFeatures(path).fit(theirs).transform(theirs)
    assert np.abs(back.to_numpy() - ours.to_numpy()).max() < 1e-5
    assert check_input(theirs, path).warnings == []


def test_a_network_far_away_is_warned_of(tmp_path):
    cohort = icu()
    path = tmp_path / "net.safetensors"
    pretrain_network(cohort, hidden=[4], settings=TrainSettings(max_updates=2), threads=1).save(path)
    hot = cohort.events.assign(value=cohort.events["value"].where(cohort.events["channel"] != "Temperature", 41.0))
    rare = hot[~((hot["channel"] == "Heart Rate") & (hot["stay_id"] > 20))]
    warnings = check_input(Cohort(rare, cohort.stays, cohort.channels, cohort.tasks), path).warnings
    assert len(warnings) == 2
    assert "Heart Rate: measured in" in warnings[0]
    assert "Temperature: median 41" in warnings[1]


def test_columns_of_stays_that_nobody_reads_are_named():
    cohort = Cohort.from_wide(HOURLY, STAYS.drop(columns="los_hours").assign(Dauer=3.5), MAPPING)
    assert "not read, as they are neither tasks" in cohort.meta["note"] and ": Dauer;" in cohort.meta["note"]
    assert "columns=dict(los_hours='Dauer')" in cohort.meta["note"]


def test_deaths_within_the_window_are_said_once():
    stays = STAYS.assign(Death=[1, 0, 0, 1], los_hours=10.0)
    lines = describe_cohort(Cohort.from_wide(HOURLY, stays, MAPPING))
    assert lines.count("before hour 48: the input can hold the outcome") == 1 and "with Death = 1" not in lines


@pytest.mark.parametrize("write", [lambda h: h, lambda h: h.astype(str), lambda h: pd.to_timedelta(h, unit="h")])
def test_the_first_hour_is_said_and_can_be_stated(write):
    rows = pd.DataFrame(dict(case=["a", "b"], hour=write(pd.Series([1, 2])), hr=[80.0, 90.0]))
    stays = pd.DataFrame(dict(case=["a", "b"], los_hours=60.0, shock=[0, 1]))
    options = dict(mapping={"hr": "Heart Rate"}, columns=dict(stay_id="case"))
    read = Cohort.from_wide(rows, stays, **options)
    assert read.events["hour"].tolist() == [0.5, 1.5] and "hour 1 is read as the first hour" in read.meta["note"]
    for first, hours in ((0, [1.5, 2.5]), (1, [0.5, 1.5])):
        stated = Cohort.from_wide(rows, stays, first_hour=first, **options)
        assert stated.events["hour"].tolist() == hours and "hour 1 is read" not in stated.meta["note"]
    with pytest.raises(BadInput, match="first_hour 2; expected 0 or 1"):
        Cohort.from_wide(rows, stays, first_hour=2, **options)


def test_what_to_know_of_a_conversion_is_one_warning():
    stays = STAYS.drop(columns="subject_id").assign(ward="M1")
    with pytest.warns(InputWarning) as shown:
        cohort = Cohort.from_wide(HOURLY.assign(crp=1.0, hr=[88.0, 91, 70, 65, 900]), stays, MAPPING)
    assert len(shown) == 1 and shown[0].filename == __file__
    text = str(shown[0].message)
    assert text.startswith("5 things to know of the conversion:\n")
    for line in (
        "stays: column subject_id: is missing",
        "not among those",
        "ignored, as they stand for no channel: crp",
        "1 of 5 values (20.0%) dropped: events: hr: outside",
    ):
        assert text.count(line) == (0 if line == "not among those" else 1), line
    assert cohort.meta["note"].splitlines() == [line.strip() for line in text.splitlines()[1:5]]


def test_a_conversion_without_anything_to_know_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Cohort.from_wide(HOURLY, STAYS.assign(partition=["train", "val", "test", "train"]), MAPPING)


def write_tables(folder, hourly, stays):
    "The options of a command for two tables and a mapping in files."
    hourly.to_csv(folder / "hourly.csv", index=False)
    stays.to_csv(folder / "stays.csv", index=False)
    rows = "".join(f"{name},{channel},{unit}\n" for name, (channel, unit) in MAPPING.items())
    (folder / "mapping.csv").write_text("name,channel,unit\n" + rows)
    paths = dict(events="hourly.csv", stays="stays.csv", mapping="mapping.csv", out="made")
    return {name: str(folder / path) for name, path in paths.items()}


def test_a_command_prints_each_thing_to_know_once(tmp_path, capsys):
    options = write_tables(tmp_path, HOURLY.assign(crp=1.0), STAYS.assign(ward="M1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rnn_transfer_cohort("table", **options)
    said = capsys.readouterr()
    assert said.err == ""
    notes = [line for line in said.out.splitlines() if line.startswith("  note: ")]
    assert len(notes) == 3 and "ward" in notes[1] and "crp" in notes[2]


@pytest.mark.parametrize("first, hours", [(0, [1.5, 2.5]), (1, [0.5, 1.5])])
def test_the_command_takes_the_first_hour(tmp_path, capsys, first, hours):
    hourly = HOURLY.assign(hour=[1, 2, 1, 1, 1])
    options = write_tables(tmp_path, hourly, STAYS)
    rnn_transfer_cohort("table", **options, first_hour=first)
    assert "hour 1 is read as the first hour" not in capsys.readouterr().out
    assert sorted(Cohort.load(options["out"]).events["hour"].unique()) == hours
    with pytest.raises(SystemExit):
        rnn_transfer_cohort("table", **options, first_hour=2)
    assert "first_hour 2; expected 0 or 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        rnn_transfer_cohort("synthetic", first_hour=0)
    assert "--first-hour: synthetic has no such option" in capsys.readouterr().err


def test_the_first_hour_of_single_moments_is_an_error():
    assert "each row is a moment" in problems(long(), STAYS, MAPPING, wide=False, first_hour=1)


WRONG_STAYS = STAYS.assign(
    stay_id=[1, 2, 2, np.nan],
    partition=["train", "tests", "val", "test"],
    los_hours=[50, -1, 50, 50],
    site=["A", None, "B", "B"],
)
WRONG_MAPPING = {
    "hr": dict(chanel="Heart Rate"),
    "temp_f": ("Temperature", "stone"),
    "spo2": ("oxygen-saturation", "fraction"),
    "gcs": dict(channel="Glascow coma scale motor response", read_as="points"),
    "eyes": dict(channel="Glascow coma scale eye opening", categories={"open": "Open", "shut": "Shut"}),
}
EVERY_PROBLEM = [
    "stays: column stay_id: row 3 (from 0): empty",
    "stays: column stay_id: row 2 (from 0): an earlier row has the same stay",
    "stays: column site: row 1 (from 0): empty",
    "stays: column partition: row 1 (from 0): not train, val or test",
    "stays: column los_hours: row 1 (from 0): no hours",
    "stays: column age: is missing, which tasks names",
    "mapping: column hr: holds {'chanel': 'Heart Rate'}; expected a channel",
    "mapping: column gcs: read_as is 'points'; expected text, score, index",
    "events: column temp_f: rows 0, 2 (from 0): unit 'stone' is not that of Temperature",
    "events: column spo2: the mapping says 'oxygen-saturation', and the known channel is 'Oxygen saturation'",
    "mapping: column eyes: has a wrong category; categories 'Open', 'Shut' are none of",
    "columns: 'place' is no role",
    "options: whole_hours 'bin'; expected times or bins",
    "options: colour: no such option",
    "net.json",
]


def test_no_problem_hides_another(tmp_path):
    page = tmp_path / "input.html"
    options = dict(columns=dict(place="x"), whole_hours="bin", colour=1, tasks=["sepsis", "age"], report=page)
    hourly = HOURLY.assign(gcs=6, eyes="open")
    with pytest.raises(InputProblems) as e:
        Cohort.from_wide(hourly, WRONG_STAYS, WRONG_MAPPING, checkpoint=tmp_path / "net.safetensors", **options)
    found = [str(p) for p in e.value.findings.errors]
    for text in EVERY_PROBLEM:
        assert sum(text in line for line in found) == 1, (text, found)
    assert len(found) == len(EVERY_PROBLEM), "\n".join(found)
    shown = html.unescape(page.read_text())
    assert all(p.what in shown for p in e.value.findings.errors)


@pytest.mark.parametrize(
    "hourly, stays, expected",
    [
        (HOURLY, STAYS.drop(columns="stay_id").assign(partition="all"), ["stay_id: is missing", "not train", "°F"]),
        (HOURLY.drop(columns="stay_id"), STAYS.assign(los_hours=-1), ["stay_id: is missing", "no hours", "°F"]),
        (HOURLY.drop(columns="hour"), STAYS[:0], ["hour: is missing", "has no rows", "°F"]),
        (HOURLY.assign(stay_id=9), STAYS.assign(los_hours=-1), ["has no stay of the table", "no hours", "°F"]),
        (HOURLY, "nowhere.csv", ["nowhere.csv: no such file", "°F"]),
        ("nowhere.parquet", STAYS.assign(los_hours=-1), ["nowhere.parquet: no such file", "no hours"]),
        (HOURLY.assign(hour="noon"), STAYS.assign(intime="today"), ["intime", "hour", "°F"]),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_placed_is_checked_all_the_same(hourly, stays, expected):
    text = problems(hourly, stays, MAPPING | {"temp_f": "Temperature"})
    assert text.startswith(f"{len(expected)} problems:"), text
    for part in expected:
        assert part in text


def test_a_long_table_without_its_columns_still_has_its_stays_and_mapping_checked():
    text = problems(long().drop(columns="value"), STAYS.assign(los_hours=-1), {"hr": 7}, wide=False)
    assert text.startswith("3 problems:")
    assert "column value: is missing" in text and "no hours" in text and "mapping: column hr" in text


def test_a_mapping_file_has_all_its_problems_named(tmp_path):
    file = tmp_path / "mapping.csv"
    file.write_text("name,channel,unit,colour,normal\nhr,Heart Rate,bpm,,x\nhr,Heart Rate,/min,,\n")
    text = problems(HOURLY, STAYS, file)
    assert "column colour: is not known" in text
    assert "column unit: hr has /min and bpm" in text
    assert "column normal: hr has 'x'; give a number" in text
    assert problems(HOURLY, STAYS.assign(los_hours=-1), tmp_path / "no.csv").startswith("2 problems:")


def test_a_label_with_the_name_of_a_channel_is_named():
    stays = STAYS.assign(Temperature=[0, 1, 0, 1])
    assert "column Temperature: is a label and has the name of a channel" in problems(HOURLY, stays, MAPPING)


def test_an_empty_identifier_loses_its_row_alone():
    blank = pd.DataFrame([{name: np.nan for name in HOURLY}])
    cohort = Cohort.from_wide(pd.concat([HOURLY, blank], ignore_index=True), STAYS, MAPPING)
    assert cohort.fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint
    assert [(loss["n"], loss["of"]) for loss in cohort.meta["losses"]] == [(1, 6)]


@pytest.mark.parametrize(
    "hourly",
    [
        HOURLY.assign(hour=-5),
        HOURLY.assign(hour=np.nan),
        HOURLY[:0],
        HOURLY.assign(hr=np.nan, temp_f=np.nan, spo2=np.nan),
    ],
)
def test_no_loss_that_is_accepted_makes_a_cohort_of_nothing(hourly):
    assert "no value is left" in problems(hourly, STAYS, MAPPING, allow_loss=True, first_hour=0)


def moments(n: int = 40, seed: int = 0, window: float = np.inf) -> tuple[pd.DataFrame, pd.DataFrame]:
    "A long table of heart rates in hours until the end of each stay or of a window, and its stays of 10 to 200 hours."
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(10, 200, n)
    hours = [np.sort(np.append(rng.uniform(0, min(length, window), 30), min(length, window))) for length in lengths]
    rows = [pd.DataFrame(dict(stay_id=i, hour=h, variable="hr", value=80.0)) for i, h in enumerate(hours)]
    stays = pd.DataFrame(dict(stay_id=range(n), subject_id=range(n), los_hours=lengths, shock=np.arange(n) % 2))
    return pd.concat(rows, ignore_index=True), stays


HEART_RATE = {"hr": ("Heart Rate", "bpm")}


@pytest.mark.parametrize("window", [np.inf, 48])
@pytest.mark.parametrize("unit, factor", [("minutes", 60), ("seconds", 3600), ("days", 1 / 24)])
def test_times_in_another_unit_are_found_and_can_be_stated(unit, factor, window):
    events, stays = moments(window=window)
    others = events.assign(hour=events["hour"] * factor)
    right = Cohort.from_frames(events, stays, HEART_RATE)
    stated = Cohort.from_frames(others, stays, HEART_RATE, time_unit=unit)
    assert np.allclose(stated.events["hour"], right.events["hour"])
    if unit == "days" and window == 48:
        return  # the first two hours of long stays look the same
    said = problems(others, stays, HEART_RATE, wide=False)
    assert said.startswith("events: column hour: no hours: ") and f"say time_unit='{unit}'" in said
    late = int((others["hour"] > others["stay_id"].map(stays["los_hours"]) + 1).sum())
    assert f"{late:,} of 1,240 rows ({late / 1240:.0%}) are after the end of their stay" in said
    assert len(Cohort.from_frames(others, stays, HEART_RATE, time_unit="hours", allow_loss=True).events) > 0


def test_lengths_in_days_are_found():
    events, stays = moments()
    stays = stays.assign(los_hours=stays["los_hours"] / 24)
    said = problems(events, stays, HEART_RATE, wide=False)
    assert "give the lengths of stay in hours: they seem to be days" in said and "say time_unit='hours'" not in said


@pytest.mark.parametrize(
    "stretch",
    [
        lambda h, i: h * 8,
        lambda h, i: h + 400,
        lambda h, i: np.where(h > 20, h * 30, h),
        lambda h, i: h * np.random.default_rng(1).lognormal(2, 1.2, 40)[i],  # eight times as long, some sixty times
        lambda h, i: h.clip(upper=6),
    ],
)
def test_a_table_that_goes_on_after_discharge_is_no_error(stretch):
    events, stays = moments()
    stretched = events.assign(hour=stretch(events["hour"], events["stay_id"]))
    assert len(Cohort.from_frames(stretched, stays, HEART_RATE).events)


def test_most_rows_after_discharge_are_the_first_thing_to_know():
    events, stays = moments()
    cohort = Cohort.from_frames(events.assign(hour=events["hour"] * 8), stays, HEART_RATE)
    first = cohort.meta["note"].splitlines()[0]
    assert re.match(r"events: column hour: 1,\d\d\d of 1,240 rows \(\d\d%\) are after the end of their stay; ", first)


def test_an_hourly_table_in_minutes_is_found_without_lengths():
    hourly = pd.DataFrame(dict(stay_id=np.repeat([1, 2], 20), hour=np.tile(np.arange(20) * 60, 2), hr=80.0))
    stays = STAYS[:2].drop(columns="los_hours")
    said = problems(hourly, stays, HEART_RATE)
    assert "holds minutes, not hours: the rows of a stay are 60 apart" in said and "say time_unit='minutes'" in said
    cohort = Cohort.from_wide(hourly, stays, HEART_RATE, time_unit="minutes")
    assert cohort.events["hour"].tolist() == [*(np.arange(20) + 0.5)] * 2


def test_without_lengths_a_table_outside_the_window_is_the_first_thing_to_know():
    events, stays = moments()
    late = events.assign(hour=events["hour"] * 60)
    first = Cohort.from_frames(late, stays.drop(columns="los_hours"), HEART_RATE).meta["note"].splitlines()[0]
    inside = int((late["hour"] <= 48).sum())
    assert first.startswith(f"events: column hour: only {inside:,} of 1,240 rows (")
    assert "say time_unit='minutes'" in first


def test_a_unit_is_for_numbers_alone():
    admitted = pd.Timestamp("2019-03-01 13:25")
    times = long().assign(hour=admitted + pd.to_timedelta(long()["hour"], unit="h"))
    said = problems(times, STAYS.assign(intime=admitted), MAPPING, wide=False, time_unit="minutes")
    assert "time_unit='minutes': the column holds durations or times of day" in said
    assert "expected hours or minutes or days or seconds" in problems(long(), STAYS, MAPPING, False, time_unit="h")


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"])
def test_times_with_dots_begin_with_the_day(form):
    admitted = pd.Timestamp("2019-03-01 13:25")
    times = admitted + pd.to_timedelta(long()["hour"], unit="h")
    stays = STAYS.assign(intime=admitted.strftime(form), outtime="4.3.2019 9:05").drop(columns="los_hours")
    cohort = Cohort.from_frames(long().assign(hour=times.dt.strftime(form)), stays, MAPPING)
    assert np.allclose(cohort.events["hour"], Cohort.from_frames(long(), STAYS, MAPPING).events["hour"])
    assert np.allclose(cohort.stays["los_hours"], 67 + 2 / 3)


def put_csv(folder, name: str, text: str):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


NUMBERED = "Fall,hour,hr\n007,0,80\n7,0,90\n0012,0,70\n12,0,60\n"
ZEROS = dict(mapping=HEART_RATE, columns=dict(stay_id="Fall", subject_id="Patient"))


def test_leading_zeros_make_another_stay(tmp_path):
    hourly = put_csv(tmp_path, "hourly.csv", NUMBERED)
    stays = put_csv(tmp_path, "stays.csv", "Fall,Patient,los_hours,y\n007,01,60,1\n7,1,60,0\n0012,01,60,1\n12,2,60,0\n")
    cohort = Cohort.from_wide(hourly, stays, **ZEROS)
    names = dict(zip(cohort.stays["stay_id"], cohort.stays["stay_name"]))
    assert dict(zip(cohort.events["stay_id"].map(names), cohort.events["value"])) == {
        "007": 80, "7": 90, "0012": 70, "12": 60
    }  # fmt: skip
    assert cohort.stays["subject_name"].tolist() == ["01", "1", "01", "2"]


def test_identifiers_that_meet_nothing_are_counted_with_examples(tmp_path):
    hourly = put_csv(tmp_path, "hourly.csv", "Fall,hour,hr\n7,0,80\n12,0,70\n")
    stays = put_csv(tmp_path, "stays.csv", "Fall,Patient,los_hours,y\n007,1,60,1\n012,2,60,0\n")
    said = problems(hourly, stays, **ZEROS)
    assert "2 of 2 identifiers, of the form '9', '99', where the stays have 2, of the form '009', '099'; " in said
    assert "2 differ in leading zeros alone" in said


@pytest.mark.parametrize("given", [["7", "8"], [7, 8], [7.0, 8.0], np.array([7, 8], "int32"), ["7", "8 "]])
def test_whole_numbers_meet_however_they_are_typed(given):
    hourly = pd.DataFrame(dict(stay_id=[7, 8, 8], hour=[0, 0, 1], hr=80.0))
    for ids in (hourly["stay_id"], hourly["stay_id"].astype(str), hourly["stay_id"].astype(float)):
        stays = STAYS[:2].assign(stay_id=given)
        assert Cohort.from_wide(hourly.assign(stay_id=ids), stays, HEART_RATE).events["stay_id"].tolist() == [7, 8, 8]


def test_numbers_meet_texts_of_a_table_that_has_both():
    hourly = pd.DataFrame(dict(stay_id=[7.0, np.nan, 8.0], hour=[0, 0, 1], hr=80.0))
    stays = STAYS[:3].assign(stay_id=["7", "8", "A9"])
    cohort = Cohort.from_wide(hourly, stays, HEART_RATE, allow_loss=True)
    assert cohort.events["stay_id"].map(cohort.stays.set_index("stay_id")["stay_name"]).tolist() == ["7", "8"]


@pytest.mark.parametrize("name, meant", [
    ("Hart rate", "Heart Rate"), ("Glucos", "Glucose"), ("heart-rates", "Heart Rate"), ("Temprature", "Temperature"),
    ("Glasgow coma scale total", "Glascow coma scale total"),
])  # fmt: skip
def test_a_channel_misspelt_by_a_letter_is_asked_about(name, meant):
    said = problems(HOURLY, STAYS, MAPPING | {"hr": (name, "bpm")})
    assert f"column hr: the mapping says {name!r}, which is no known channel: did you mean {meant!r}?" in said
    own = MAPPING | {"hr": dict(channel=name, unit="bpm", normal=80.0)}
    assert Channel(name, "continuous", "bpm", 80.0) in Cohort.from_wide(HOURLY, STAYS, own).channels


def test_two_columns_of_one_channel_say_what_was_merged():
    hourly = HOURLY.assign(cuff=[120.0, 118, 110, np.nan, 100], art=[120.0, 121, np.nan, 115, 103])
    pressure = "Systolic blood pressure"
    mapping = {"art": (pressure, "mmHg"), "cuff": (pressure, "mmHg")}
    cohort = Cohort.from_wide(hourly[["stay_id", "hour", "cuff", "art"]], STAYS, mapping)
    assert [loss["reason"] for loss in cohort.meta["losses"]] == [
        f"events: {pressure} is read from art, cuff: 3 times have more than one of them, 2 with different values; "
        "the first in the mapping is kept"
    ]
    assert cohort.events["value"].tolist() == [120, 121, 110, 115, 103]


@pytest.mark.parametrize("cells, fix", [
    (["12,5", "3,1", None, "2"], "say decimal=','"), (["<0.1", "> 40", "3", "2"], "write the limit itself"),
    (["n. b.", "x", "3", "2"], "write plain numbers"), (["1.234,5", "1.000,0", "3", "2"], "parts the thousands"),
])  # fmt: skip
def test_cells_that_are_no_number_are_shown_with_their_lines_and_a_fix(tmp_path, cells, fix):
    frame = HOURLY[:4].assign(hr=cells)
    said = problems(put_csv(tmp_path, "hourly.csv", frame.to_csv(index=False)), STAYS, MAPPING)
    assert f"hourly.csv: hr: is no number (lines 2, 3, such as {cells[0]!r}, {cells[1]!r}): 2 of " in said
    assert fix in said
    assert "events: hr: is no number (rows 0, 1 (from 0), such as " in problems(frame, STAYS, MAPPING)


@pytest.mark.parametrize("name", ["hourly.csv", "hourly.tsv"])
def test_a_decimal_comma_is_stated_or_follows_from_semicolons(tmp_path, name):
    frame = HOURLY.assign(hr=["88,5", "<60", "70,0", "65,5", ""], temp_f=["98,6", "", "101,3", "97,7", "100,4"])
    frame["spo2"] = ["0,97", "0,98", "", "0,99", "0,95"]
    options = dict(mapping=MAPPING, allow_loss=True)
    text = frame.to_csv(index=False, sep="\t" if name.endswith("tsv") else ",")
    stated = Cohort.from_wide(put_csv(tmp_path, name, text), STAYS, decimal=",", **options)
    found = Cohort.from_wide(put_csv(tmp_path, "x.csv", frame.to_csv(index=False, sep=";")), STAYS, **options)
    assert stated.fingerprint == found.fingerprint == Cohort.from_wide(frame, STAYS, decimal=",", **options).fingerprint
    values = found.events[found.events["channel"] == "Heart Rate"]["value"].tolist()
    assert values == [88.5, 70.0, 65.5]


def test_what_a_cohort_keeps_of_a_warning_has_counts_and_no_row(tmp_path):
    stays = STAYS.assign(los_hours=[3.0, 90, 90, 90], **{"In-hospital mortality": [1, 0, 0, 0]})
    with pytest.warns(InputWarning) as said:
        cohort = Cohort.from_wide(HOURLY, stays, MAPPING)
    assert "row 0 (from 0)" in str(said[0].message)
    note = cohort.meta["note"]
    assert "ends before hour 48" in note and "fewer than 5 of 4 rows" in note
    assert not re.search(r"\b(rows?|lines?) \d", note), note


def test_a_cohort_keeps_no_row_of_a_patient(tmp_path):
    rows = HOURLY.assign(stay_id=HOURLY["stay_id"].map(lambda i: f"K{i}7"), hr=["n. b.", "x9", 70, 65, 60])
    rows = pd.concat([rows, rows[-1:].assign(stay_id="K4711", hr=61)])
    stays = STAYS.assign(stay_id=[f"K{i}7" for i in STAYS["stay_id"]])
    with pytest.warns(InputWarning) as said:
        cohort = Cohort.from_wide(rows, stays, MAPPING, allow_loss=True)
    assert "such as 'n. b.', 'x9'" in str(said[0].message) and "4711" not in str(said[0].message)
    cohort.save(tmp_path / "c")
    kept = (tmp_path / "c" / "cohort.json").read_text()
    assert "is no number" in kept and "n. b." not in kept and "rows 0" not in kept and "4711" not in kept


def test_values_outside_a_range_are_shown_with_their_lines(tmp_path):
    hourly = put_csv(tmp_path, "hourly.csv", HOURLY.to_csv(index=False))
    said = problems(hourly, STAYS, MAPPING | {"temp_f": "Temperature"})
    where = "(lines 2, 4, 5 and 1 more, such as 98.6, 101.3, 97.7): 4 of 4 values"
    assert f"temp_f: outside 25 to 45 °C of Temperature {where}" in said


def test_rows_of_a_file_are_named_by_their_line(tmp_path):
    text = "stay_id,note,los_hours,y\n1,a,50,1\n\n2,\"two\nlines\",x,0\n3,b,-5,1\n"
    said = problems(HOURLY, put_csv(tmp_path, "stays.csv", text), MAPPING)
    assert "stays.csv: column los_hours: lines 4, 6: no hours (such as 'x', '-5')" in said
    rows = pd.read_csv(tmp_path / "stays.csv")
    assert "stays: column los_hours: rows 1, 2 (from 0): no hours" in problems(HOURLY, rows, MAPPING)
    rows.to_parquet(tmp_path / "stays.parquet")
    assert "stays.parquet: column los_hours: rows 1, 2 (from 0)" in problems(
        HOURLY, tmp_path / "stays.parquet", MAPPING
    )


def test_labels_and_partitions_that_are_missing_are_counted():
    stays = STAYS.assign(shock=[1, 0, np.nan, np.nan])
    note = Cohort.from_wide(HOURLY, stays, MAPPING).meta["note"]
    assert "of 4 stays some have no label and take no part in that task: shock 2;" in note
    assert "column partition: is missing: stays are drawn by subject with seed 0, 2 for train, 1 for val" in note
    said = problems(HOURLY, STAYS.assign(partition=["train", None, "test", "hold"]), MAPPING)
    assert "column partition: row 1 (from 0): empty" in said and "row 3 (from 0): not train" in said


def test_the_command_takes_the_unit_of_times_and_the_decimal_comma(tmp_path, capsys):
    hourly = HOURLY.assign(hour=HOURLY["hour"] * 60, hr=["88,0", "91,0", "70,0", "65,0", ""])
    options = write_tables(tmp_path, hourly, STAYS)
    rnn_transfer_cohort("table", **options, time_unit="minutes", decimal=",")
    assert Cohort.load(options["out"]).fingerprint == Cohort.from_wide(HOURLY, STAYS, MAPPING).fingerprint
    capsys.readouterr()


@pytest.mark.parametrize("text, expected", [
    ("stay_id,hour,hr\n1,0,80,5\n2,0,90,5\n", "lines have more fields than line 1 has names (3); put texts"),
    ("sep=;\nstay_id;hour;hr\n1;0;80,5\n", "line 1: 'sep=;' is for Excel alone; delete the line"),
])  # fmt: skip
def test_a_file_that_would_lose_a_field_is_named(tmp_path, text, expected):
    assert expected in problems(put_csv(tmp_path, "hourly.csv", text), STAYS, HEART_RATE)


def test_commas_at_the_ends_of_lines_lose_nothing(tmp_path):
    text = "stay_id,hour,hr\n1,0,80,\n2,0,90,\n"
    cohort = Cohort.from_wide(put_csv(tmp_path, "hourly.csv", text), STAYS[:2], HEART_RATE)
    assert cohort.events["value"].tolist() == [80, 90]


def test_a_draft_knows_german_names_with_units_in_brackets():
    names = ["Temperatur (°F)", "RR syst. [kPa]", "Sättigung", "Größe (cm)", "Kreatinin"]
    drafted = draft_mapping(names)["channel"].tolist()
    assert drafted == ["Temperature", "Systolic blood pressure", "Oxygen saturation", "Height", ""]


def after_discharge(unit: str = "timestamps") -> tuple[pd.DataFrame, pd.DataFrame]:
    "Rows every six hours to day 30 as timestamps or durations, and ICU stays of 10 to 60 hours."
    lengths, admitted = np.linspace(10, 60, 20), pd.Timestamp("2019-03-01 13:25")
    hours = pd.to_timedelta(np.tile(np.arange(0, 720, 6), 20), unit="h")
    times = hours + admitted if unit == "timestamps" else hours
    events = pd.DataFrame(dict(stay_id=np.repeat(range(20), 120), hour=times, variable="hr", value=80.0))
    stays = pd.DataFrame(dict(stay_id=range(20), subject_id=range(20), los_hours=lengths, shock=np.arange(20) % 2))
    return events, stays.assign(intime=admitted)


@pytest.mark.parametrize("unit", ["timestamps", "durations"])
def test_timestamps_and_durations_are_never_asked_for_their_unit(unit):
    events, stays = after_discharge(unit)
    note = Cohort.from_frames(events, stays, HEART_RATE).meta["note"]
    assert "are after the end of their stay; check that times and lengths count from the same admission\n" in note
    assert "time_unit" not in note
    wide = events.drop(columns="variable").rename(columns=dict(value="hr"))
    assert "time_unit" not in Cohort.from_wide(wide, stays, HEART_RATE).meta["note"]
    late = events.assign(hour=events["hour"] + pd.Timedelta(hours=100))
    assert "time_unit" not in Cohort.from_frames(late, stays.drop(columns="los_hours"), HEART_RATE).meta["note"]


def test_lengths_in_days_are_found_by_timestamps():
    events, stays = moments()
    events = events.assign(hour=pd.Timestamp("2019-03-01") + pd.to_timedelta(events["hour"], unit="h"))
    stays = stays.assign(intime="2019-03-01", los_hours=stays["los_hours"] / 24)
    said = problems(events, stays, HEART_RATE, wide=False)
    assert "in days; give the lengths of stay in hours: they seem to be days" in said and "time_unit" not in said


def test_lengths_between_two_timestamps_are_no_days():
    events, stays = after_discharge()
    lengths = pd.to_timedelta(np.linspace(29, 31, 20), unit="h")
    stays = stays.assign(outtime=stays["intime"] + lengths).drop(columns="los_hours")
    assert len(Cohort.from_frames(events, stays, HEART_RATE).events)


def to_a_horizon(last: int, step: int, seed: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Rows of every stay to the same hour, and stays of about 48 hours."
    lengths, hours = np.random.default_rng(seed).lognormal(np.log(48), 0.75, 200), np.arange(0, last + 1, step)
    rows = dict(stay_id=np.repeat(range(200), len(hours)), hour=np.tile(hours, 200), hr=80.0)
    stays = dict(stay_id=range(200), subject_id=range(200), los_hours=lengths, shock=np.arange(200) % 2)
    return pd.DataFrame(rows), pd.DataFrame(stays)


@pytest.mark.parametrize("last, step", [(720, 1), (1440, 1), (1440, 6), (2880, 6), (2880, 1), (168, 1), (1152, 1)])
def test_a_table_of_the_same_hours_for_every_stay_is_only_warned_of(last, step):
    hourly, stays = to_a_horizon(last, step)
    for convert, events in ((Cohort.from_wide, hourly), (Cohort.from_frames, long(hourly))):
        first = convert(events, stays, HEART_RATE).meta["note"].splitlines()[0]
        assert re.match(
            r"events: column hour: [\d,]+ of [\d,]+ rows \(\d\d%\) are after the end of their stay; ", first
        )


@pytest.mark.parametrize("window", [24, 48, 72])
def test_minutes_of_a_window_are_found(window):
    events, stays = moments(window=window)
    minutes = events.assign(hour=events["hour"] * 60)
    assert "say time_unit='minutes'" in problems(minutes, stays, HEART_RATE, wide=False)


@pytest.mark.parametrize("digits", [4, 5, 6, 9])
@pytest.mark.parametrize("unit, factor", [("days", 1 / 24), ("minutes", 60), ("seconds", 3600)])
def test_rounded_parts_of_another_unit_are_the_hour_that_they_name(unit, factor, digits):
    hours = np.arange(48)
    hourly = pd.DataFrame(dict(stay_id=1, hour=np.round(hours * factor, digits), hr=80.0))
    cohort = Cohort.from_wide(hourly, STAYS[:1], HEART_RATE, time_unit=unit)
    assert cohort.events["hour"].tolist() == [*(hours + 0.5)]
    from_1 = hourly.assign(hour=np.round((hours + 1) * factor, digits))
    assert Cohort.from_wide(from_1, STAYS[:1], HEART_RATE, time_unit=unit).events["hour"].tolist() == [*(hours + 0.5)]


def test_a_name_in_two_units_says_which_is_kept():
    alike = 5 * find_conversion("mmol/L", "mg/dL", "Glucose")[0]
    rows = [(1, 0.5, "mmol/L", 5.0), (1, 0.5, "mg/dL", alike), (2, 0.5, "mg/dL", 120.0), (2, 0.5, "mmol/L", 5.0)]
    rows += [(3, 0.5, "mmol/L", 4.0), (3, 0.5, "mmol/L", 6.0)]
    events = pd.DataFrame(rows, columns=["stay_id", "hour", "unit", "value"]).assign(variable="Glucose")
    cohort = Cohort.from_frames(events, STAYS[:3], allow_loss=True)
    assert cohort.events["value"].round(1).tolist() == [90.1, 90.1, 108.1]  # the unit met first
    lost = {loss["reason"]: loss["n"] for loss in cohort.meta["losses"]}
    assert lost == {
        "events: a later row has the same stay, time and name, and is kept": 1,
        "events: Glucose: another row has the same stay and time in another unit, 1 with a different value; "
        "the unit that the table has first is kept": 2,
    }


def test_a_decimal_comma_in_categories_is_read(tmp_path):
    frame = HOURLY.assign(hr=["88,5", None, "70,0", "65,5", "60"])
    frame.astype({"hr": "category"}).to_parquet(tmp_path / "hourly.parquet")
    right = Cohort.from_wide(frame, STAYS, MAPPING, decimal=",")
    for table in (frame.astype({"hr": "category"}), tmp_path / "hourly.parquet"):
        assert Cohort.from_wide(table, STAYS, MAPPING, decimal=",").fingerprint == right.fingerprint


def test_thousands_next_to_a_decimal_comma_are_no_small_numbers(tmp_path):
    frame = HOURLY[:4].assign(hr=["187,5", "1.234", "70,0", "65"])
    said = problems(put_csv(tmp_path, "x.csv", frame.to_csv(index=False, sep=";", decimal=",")), STAYS, MAPPING)
    assert "x.csv: hr: is no number (line 3, such as '1.234 (thousands?)'): 1 of 4 values" in said
    assert "leave out the points of thousands" in said
    points = HOURLY.assign(hr=["187.5", "1.234", "70.0", "65", "60"])
    assert len(Cohort.from_wide(points, STAYS, MAPPING, decimal=",", implausible="keep").events) == 13


def test_a_decimal_point_can_be_stated_for_semicolons(tmp_path):
    commas = HOURLY.assign(hr=["88,5", "91,5", "70", "65", "60"])
    path = put_csv(tmp_path, "x.csv", commas.to_csv(index=False, sep=";"))
    assert "say decimal=','" in problems(path, STAYS, MAPPING, decimal=".")
    numbers = put_csv(tmp_path, "y.csv", HOURLY.to_csv(index=False, sep=";"))
    right = Cohort.from_wide(HOURLY, STAYS, MAPPING)
    assert Cohort.from_wide(numbers, STAYS, MAPPING, decimal=".").fingerprint == right.fingerprint


@pytest.mark.parametrize("name", [
    "Temperature 2", "Heart rate 2", "Height2", "Respiratory rate set", "Systolic blood pressure right",
    "Fraction expired oxygen", "Pupillary refill rate", "PT", "Heart rate L", "Skin temperature",
])  # fmt: skip
def test_a_channel_of_ones_own_may_resemble_a_known_one(name):
    hourly = pd.DataFrame(dict(stay_id=range(6), hour=0, own=80.0))
    stays = pd.DataFrame(dict(stay_id=range(6), subject_id=range(6), los_hours=50.0, y=[0, 1] * 3))
    assert [c.name for c in Cohort.from_wide(hourly, stays, {"own": (name, "x")}).channels] == [name]


def test_a_draft_leaves_abbreviations_of_two_things_open():
    assert draft_mapping(["AF", "HF", "RR", "af", "hr"])["channel"].tolist() == ["", "", "", "", "Heart Rate"]


def test_leading_zeros_of_a_site_are_kept(tmp_path):
    for column, columns in (("hospital", {}), ("Klinik", dict(site="Klinik"))):
        stays = put_csv(tmp_path, "stays.csv", STAYS.assign(**{column: ["007", "7", "007", "12"]}).to_csv(index=False))
        sites = Cohort.from_wide(HOURLY, stays, MAPPING, columns=columns).stays["site"].tolist()
        assert sites == ["007", "7", "007", "12"]


def test_the_value_of_one_patient_is_no_normal_value():
    stays = pd.concat([STAYS, STAYS.assign(stay_id=STAYS["stay_id"] + 4, subject_id=STAYS["subject_id"] + 4)])
    hourly = pd.concat([HOURLY, HOURLY.assign(stay_id=HOURLY["stay_id"] + 4)]).reset_index(drop=True)
    mapping = MAPPING | {"crp": ("CRP", "mg/L")}
    few = hourly.assign(crp=np.where(hourly["stay_id"] < 5, 4.0, np.nan))
    said = problems(few, stays, mapping)
    assert said.startswith("mapping: column crp: CRP is a channel of your own with values of 4 stays: ")
    assert "state one: dict(channel='CRP', normal=…), in a file the column normal" in said
    stated = MAPPING | {"crp": dict(channel="CRP", unit="mg/L", normal=3.0)}
    assert Cohort.from_wide(few, stays, stated).channels[-1].normal == 3.0
    enough = few.assign(crp=few["crp"].mask(few["stay_id"] == 5, 4.0))
    assert Cohort.from_wide(enough, stays, mapping).channels[-1].normal == 4.0


def test_a_file_is_read_for_its_lines_once_and_by_its_path(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    hourly = HOURLY.assign(hr=["x", "y", 70, 65, 60], spo2=[0.97, 3, 97, 99, 0.95], temp_f="z")
    events = put_csv(tmp_path / "a", "data.csv", hourly.to_csv(index=False))
    text = STAYS.assign(los_hours=[50, -1, 50, "x"]).to_csv(index=False).replace("\n", "\n\n", 1)  # a blank line
    stays = put_csv(tmp_path / "b", "data.csv", text)
    read = []
    monkeypatch.setattr(frame_problems, "line_starts", lambda path: read.append(path) or line_starts(path))
    said = problems(events, stays, MAPPING)
    assert "data.csv: hr: is no number (lines 2, 3, such as 'x', 'y')" in said
    assert "b/data.csv: column los_hours: lines 4, 6: no hours" in said
    assert sorted(read) == [str(events), str(stays)]


@pytest.fixture(scope="module")
def charted(shared) -> pd.DataFrame:
    "Rows of charts of MIMIC-III's demo: stay, hours since admission, and length of stay in hours."
    folder = shared / "data" / "mimic3-demo"
    rows = pd.read_csv(folder / "CHARTEVENTS.csv.gz", low_memory=False).rename(columns=str.lower)
    rows = rows[["icustay_id", "charttime"]].assign(charttime=pd.to_datetime(rows["charttime"]))
    stays = pd.read_csv(folder / "ICUSTAYS.csv.gz").rename(columns=str.lower)
    stays = stays[["icustay_id", "los"]].assign(intime=pd.to_datetime(stays["intime"]))
    rows = rows.merge(stays, on="icustay_id")
    rows = rows.assign(hour=(rows["charttime"] - rows["intime"]) / pd.Timedelta(hours=1), length=rows["los"] * 24)
    return rows.rename(columns=dict(icustay_id="stay"))[["stay", "hour", "length"]].query("hour >= 0")


@pytest.mark.parametrize("window", [24, 48, 72, 10_000])
@pytest.mark.parametrize("unit, factor", [("", 1), ("minutes", 60), ("seconds", 3600)])
def test_units_of_real_times_are_found(charted, window, unit, factor):
    rows = charted[charted["hour"] <= window]
    stay, number, length = (rows[name].to_numpy(float) for name in ("stay", "hour", "length"))
    fill = fill_of_stays(number * factor, stay, length)
    assert guess_time_units(number * factor, length, fill) == (unit, "")


@pytest.mark.parametrize("last, step", [(720, 1), (1440, 1), (1440, 6), (2160, 1), (2880, 1)])
def test_real_stays_and_a_fixed_horizon_are_no_minutes(charted, last, step):
    lengths, hours = charted.groupby("stay")["length"].first(), np.arange(0.0, last + 1, step)
    number, stay = np.tile(hours, len(lengths)), np.repeat(lengths.index.to_numpy(), len(hours))
    length = np.repeat(lengths.to_numpy(), len(hours))
    assert guess_time_units(number, length, fill_of_stays(number, stay, length)) == ("", "")


def test_several_channels_of_ones_own_are_one_line():
    own = {name: (name, "U/L") for name in ("CRP", "PCT", "Amylase")}
    hourly = pd.concat(
        [HOURLY.assign(stay_id=HOURLY["stay_id"] + 4 * k, CRP=5.0, PCT=1.5, Amylase=60.0) for k in range(3)]
    )
    stays = pd.concat([STAYS.assign(stay_id=STAYS["stay_id"] + 4 * k) for k in range(3)]).assign(subject_id=range(12))
    note = Cohort.from_wide(hourly, stays, MAPPING | own).meta["note"]
    assert "CRP (5), PCT (1.5), Amylase (60) are channels of your own, whose normal values are their medians" in note
    assert note.count("channels of your own") == note.count("channel of your own") + 1 == 1
