"A date and a time in two columns are one time; a file in another encoding says which."

import numpy as np
import pandas as pd
import pytest

from rnn_transfer import Cohort, InputWarning
from rnn_transfer.frames.problems import InputProblems

ADMITTED = pd.Timestamp("2019-03-01 13:25")
HOURS = np.tile([1.0, 5.5, 11.0, 14.25], 6)  # the last two are on the next day
CASES = np.repeat(range(6), 4)
EVENTS = pd.DataFrame(dict(stay_id=CASES, hour=HOURS, channel="Heart Rate", value=60.0 + np.arange(24)))
STAYS = pd.DataFrame(dict(stay_id=range(6), subject_id=range(6), los_hours=48.0, intime=ADMITTED, died=[0, 1] * 3))
TIMES = ADMITTED + pd.to_timedelta(HOURS, unit="h")


def hours_of(events: pd.DataFrame, **options) -> list[float]:
    "The hours of a long table with a date, which is warned of."
    with pytest.warns(InputWarning, match="as one time"):
        made = Cohort.from_frames(events, STAYS, **options)
    return made.events["hour"].round(4).tolist()


def two_columns(dates, times, names=("date", "time")) -> pd.DataFrame:
    return EVENTS.drop(columns="hour").assign(**dict(zip(names, (dates, times))))


@pytest.mark.parametrize(
    ("dates", "times"),
    [
        (TIMES.strftime("%Y-%m-%d"), TIMES.strftime("%H:%M")),
        (TIMES.strftime("%d.%m.%Y"), TIMES.strftime("%H:%M:%S")),
        (TIMES.normalize(), TIMES.time),
        ([t.date() for t in TIMES], TIMES.strftime("%H:%M")),
    ],
)
def test_a_date_and_a_time_of_day_are_one_time(dates, times):
    assert hours_of(two_columns(dates, times)) == HOURS.tolist()
    columns = dict(date="Datum", hour="Uhrzeit")
    assert hours_of(two_columns(dates, times, ("Datum", "Uhrzeit")), columns=columns) == HOURS.tolist()


def test_hours_of_the_day_start_again_or_are_stated():
    table = two_columns(TIMES.strftime("%Y-%m-%d"), TIMES.hour, ("date", "hour"))
    expected = ((TIMES.floor("h") - ADMITTED) / pd.Timedelta(hours=1)).to_numpy().clip(0).round(4).tolist()
    assert hours_of(table, columns=dict(date="date"))[1:4] == expected[1:4]
    assert hours_of(table)[1:4] == expected[1:4]


@pytest.mark.filterwarnings("ignore::rnn_transfer.InputWarning")
def test_a_row_without_date_or_time_has_no_hour():
    table = two_columns(TIMES.strftime("%Y-%m-%d"), TIMES.strftime("%H:%M")).set_index(np.arange(24) + 100)
    table.loc[101, "time"], table.loc[102, "date"] = None, None
    made = Cohort.from_frames(table, STAYS, allow_loss=True)
    assert made.events["hour"].round(4).tolist() == [HOURS[0], *HOURS[3:]]
    assert sum(loss["n"] for loss in made.meta["losses"] if loss["unit"] == "rows") == 2


@pytest.mark.filterwarnings("ignore::rnn_transfer.InputWarning")
def test_hours_since_admission_next_to_a_date_stay_what_they_are():
    table = EVENTS.assign(date=TIMES.strftime("%Y-%m-%d"))
    assert Cohort.from_frames(table, STAYS).events["hour"].tolist() == HOURS.tolist()
    complete = EVENTS.drop(columns="hour").assign(date="2019-03-01", time=TIMES)
    assert Cohort.from_frames(complete, STAYS).events["hour"].round(4).tolist() == HOURS.tolist()


@pytest.mark.parametrize(
    ("dates", "times", "message"),
    [
        ("March", "14:05", "column date: holds no dates such as 2019-03-01"),
        ("2019-03-01", 300, "column time: holds neither times such as 14:05 nor hours of the day"),
    ],
)
def test_a_stated_date_that_fits_no_time_is_one_line(dates, times, message):
    with pytest.raises(InputProblems, match=message):
        Cohort.from_frames(two_columns(dates, times), STAYS, columns=dict(date="date"))


def test_a_time_of_day_alone_asks_for_its_date():
    with pytest.raises(InputProblems, match="name its column, columns=dict\\(date='…'\\), or put both in one column"):
        Cohort.from_frames(two_columns("2019-03-01", "14:05", ("Tag", "time")), STAYS)


def test_wide_rows_with_a_date_and_a_time():
    wide = pd.DataFrame(dict(stay_id=CASES, date=TIMES.strftime("%Y-%m-%d"), time=TIMES.strftime("%H:%M"), HR=70.0))
    with pytest.warns(InputWarning, match="is read with date as one time"):
        made = Cohort.from_wide(wide, STAYS, {"HR": "Heart Rate"})
    assert made.events["hour"].tolist() == (np.floor(HOURS) + 0.5).tolist()


@pytest.mark.parametrize("encoding", ["cp1252", "cp850"])
def test_a_file_in_another_encoding_says_which(tmp_path, encoding):
    named = EVENTS.rename(columns={"value": "Größe"})
    named.to_csv(tmp_path / "names.csv", index=False, encoding=encoding)
    EVENTS.assign(channel="Körpertemperatur").to_csv(tmp_path / "cells.csv", index=False, encoding=encoding)
    said = {}
    for name in ("names", "cells"):
        with pytest.raises(InputProblems) as e:
            Cohort.from_frames(tmp_path / f"{name}.csv", STAYS)
        said[name] = str(e.value)
        assert f"encoding='{encoding}'" in said[name] and "\n" not in said[name].strip()
    assert "line 1: no text in UTF-8" in said["names"] and "it reads 'Größe'" in said["names"]
    assert "line 2: no text in UTF-8" in said["cells"] and "Körper" not in said["cells"]
