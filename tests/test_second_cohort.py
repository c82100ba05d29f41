"Real stays as another hospital has them: other names, units, hourly rows, and nothing but a mapping."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from rnn_transfer import Cohort, InputWarning, TransferClassifier, join_cohorts, shipped_network
from rnn_transfer.estimators.features import MIMICNetFeatures
from rnn_transfer.frames.problems import InputProblems
from rnn_transfer.model import read_checkpoint
from rnn_transfer.sources import physionet2012, physionet2019

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/physionet2012"
FOLDER_2019 = FOLDER.with_name("physionet2019")
N_STAYS = 400
# channel: (their column, their unit, what they write for a value of ours)
THEIRS = {
    "Diastolic blood pressure": ("RR dia", "kPa", lambda v: v / 7.500616827),
    "Fraction inspired oxygen": ("FiO2", "%", lambda v: v * 100),
    "Glucose": ("Blutzucker", "mmol/L", lambda v: v / 18.0156),
    "Heart Rate": ("Puls", "1/min", lambda v: v),
    "Height": ("Größe", "in", lambda v: v / 2.54),
    "Mean blood pressure": ("MAP", "mmHg", lambda v: v),
    "Oxygen saturation": ("Sättigung", "fraction", lambda v: v / 100),
    "Respiratory rate": ("AF", "1/min", lambda v: v),
    "Systolic blood pressure": ("RR sys", "kPa", lambda v: v / 7.500616827),
    "Temperature": ("Temp", "°F", lambda v: v * 9 / 5 + 32),
    "Weight": ("Gewicht", "lb", lambda v: v / 0.45359237),
    "pH": ("pH-Wert", "", lambda v: v),
}
SCORE = "Glascow coma scale total"


@pytest.fixture(scope="module")
def whole():
    if not FOLDER.exists():
        pytest.skip(f"{FOLDER} is not here: the records of PhysioNet 2012 are downloaded by the user")
    return physionet2012.cohort(FOLDER)


@pytest.fixture(scope="module")
def ours(whole):
    stays = whole.stays.iloc[:: len(whole.stays) // N_STAYS].head(N_STAYS).reset_index(drop=True)
    events = whole.events[whole.events["stay_id"].isin(stays["stay_id"])].reset_index(drop=True)
    return Cohort(events, stays, whole.channels, whole.tasks)


def hourly(cohort: Cohort) -> pd.DataFrame:
    "One row a stay and hour, the last value of each hour, in their names and units."
    events = cohort.events.assign(hour=np.ceil(cohort.events["hour"]).clip(1).astype(int) - 1)
    events = events[events["hour"] < 48]
    wide = events.groupby(["stay_id", "hour", "channel"], observed=True)["value"].last().unstack().reset_index()
    table = {"Fall": "F" + wide["stay_id"].astype(str), "Stunde": wide["hour"]}
    table |= {column: write(wide[name]) for name, (column, _, write) in THEIRS.items() if name in wide}
    scores = next(channel.values for channel in cohort.channels if channel.name == SCORE)
    table["GCS"] = wide[SCORE].map(lambda v: scores[int(v)], na_action="ignore")
    return pd.DataFrame(table)


def test_real_stays_in_other_names_and_units_give_the_same_features(ours):
    mapping = {column: (name, unit) if unit else name for name, (column, unit, _) in THEIRS.items()} | {"GCS": SCORE}
    stays = ours.stays[["stay_id", "subject_id", "los_hours", "partition", "In-hospital mortality"]]
    stays = stays.assign(Fall="F" + stays["stay_id"].astype(str)).drop(columns="stay_id")
    columns = dict(stay_id="Fall", hour="Stunde")
    network = shipped_network()
    theirs = Cohort.from_wide(hourly(ours), stays, mapping, columns=columns, checkpoint=network)
    direct = MIMICNetFeatures(network).fit(ours).transform(ours)
    converted = MIMICNetFeatures(network).fit(theirs).transform(theirs)
    assert direct.shape == converted.shape == (N_STAYS, 200)
    assert np.abs(direct.to_numpy() - converted.to_numpy()).max() < 1e-5


def test_a_hospital_with_files_and_ids_of_its_own_gets_predictions_by_them(ours, tmp_path):
    "CSV with semicolons and decimal commas, times of day, and labels in a file of their own."
    admitted = pd.Timestamp("2024-03-30 22:10")
    table, names = hourly(ours), "F" + ours.stays["stay_id"].astype(str)
    table["Stunde"] = (admitted + pd.to_timedelta(table["Stunde"] + 0.5, unit="h")).dt.strftime("%Y-%m-%d %H:%M")
    stays = dict(Fall=names, Patient=names, Aufnahme=str(admitted), Dauer=ours.stays["los_hours"], Bemerkung="keine")
    labels = pd.Series(ours.stays["In-hospital mortality"].to_numpy(), names).dropna().sample(frac=0.7, random_state=0)
    for name, frame in (("stunden", table), ("faelle", pd.DataFrame(stays))):
        frame.to_csv(tmp_path / f"{name}.csv", sep=";", decimal=",", index=False)
    mapping = {column: (name, unit or None) for name, (column, unit, _) in THEIRS.items()} | {"GCS": SCORE}
    columns = dict(stay_id="Fall", subject_id="Patient", admitted="Aufnahme", los_hours="Dauer", hour="Stunde")
    with pytest.warns(InputWarning) as shown:
        theirs = Cohort.from_wide(tmp_path / "stunden.csv", tmp_path / "faelle.csv", mapping, columns=columns)
    assert len(shown) == 1 and ": Bemerkung; state what you need" in str(shown[0].message)
    model = TransferClassifier(shipped_network(), repeats=1).fit(theirs, labels)
    predicted = model.predict_stays(theirs)
    assert predicted.index.tolist() == names.tolist()
    result = model.evaluate(theirs, labels.to_dict(), replicates=50)
    assert result.n == theirs.stays.query("partition == 'test'")["stay_name"].isin(labels.index).sum()
    assert "stays have no label and are left out" in result.note
    joined = predicted.join(labels.rename("died"))
    assert joined["died"].notna().sum() == len(labels)
    assert roc_auc_score(*joined.dropna()[["died", "probability"]].to_numpy().T) > 0.6


def test_a_hospital_sees_all_that_is_wrong_in_its_files_at_once(ours, tmp_path):
    stays = ours.stays[["stay_id", "los_hours"]].assign(Fall="F" + ours.stays["stay_id"].astype(str), Station=None)
    stays = pd.concat([stays, stays.iloc[[0]]]).assign(los_hours=lambda d: -d["los_hours"])
    mapping = {column: (name, unit or None) for name, (column, unit, _) in THEIRS.items()} | {"GCS": SCORE}
    mapping |= {"Temp": "Temperature", "Puls": "Heart rate", "MAP": ("Mean blood pressure", "cmH2O")}
    columns = dict(stay_id="Fall", hour="Stunde", site="Station")
    with pytest.raises(InputProblems) as e:
        Cohort.from_wide(hourly(ours), stays.drop(columns="stay_id"), mapping, columns=columns, tasks=["Sepsis"])
    text = str(e.value)
    assert text.startswith("7 problems:\n")
    for part in ("an earlier row has the same stay", "Station: rows", "no hours", "Sepsis: is missing", "would fit °F"):
        assert text.count(part) == 1
    assert text.count("'cmH2O' is not that of Mean blood pressure") == 1
    assert text.count("the known channel is 'Heart Rate'") == 1


def test_the_network_that_ships_learned_the_labels_of_today(whole):
    "As `make network` joins both sources; hospital B takes no part."
    if not FOLDER_2019.exists():
        pytest.skip(f"{FOLDER_2019} is not here: the stays of PhysioNet 2019 are downloaded by the user")
    apart = ["Raised transaminases", "Marked myocardial injury"]
    of_2019 = physionet2019.cohort(FOLDER_2019, hours=48)
    same = {task.name for task in whole.tasks} & {task.name for task in of_2019.tasks} - set(apart)
    both = join_cohorts([whole, of_2019], ["PhysioNet 2012", "PhysioNet 2019"], sorted(same), apart)
    trained = both.iloc[both.stays["site"].isin(["PhysioNet 2012", "A"]).to_numpy()]
    stored, is_val = read_checkpoint(shipped_network()).description, trained.stays["partition"] == "val"
    assert stored["fingerprint"] == trained.fingerprint
    for name, of in stored["counts"]["labels"].items():
        known = trained.stays.loc[~is_val, name].dropna()
        assert of == dict(n=len(known), positive=int(known.sum()))


def test_a_german_export_in_minutes_gives_the_same_features(ours, tmp_path):
    "Semicolons, decimal commas, dates with dots, identifiers with zeros, minutes: a mapping file and names of columns."
    table, stays = hourly(ours), ours.stays[["stay_id", "los_hours", "In-hospital mortality"]]
    number = {name: f"{i:07d}" for i, name in enumerate("F" + stays["stay_id"].astype(str))}
    table["Fall"], table["Stunde"] = table["Fall"].map(number), table["Stunde"] * 60
    table = table.rename(columns={"Stunde": "Minute"})
    admitted = pd.Timestamp("2024-04-02 09:05")
    ends = admitted + pd.to_timedelta(stays["los_hours"], unit="h")
    stays = dict(Fall=number.values(), Patient=number.values(), Tod=stays["In-hospital mortality"])
    stays |= dict(Aufnahme=f"{admitted:%d.%m.%Y %H:%M}", Entlassung=ends.dt.strftime("%d.%m.%Y %H:%M"))
    for name, frame in (("werte", table), ("faelle", pd.DataFrame(stays))):
        frame.to_csv(tmp_path / f"{name}.csv", sep=";", decimal=",", index=False)
    lines = [f"{column};{name};{unit}" for name, (column, unit, _) in THEIRS.items()]
    (tmp_path / "mapping.csv").write_text("\n".join(["name;channel;unit", *lines, f"GCS;{SCORE};"]), encoding="utf-8")
    columns = dict(stay_id="Fall", subject_id="Patient", admitted="Aufnahme", discharged="Entlassung", hour="Minute")
    files = [tmp_path / f"{name}.csv" for name in ("werte", "faelle", "mapping")]
    with pytest.raises(InputProblems, match="werte.csv: column Minute: holds minutes, not hours") as e:
        Cohort.from_wide(*files, columns=columns)
    assert len(e.value.findings.errors) == 1 and "say time_unit='minutes'" in str(e.value)
    theirs = Cohort.from_wide(*files, columns=columns, time_unit="minutes")
    assert theirs.stays["stay_name"].tolist() == list(number.values())
    network = shipped_network()
    direct = MIMICNetFeatures(network).fit(ours).transform(ours)
    converted = MIMICNetFeatures(network).fit(theirs).transform(theirs)
    assert np.abs(direct.to_numpy() - converted.to_numpy()).max() < 1e-5


def test_real_stays_in_hours_raise_no_alarm_and_in_minutes_do(ours):
    "A long table: events of the first 48 hours, lengths of stay in days that the challenge rounds."
    long = ours.events.rename(columns={"channel": "variable"})
    names = pd.Series({c.name: c.values for c in ours.channels if c.kind == "categorical"})
    long = long[~long["variable"].isin(names.index)].assign(variable=lambda d: d["variable"].astype(str))
    stays = ours.stays[["stay_id", "subject_id", "los_hours", "partition", "In-hospital mortality"]]
    assert len(Cohort.from_frames(long, stays).events)
    with pytest.raises(InputProblems, match="say time_unit='minutes'"):
        Cohort.from_frames(long.assign(hour=long["hour"] * 60), stays)
    with pytest.raises(InputProblems, match="they seem to be days"):
        Cohort.from_frames(long, stays.assign(los_hours=long.groupby("stay_id")["hour"].max().to_numpy() / 24))
