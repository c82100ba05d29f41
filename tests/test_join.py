"Several cohorts as one: names meet, patients do not, and what does not fit is one line."

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_transfer import Cohort, join_cohorts
from rnn_transfer.cohorts.channels import Channel, Task
from rnn_transfer.experiment.join_command import rnn_transfer_join
from rnn_transfer.experiment.pretrain_command import rnn_transfer_pretrain
from rnn_transfer.model import read_checkpoint
from rnn_transfer.sources import physionet2012, physionet2019
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.errors import BadInput

DATA = Path(__file__).resolve().parents[2] / "shared/data"
NAMES = ["north", "south"]


def changed(cohort: Cohort, **parts) -> Cohort:
    "The cohort with other events, stays, channels, tasks or meta."
    own = dict(events=cohort.events, stays=cohort.stays, channels=cohort.channels, tasks=cohort.tasks, meta=cohort.meta)
    return Cohort(**(own | parts))


def without_channel(cohort: Cohort, name: str) -> Cohort:
    events = cohort.events[cohort.events["channel"] != name]
    kept = [channel for channel in cohort.channels if channel.name != name]
    return changed(cohort, events=events.assign(channel=events["channel"].astype(str)), channels=kept)


def renamed_task(cohort: Cohort, old: str, new: str) -> Cohort:
    tasks = [replace(task, name=new) if task.name == old else task for task in cohort.tasks]
    return changed(cohort, stays=cohort.stays.rename(columns={old: new}), tasks=tasks)


def with_tasks(cohort: Cohort, **fields) -> Cohort:
    "The cohort with other fields of its first task."
    return changed(cohort, tasks=[replace(cohort.tasks[0], **fields), *cohort.tasks[1:]])


@pytest.fixture
def pair():
    return toy_cohort(60), toy_cohort(60, seed=1)


def test_each_stay_keeps_what_it_says(pair):
    north, south = pair
    lost = north.channels[0].name
    south = renamed_task(without_channel(south, lost), south.tasks[0].name, "Own task")
    both = join_cohorts([north, south], NAMES)
    assert both.fingerprint == join_cohorts([north, south], NAMES).fingerprint
    whole = both.statistics()
    for cohort, name in ((north, "north"), (south, "south")):
        here = (both.stays["site"] == name).to_numpy()
        part = both.iloc[here]
        names = [task.name for task in cohort.tasks]
        assert part.stays[names].equals(cohort.stays[names])
        assert part.stays["partition"].tolist() == cohort.stays["partition"].tolist()
        own = cohort.statistics()
        assert np.array_equal(whole[here][own.columns].to_numpy(), own.to_numpy(), equal_nan=True)
    assert whole[here].filter(like=f"{lost}|").isna().all(axis=None)
    assert both.stays["Own task"].isna().sum() == both.stays[north.tasks[0].name].isna().sum() == 60
    assert f"south: lacks channels {lost}" in both.meta["note"]


def test_patients_of_two_cohorts_never_meet(pair):
    both = join_cohorts([*pair, toy_cohort(60, seed=2)], ["a", "b", "c"])
    assert both.stays["stay_id"].is_unique and both.stays.groupby("subject_id")["site"].nunique().max() == 1
    assert both.stays["subject_id"].nunique() == sum(
        toy_cohort(60, seed=i).stays["subject_id"].nunique() for i in (0, 1, 2)
    )
    assert (both.stays["stay_id"] % 10_000).tolist() == toy_cohort(60).stays["stay_id"].tolist() * 3


def test_sites_and_own_identifiers(pair):
    north, south = (
        changed(c, stays=c.stays.assign(site="ward", stay_name=c.stays["stay_id"].map("{:05d}".format))) for c in pair
    )
    both = join_cohorts([north, south], NAMES)
    assert set(both.stays["site"]) == {"north: ward", "south: ward"}
    assert both.stays["stay_name"].iloc[[0, 60]].tolist() == ["north: 01000", "south: 01000"]
    apart = changed(south, stays=south.stays.assign(stay_name="S" + south.stays["stay_name"]))
    assert join_cohorts([north, apart], NAMES).stays["stay_name"].iloc[60] == "S01000"
    assert join_cohorts([pair[0], apart], NAMES).stays["stay_name"].iloc[[0, 60]].tolist() == ["1000", "S01000"]


def test_facts_of_both_are_kept(pair):
    record = dict(reason="no time", n=1, of=9, unit="rows", how="dropped", limit=None, fix="", fraction=0.1)
    described = dict(name="age", kind="number", unit="years", text="at admission")
    meta = dict(licence="ours", losses=[record], descriptors=[described], hours=48, note="one\ntwo")
    meta |= dict(cleaning=[{"parameter": "pH", "outside range": 3}], corrected={"inches": 2})
    north = changed(pair[0], meta=pair[0].meta | meta, stays=pair[0].stays.assign(age=50.0, bed="x"))
    both = join_cohorts([north, pair[1]], NAMES)
    assert both.meta["source"] == "north + south" and both.meta["licence"] == "north: ours" and both.meta["hours"] == 48
    assert [loss["reason"] for loss in both.meta["losses"]] == ["north: no time"] and both.meta["synthetic"]
    assert both.meta["cleaning"] == [{"parameter": "north: pH", "outside range": 3}]
    assert both.meta["corrected"] == {"north: inches": 2}
    assert both.descriptors[0].text == "north: at admission" and both.stays["age"].isna().sum() == 60
    assert [of["fingerprint"] for of in both.meta["joined"]] == [north.fingerprint, pair[1].fingerprint]
    assert "north: columns left out of the stays: bed" in both.meta["note"] and "north: two" in both.meta["note"]


def test_of_two_normal_values_the_first_is_used_and_a_line_says_so(pair):
    first, *others = pair[1].channels
    south = changed(pair[1], channels=[replace(first, normal=first.normal + 1), *others])
    both = join_cohorts([pair[0], south], NAMES)
    assert both.channels[0].normal == first.normal
    line = f"south: normal values are those of an earlier cohort: {first.name} ({first.normal} in place of"
    assert [text.startswith(line) for text in both.meta["note"].splitlines()] == [True]


def test_a_union_is_saved_and_joined_again(pair, tmp_path):
    both = join_cohorts(pair, NAMES)
    both.save(tmp_path / "both")
    again = Cohort.load(tmp_path / "both")
    assert again.fingerprint == both.fingerprint
    three = join_cohorts([again, toy_cohort(60, seed=2)], ["old", "west"])
    assert three.stays["site"].value_counts().to_dict() == {"north": 60, "south": 60, "west": 60}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: changed(c, channels=[replace(c.channels[0], unit="furlong"), *c.channels[1:]]), "unit is"),
        (lambda c: with_tasks(c, definition="by eye"), "the definitions differ, such as"),
        (lambda c: with_tasks(c, kind="other"), "kind is phenotype in north and other in south; name it in apart"),
        (lambda c: changed(c, meta=c.meta | dict(hours=24)), "hours is 48 in north, 24 in south; build both with one"),
        (lambda c: changed(c, meta=c.meta | dict(labels="all")), "labels is measured in north, all in south"),
        (lambda c: changed(c, stays=c.stays.assign(subject_id=-1 - c.stays["subject_id"])), "south: column subject_id"),
        (lambda c: changed(c, stays=c.stays.assign(subject_id=c.stays["subject_id"] + 2**62)), "numbers of up to 19"),
    ],
)
def test_what_does_not_fit_is_one_line(pair, change, message):
    north = changed(pair[0], meta=pair[0].meta | dict(hours=48, labels="measured"))
    with pytest.raises(BadInput, match=message) as e:
        join_cohorts([north, change(pair[1])], NAMES)
    assert "\n" not in str(e.value)


def test_other_categories_and_decisions(pair):
    categories = dict(kind="categorical", normal="a", numeric=[0, 1])
    own = [Channel("Mood", values=values, **categories) for values in (["a", "b"], ["b", "a"])]
    pair = [changed(c, channels=[*c.channels, channel]) for c, channel in zip(pair, own)]
    with pytest.raises(BadInput, match="channel Mood: values is"):
        join_cohorts(pair, NAMES)
    north, south = toy_cohort(60), with_tasks(toy_cohort(60, seed=1), definition="by eye")
    task = north.tasks[0].name
    one = join_cohorts([north, south], NAMES, same=[task])
    assert one.tasks[0] == Task(task, north.tasks[0].kind, f"north: {north.tasks[0].definition}; south: by eye")
    two = join_cohorts([north, south], NAMES, apart=[task])
    assert two.stays[task].notna().sum() == two.stays[f"{task} (south)"].notna().sum() == 60
    taken = renamed_task(south, south.tasks[1].name, f"{task} (south)")
    with pytest.raises(BadInput, match=f"task {task}: another task is called '{task} .south.'; name south otherwise"):
        join_cohorts([north, taken], NAMES, apart=[task])
    for decided in (dict(same=["Gout"]), dict(same=[task], apart=[task])):
        with pytest.raises(BadInput, match="same and apart"):
            join_cohorts([north, south], NAMES, **decided)


def test_a_window_that_is_not_stated_is_that_of_48_hours(pair):
    day = changed(pair[1], meta=pair[1].meta | dict(hours=24))
    with pytest.raises(BadInput, match="hours is 48 in north, 24 in south; build both with one window"):
        join_cohorts([pair[0], day], NAMES)
    assert "hours" not in join_cohorts(pair, NAMES).meta


def test_one_cohort_under_two_names_is_rejected(pair):
    with pytest.raises(
        BadInput, match="north and again have a cohort in common .* would count twice: name it once"
    ) as e:
        join_cohorts([*pair, pair[0]], [*NAMES, "again"])
    assert "\n" not in str(e.value)
    both = join_cohorts(pair, NAMES)
    with pytest.raises(BadInput, match="both and west have a cohort in common"):
        join_cohorts([both, toy_cohort(60, seed=1)], ["both", "west"])
    noted = changed(pair[0], meta=pair[0].meta | dict(joined="by hand"))
    assert len(join_cohorts([noted, pair[1]], NAMES)) == 120


@pytest.mark.parametrize(
    ("north", "south", "says"),
    [
        (dict(source="mimic3"), dict(source="mimic4"), True),
        (dict(source="meds", version="MIMIC-IV in MEDS"), dict(source="mimic3_benchmarks"), True),
        (dict(source="mimic3", synthetic=True), dict(source="mimic4", synthetic=True), False),
        (dict(source="mimic3"), dict(source="own data"), False),
        (dict(source="PhysioNet/CinC Challenge 2012"), dict(source="mimic3"), True),
        (dict(source="PhysioNet/CinC Challenge 2019", sites=dict(A=[], B=[])), dict(source="mimic4"), True),
        (dict(source="PhysioNet/CinC Challenge 2019", sites=dict(B=[])), dict(source="mimic4"), False),
        (dict(source="meds", version="own", database="MIMIC-IV"), dict(source="mimic3"), True),
    ],
)
def test_databases_of_one_hospital_are_in_the_note(pair, north, south, says):
    pair = [changed(c, meta=c.meta | dict(synthetic=False) | m) for c, m in zip(pair, (north, south))]
    both = join_cohorts(pair, NAMES)
    assert ("test patients of one may be patients trained on in the other" in both.meta["note"]) == says
    three = join_cohorts([both, toy_cohort(60, seed=2)], ["old", "west"])
    assert three.meta["note"].count("share a hospital") == says


@pytest.mark.parametrize(
    ("north", "south"),
    [
        (dict(source="mimic3"), dict(source="mimic3_benchmarks")),
        (dict(source="mimic4"), dict(source="meds", version="MIMIC-IV in MEDS")),
        (dict(source="meds", version="own", database="MIMIC-IV"), dict(source="mimic4")),
    ],
)
def test_subjects_of_one_database_in_two_cohorts_are_rejected(pair, north, south):
    "Two builds of one database have other fingerprints, and the same patients in other partitions."
    pair = [changed(c, meta=c.meta | dict(synthetic=False) | m) for c, m in zip(pair, (north, south))]
    shared = len(set(pair[0].stays["subject_id"]) & set(pair[1].stays["subject_id"]))
    with pytest.raises(BadInput, match=f"both of MIMIC-.*, and {shared} subjects are in both; .* join one of the two"):
        join_cohorts(pair, NAMES)
    apart = changed(pair[1], stays=pair[1].stays.assign(subject_id=pair[1].stays["subject_id"] + 10_000))
    both = join_cohorts([pair[0], apart], NAMES)  # two halves of a database
    assert "counts twice" not in both.meta["note"] and both.stays["subject_id"].nunique() == 2 * shared
    other = toy_cohort(60, seed=2)
    three = join_cohorts([both, changed(other, meta=other.meta | dict(synthetic=False) | north)], ["old", "new"])
    assert "is in old and in new: a patient of both counts twice" in three.meta["note"]


def test_all_definitions_in_other_words_are_taken_at_once(pair, tmp_path, capsys):
    north = pair[0]
    south = changed(pair[1], tasks=[replace(task, definition=f"{task.name} by eye") for task in pair[1].tasks])
    with pytest.raises(BadInput, match="`--same all` takes each of them as one rule") as e:
        join_cohorts([north, south], NAMES)
    assert "\n" not in str(e.value)
    every = [task.name for task in north.tasks]
    one = join_cohorts([north, south], NAMES, same=["all"])
    assert one.fingerprint == join_cohorts([north, south], NAMES, same=every).fingerprint
    two = join_cohorts([north, south], NAMES, same="all", apart=every[:1])
    assert [task.name for task in two.tasks] == [*every, f"{every[0]} (south)"]
    folders = [str(cohort.save(tmp_path / name)) for name, cohort in zip(NAMES, (north, south))]
    rnn_transfer_join(";".join(folders), names="north;south", same="all", out=str(tmp_path / "both"))
    assert one.fingerprint[:12] in capsys.readouterr().out
    with pytest.raises(BadInput, match="name it in apart$"):
        join_cohorts([north, with_tasks(south, kind="other")], NAMES, same=["all"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "two cohorts are called 'toy'"),
        (("a",), "1 names for 2 cohorts"),
        (("a", "a"), "two cohorts are called 'a'"),
    ],
)
def test_two_cohorts_of_one_name_may_be_the_same_patients(pair, names, message):
    with pytest.raises(BadInput, match=message):
        join_cohorts(pair, names)
    with pytest.raises(BadInput, match="1 cohort to join"):
        join_cohorts(pair[:1], names)


def test_tasks_and_sites_may_have_separators_in_their_names(pair, tmp_path, capsys):
    failure, place = "Congestive heart failure; nonhypertensive", "St Mary, London"
    north, south = (renamed_task(cohort, cohort.tasks[0].name, failure) for cohort in pair)
    south = with_tasks(south, definition="another rule")
    folders = [str(cohort.save(tmp_path / name)) for name, cohort in zip(NAMES, (north, south))]
    out, net = str(tmp_path / "both"), tmp_path / "net.safetensors"
    rnn_transfer_join(";".join(folders), names=f"north;{place}", apart=failure, out=out)
    both = Cohort.load(out)
    named = [task.name for task in both.tasks if task.name.startswith(failure)]
    assert len(named) == 2 and named[1].endswith(f"({place})")
    without_test = both.iloc[(both.stays["partition"] != "test").to_numpy()].save(tmp_path / "fit")
    given = dict(tasks=named[1], sites=place, hidden="4", max_updates=1)
    rnn_transfer_pretrain(str(without_test), str(net), **given)
    stored = read_checkpoint(net).description
    assert stored["tasks"] == named[1:] and stored["pretrain_sites"] == [place]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        rnn_transfer_pretrain(str(without_test), str(tmp_path / "x.safetensors"), limits="none.md", **given)
    assert "--limits none.md: No such file" in capsys.readouterr().err and not (tmp_path / "x.safetensors").exists()


def test_the_command_joins_folders_and_trains_at_some_sites(pair, tmp_path, capsys):
    folders = [str(c.save(tmp_path / name)) for name, c in zip(NAMES, pair)]
    out, both = str(tmp_path / "both"), ";".join(folders)
    with pytest.raises(SystemExit):
        rnn_transfer_join(both, out=out)
    assert "two cohorts are called 'toy'" in capsys.readouterr().err and not Path(out).exists()
    rnn_transfer_join(both, names="north;south", out=out)
    assert "120 stays" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        rnn_transfer_join(f"{folders[0]};{tmp_path / 'no'}", names="north;south", out=out)
    assert f"error: {tmp_path / 'no'}" in capsys.readouterr().err and len(Cohort.load(out)) == 120
    net = tmp_path / "net.safetensors"
    settings = dict(kind="phenotype", hidden="4", max_updates=2)
    with pytest.raises(SystemExit):
        rnn_transfer_pretrain(out, str(net), sites="west", **settings)
    assert "it has 'north', 'south'" in capsys.readouterr().err and not net.exists()
    rnn_transfer_pretrain(out, str(net), sites="south", **settings)
    stored = read_checkpoint(net).description
    assert stored["pretrain_sites"] == ["south"] and stored["counts"]["train"] + stored["counts"]["val"] == 60
    assert "| sites | south |" in net.with_suffix(".md").read_text("utf-8")


@pytest.mark.parametrize(
    ("cohorts", "out", "message"),
    [
        ("", "both", "--cohorts: name two or more cohort folders"),
        ("{0}", "both", "--cohorts: name two or more cohort folders"),
        ("{0};{1};{1}/.", "both", "--cohorts: one folder is named twice"),
        ("{0};{1}", "south", "it is one of the cohorts; name another folder"),
        ("{0};{1}", "north/stays.parquet", "cannot be written"),
        ("{0};{1}", "notes", "notes"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(pair, tmp_path, capsys, cohorts, out, message):
    folders = [str(c.save(tmp_path / name)) for name, c in zip(NAMES, pair)]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("not a cohort")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as e:
        rnn_transfer_join(cohorts.format(*folders), names="north;south", out=str(tmp_path / out))
    said = capsys.readouterr().err
    assert e.value.code == 2 and message in said and said.startswith("error: ") and said.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_the_command_reads_its_options_and_says_what_the_union_holds(pair, tmp_path, capsys, monkeypatch):
    folders = [str(c.save(tmp_path / name)) for name, c in zip(NAMES, pair)]
    options = ["--cohorts", "; ".join(folders), "--names", "north; south", "--out", str(tmp_path / "both")]
    monkeypatch.setattr("sys.argv", ["rnn_transfer_join", *options])
    rnn_transfer_join()
    said = capsys.readouterr().out
    both = join_cohorts(pair, NAMES)
    assert said.startswith(f"{tmp_path / 'both'}: 120 stays (") and f"fingerprint {both.fingerprint[:12]}" in said
    assert Cohort.load(tmp_path / "both").fingerprint == both.fingerprint
    monkeypatch.setattr("sys.argv", ["rnn_transfer_join", *options, "--debug", "--apart", "Gout"])
    with pytest.raises(BadInput, match="Gout"):
        rnn_transfer_join()
    monkeypatch.setattr("sys.argv", ["rnn_transfer_join", "--version"])
    with pytest.raises(SystemExit):
        rnn_transfer_join()
    assert re.match(r"rnn_transfer \d", capsys.readouterr().out)


@pytest.mark.slow
def test_physionet_2012_and_2019_are_joined():
    if not (DATA / "physionet2019").exists():
        pytest.skip(f"{DATA} is not here: the data of both challenges are downloaded by the user")
    one, two = physionet2012.cohort(DATA / "physionet2012"), physionet2019.cohort(DATA / "physionet2019", hours=48)
    apart = ["Raised transaminases", "Marked myocardial injury"]
    with pytest.raises(BadInput, match="such as Hyperbilirubinaemia"):
        join_cohorts([one, two], apart=apart)
    names = {task.name for task in one.tasks} & {task.name for task in two.tasks}
    both = join_cohorts([one, two], same=sorted(names - set(apart)), apart=apart)
    assert len(both) == len(one) + len(two) and len(both.channels) == 13
    assert both.stays["site"].value_counts().to_dict() == {
        "A": (two.stays["site"] == "A").sum(),
        "B": (two.stays["site"] == "B").sum(),
        "PhysioNet/CinC Challenge 2012": len(one),
    }
    assert pd.api.types.is_integer_dtype(both.stays["stay_id"]) and both.stays["subject_id"].nunique() == len(both)
