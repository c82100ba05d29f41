"What is known of a stay and no model reads: names, values, files, and the raw files of two sources."

import tarfile

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.cohorts.descriptors import Descriptor
from rnn_transfer.data import Cohort, PreparedCohort, run_data
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.errors import BadInput

AGE = dict(name="age", kind="number", unit="years", text="")
SEX = dict(name="sex", kind="category", unit="", text="")


def with_descriptors(n=60, descriptors=(AGE, SEX), **columns):
    toy = toy_cohort(n)
    given = dict(age=np.where(np.arange(n) % 7, 50.0 + np.arange(n), np.nan))
    given["sex"] = [None if k % 5 == 0 else ("female", "male")[k % 2] for k in range(n)]
    stays = toy.stays.assign(**given | columns)
    return Cohort(toy.events, stays, toy.channels, toy.tasks, toy.meta | dict(descriptors=list(descriptors)))


def test_a_cohort_without_descriptors_is_what_it_was():
    toy = toy_cohort(60)
    assert toy.descriptors == [] and "descriptors" not in toy.meta
    undescribed = Cohort(toy.events, toy.stays.assign(age=1.0), toy.channels, toy.tasks, toy.meta)
    assert undescribed.fingerprint == toy.fingerprint


def test_descriptors_survive_files_and_belong_to_the_fingerprint(tmp_path):
    made = with_descriptors()
    again = Cohort.load(made.save(tmp_path / "c"))
    assert again.fingerprint == made.fingerprint != toy_cohort(60).fingerprint
    assert [d.name for d in again.descriptors] == ["age", "sex"] and again.descriptors[0] == Descriptor(**AGE)
    pd.testing.assert_series_equal(again.stays["age"], made.stays["age"])
    assert again.stays["sex"].fillna("").tolist() == made.stays["sex"].fillna("").tolist()
    older = with_descriptors(age=made.stays["age"] + 1)
    assert older.fingerprint != made.fingerprint


@pytest.mark.parametrize("age", [[None] * 60, list(range(60)), pd.array([None, *range(59)], dtype="Int64")])
@pytest.mark.parametrize("sex", [[None] * 60, pd.Categorical(["f", "m"] * 30), pd.array(["f", None] * 30, "string")])
def test_other_types_of_columns_are_the_same_cohort(tmp_path, age, sex):
    made = with_descriptors(age=age, sex=sex)
    assert Cohort.load(made.save(tmp_path / "c")).fingerprint == made.fingerprint


def test_a_run_keeps_descriptors_and_no_model_reads_them(tmp_path):
    made, toy = with_descriptors(), toy_cohort(60)
    described, plain = run_data(made, tmp_path / "described", hours=12), run_data(toy, tmp_path / "plain", hours=12)
    assert [d.name for d in described.descriptors] == ["age", "sex"] and plain.descriptors == []
    loaded = PreparedCohort.load(tmp_path / "described")
    np.testing.assert_array_equal(loaded.stays["age"], made.stays["age"])
    assert loaded.stays["sex"].fillna("").tolist() == made.stays["sex"].fillna("").tolist()
    assert loaded.columns == plain.columns and np.array_equal(loaded.X, plain.X)
    pd.testing.assert_frame_equal(loaded.statistics, plain.statistics)
    assert not {"age", "sex"} & set(plain.stays)


@pytest.mark.parametrize(
    "descriptors,columns,message",
    [
        ([AGE | dict(name="site")], {}, "descriptor site: is the name of another column"),
        ([AGE | dict(name="los_hours")], {}, "descriptor los_hours: is the name of another column"),
        ([AGE, AGE], {}, "descriptor age: is the name of another descriptor"),
        ([AGE | dict(name="height")], {}, "column height is missing"),
        ([AGE | dict(kind="colour")], {}, "kind"),
        ([AGE | dict(more=1)], {}, "more"),
        (["age"], {}, "descriptors"),
        ([AGE], dict(age="old"), "column age: holds"),
        ([AGE], dict(age=[np.inf] + [1.0] * 59), "column age: row 0 are not finite"),
        ([SEX], dict(sex=[1] + ["f"] * 59), "column sex: row 0 are no text"),
        ([SEX], dict(sex=[""] + ["f"] * 59), "column sex: row 0 are no text"),
    ],
)
def test_wrong_descriptors_are_named(descriptors, columns, message):
    with pytest.raises(BadInput) as e:
        with_descriptors(descriptors=descriptors, **columns).validate()
    assert message in str(e.value) and "\n" not in str(e.value)


def test_a_descriptor_is_no_task():
    toy = toy_cohort(60)
    name = toy.tasks[0].name
    with pytest.raises(BadInput, match="is the name of a task"):
        with_descriptors(descriptors=[AGE | dict(name=name)]).validate()


# ---------------------------------------------------------------- real data


def test_descriptors_of_physionet2012_equal_the_files(shared):
    from rnn_transfer.sources import physionet2012

    folder = shared / "data" / "physionet2012"
    made = physionet2012.cohort(folder, sets="a").validate().stays.set_index("stay_id")
    scores = pd.read_csv(folder / "Outcomes-a.txt").set_index("RecordID").reindex(made.index)
    for score in ("SAPS-I", "SOFA"):
        pd.testing.assert_series_equal(made[score], scores[score].astype(float).mask(scores[score] == -1))
    units = {"1": "coronary care", "2": "cardiac surgery recovery", "3": "medical", "4": "surgical"}
    n = 0
    with tarfile.open(folder / "set-a.tar.gz") as archive:
        for member in [m for m in archive.getmembers() if m.isfile()][::40]:
            lines = archive.extractfile(member).read().decode().splitlines()
            facts = dict(line.split(",")[1:] for line in lines[1:7])
            stay = int(facts["RecordID"])
            if stay not in made.index:
                continue
            n += 1
            sex = {"0": "female", "1": "male"}.get(facts["Gender"])
            row = made.loc[stay]
            assert row["age"] == float(facts["Age"]) and row["ICU type"] == units[facts["ICUType"]]
            assert row["sex"] == sex if sex else pd.isna(row["sex"])
    assert n > 90


def test_published_severity_scores_rank_set_b_as_published(shared):
    from sklearn.metrics import roc_auc_score

    from rnn_transfer.sources import physionet2012

    made = physionet2012.cohort(shared / "data" / "physionet2012", sets="b").stays
    for score, published in (("SAPS-I", 0.671), ("SOFA", 0.654)):
        known = made[made[score].notna()]
        assert round(roc_auc_score(known["In-hospital mortality"], known[score]), 3) == published


def test_descriptors_of_physionet2019_equal_the_files(shared, tmp_path):
    from rnn_transfer.sources import physionet2019
    from rnn_transfer.sources.physionet2019_files import find_places, read_batches

    folder = shared / "data" / "physionet2019"
    assert find_places(folder)
    n = 0
    from collections import Counter

    texts = next(read_batches(folder, Counter()))[1]
    (tmp_path / "training_setA").mkdir()
    for stay in list(texts)[::20]:
        (tmp_path / "training_setA" / f"p{stay:06d}.psv").write_bytes(texts[stay])
    made = physionet2019.cohort(tmp_path, allow_loss=True).validate().stays.set_index("stay_id")
    for stay in made.index:
        table = pd.read_csv(tmp_path / "training_setA" / f"p{stay:06d}.psv", sep="|")
        first = table.iloc[0]
        unit = "MICU" if first["Unit1"] == 1 else "SICU" if first["Unit2"] == 1 else "unknown"
        assert made.loc[stay, "unit"] == unit and made.loc[stay, "age"] == first["Age"]
        assert made.loc[stay, "sex"] == ("female", "male")[int(first["Gender"])]
        n += 1
    assert n > 30
