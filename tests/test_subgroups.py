"Subgroups, decision curves, calibration by fraction, stability: oracles, privacy, and what has too few positives."

from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from rnn_transfer.cohorts.descriptors import Descriptor
from rnn_transfer.evaluation import controls, decision_curves, label_notes, stability, subgroups
from rnn_transfer.evaluation.components import logit_interval, three_source_interval
from rnn_transfer.evaluation.differences import figure_forest
from rnn_transfer.evaluation.formats import format_estimate
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.layout import kind_title, name_fractions
from rnn_transfer.evaluation.measures import auroc
from rnn_transfer.evaluation.three_sources import three_source_frame
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.learning.splits import draw_splits

SKILLS = {"LR": 0.4, "MN-LR-2": 0.9, "MN-LR-2@1": 0.8, "MN-LR-2@2": 0.9}


@pytest.fixture(scope="module")
def ev():
    return toy_evaluation(SKILLS, seeds=5, n=120, kinds=dict(Shock="phenotype", Death="mortality"))


def test_the_auroc_of_a_group_is_that_of_its_stays(ev):
    group = subgroups.Subgroup("sex", "female", np.arange(0, 120, 2))
    rows = ev.rows_with(model="LR", fraction=1.0, task_kind="mortality")
    (found,) = subgroups.evaluate_groups(ev, [group], rows)
    y, predicted = ev.labels["Death"][group.rows], ev.predicted(rows)[:, group.rows]
    assert found.results["auroc"].to_numpy() == pytest.approx([roc_auc_score(y, p) for p in predicted], abs=1e-6)
    replicates = [auroc(y, p, ev.bootstrap.weights[1:, group.rows]) for p in predicted]
    assert found.average(np.arange(len(rows)))[1:] == pytest.approx(np.mean(replicates, axis=0), abs=1e-6, nan_ok=True)


def test_ties_and_unknown_labels_count_as_elsewhere(ev):
    rng = np.random.default_rng(0)
    y = np.where(rng.random(700) < 0.1, np.nan, rng.random(700) < 0.6)  # more positives than are taken at a time
    p, weights = rng.integers(0, 4, (3, 700)) / 4, rng.poisson(1, (20, 700)).astype(np.float32)
    groups = [subgroups.Subgroup("", "all", np.arange(700)), subgroups.Subgroup("sex", "female", np.arange(0, 700, 3))]
    found = subgroups._mean_auroc(y, p, weights, groups)
    for of_group, group in zip(found, groups):
        inside = [auroc(y[group.rows], scores[group.rows], weights[:, group.rows]) for scores in p]
        assert of_group == pytest.approx(np.mean(inside, axis=0), abs=1e-6)


@pytest.fixture(scope="module")
def many():
    skills = SKILLS | {"RNN-C": 0.3}
    return toy_evaluation(skills, seeds=8, splits=2, n=120, kinds=dict(Shock="phenotype", Death="mortality"))


def test_the_group_of_all_stays_has_the_numbers_of_the_tables_of_systems(many):
    """More draws than five, and all networks: the table of subgroups and the page have one number and one interval."""
    everybody = [subgroups.Subgroup("", "all", np.arange(120))]
    found = subgroups.subgroup_frame(many, everybody).set_index(["task_kind", "fraction", "model"])
    wanted = (
        three_source_frame(many)
        .rename(columns=dict(estimate="value"))
        .set_index(["task_kind", "fraction", "model"])
        .loc[found.index]
    )
    assert len(found) == 12 and found.xs("MN-LR-2", level="model")["n_networks"].eq(3).all()
    assert found["n_draws"].dropna().eq(8).all()
    for name in ("value", "low", "high", "se", "df", "sd_patients", "sd_draws", "sd_networks", "n_networks"):
        assert found[name].astype(float).to_numpy() == pytest.approx(wanted[name].astype(float), nan_ok=True, rel=1e-5)


def test_the_interval_of_a_group_is_over_patients_draws_and_networks(many):
    """Recomputed from the predictions: a table of draws and networks, and the replicates of its mean."""
    group = subgroups.Subgroup("sex", "female", np.arange(0, 120, 2))
    d = subgroups.subgroup_frame(many, [group]).set_index(["task_kind", "fraction", "model"])
    row = d.loc[("mortality", 0.1, "MN-LR-2")]
    y, weights, cells = many.labels["Death"][group.rows], many.bootstrap.weights[:, group.rows], []
    for seed, model in product(range(8), ["MN-LR-2", "MN-LR-2@1", "MN-LR-2@2"]):
        rows = many.rows_with(model=model, fraction=0.1, task="Death", seed=seed)
        cells.append(
            np.mean([auroc(y, p[group.rows], weights) for p in many.predicted(rows)], axis=0)
        )  # of both splits
    values, replicates = np.array(cells)[:, 0].reshape(8, 3), np.mean(cells, axis=0)
    wanted = logit_interval(three_source_interval(values, replicates[1:]))
    assert row["value"] == pytest.approx(values.mean(), abs=1e-6)
    assert (row["low"], row["high"]) == pytest.approx(tuple(wanted.interval), abs=1e-5)
    assert (row["patients_low"], row["patients_high"]) == pytest.approx(percentile_interval(replicates)[:2], abs=1e-5)
    assert row["high"] - row["low"] > row["patients_high"] - row["patients_low"]


def test_an_interval_over_patients_alone_says_so(many):
    few = toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9}, seeds=4, n=120, kinds=dict(Death="mortality"))
    everybody = [subgroups.Subgroup("", "all", np.arange(120))]
    (table,) = subgroups.subgroup_tables(few, everybody)
    row = table.frame.query("fraction == .1 and model == 'LR'").iloc[0]
    assert table.shown["LR"][0] == format_estimate(*row[["value", "patients_low", "patients_high"]]) + " *"
    assert "* The interval is over patients alone, for there are fewer than 5 draws" in table.note
    for table in subgroups.subgroup_tables(many, everybody):
        assert "*" not in table.note and not table.shown["MN-LR-2"].str.contains("*", regex=False).any()


def test_a_group_without_negatives_and_a_task_without_a_draw(many):
    positives = np.flatnonzero(many.labels["Death"] == 1)
    d = subgroups.subgroup_frame(many, [subgroups.Subgroup("sex", "female", positives)])
    assert d.query("task_kind == 'mortality'")["value"].isna().all()
    kinds = dict(Shock="phenotype", Sepsis="phenotype")
    two = toy_evaluation({"LR": 0.4}, seeds=6, n=120, kinds=kinds)
    lost = two.rows_with(fraction=0.1, task="Shock", seed=3)
    two.results.loc[lost, "auroc"] = np.nan
    two._cache.clear()
    (table,) = subgroups.subgroup_tables(two, [subgroups.Subgroup("", "all", np.arange(120))])
    row = table.frame.query("fraction == .1").iloc[0]
    assert row["value"] == pytest.approx(two.results.query("fraction == .1 and task == 'Sepsis'")["auroc"].mean())
    assert row["n_tasks_incomplete"] == 1 and "Up to 1 tasks of a system lack a fit and take no part" in table.note


def test_small_counts_neither_appear_nor_follow_from_others(ev):
    unit = np.where(np.arange(120) < 11, "burns", np.where(np.arange(120) < 60, "medical", "surgical"))
    groups = subgroups.list_subgroups(pd.DataFrame(dict(unit=unit)), [Descriptor("unit", "category")])
    deaths = [int(ev.labels["Death"][g.rows].sum()) for g in groups]
    assert deaths == [12, 2, 4, 6]
    d = subgroups.subgroup_frame(ev, groups).query("task_kind == 'mortality'")
    assert d.groupby("group", sort=False)["n_positive"].first().tolist()[-1] == 6  # two hidden: no third one needed
    unit = np.where(np.arange(120) < 11, "burns", "medical")
    groups = subgroups.list_subgroups(pd.DataFrame(dict(unit=unit)), [Descriptor("unit", "category")])
    table = subgroups.subgroup_tables(ev, groups)[1]
    shown = table.shown.set_index("Group")["Positives"]
    assert set(shown["unit burns"]) == {"not shown"} and set(shown["unit medical"]) == {"not shown"}
    assert table.frame.query("by == 'unit'")["n_positive"].isna().all()
    assert set(table.shown.set_index("Group").loc["unit burns", "LR"]) == {"fewer than 5 positives"}


def test_net_benefit_is_that_of_the_confusion_matrix(ev):
    y, p = ev.labels["Death"], ev.predicted(np.array([0]))[0]
    for t in (0.05, 0.2, 0.45):
        (_, fp), (_, tp) = confusion_matrix(y, p >= t)
        want = tp / 120 - fp / 120 * t / (1 - t)
        assert decision_curves.net_benefit(y, p, [t])[0] == pytest.approx(want, abs=1e-12)
    d = decision_curves.decision_frame(ev)
    nothing = d.assign(value=np.nan, low=np.nan, high=np.nan)  # as with very few test stays
    assert 'nothing to show' in [t.get_text() for t in decision_curves.figure_decisions(ev, nothing).axes[0].texts]
    everybody = d.query("model == 'treat all' and task_kind == 'mortality'")
    prevalence, t = y.mean(), everybody["threshold"]
    assert everybody["value"].to_numpy() == pytest.approx((prevalence - (1 - prevalence) * t / (1 - t)).to_numpy())
    assert (d["low"] <= d["value"] + 1e-12).all() and (d["value"] <= d["high"] + 1e-12).all()


def test_four_positives_have_no_interval():
    few = toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9}, n=40, kinds=dict(Shock="phenotype", Death="mortality"))
    assert few.positives["Death"][0] == 4
    averages = few.averages().query("task_kind == 'mortality'")
    assert averages["value"].notna().all() and averages["low"].isna().all()
    assert set(averages["reason"]) == {"interval: fewer than 5 positives in the test set"}
    assert few.compare("MN-LR-2", "LR").query("task_kind == 'mortality'")["low"].isna().all()
    d = decision_curves.decision_frame(few)
    assert (
        d.query("task_kind == 'mortality'")["low"].isna().all()
        and d.query("task_kind == 'phenotype'")["low"].notna().all()
    )


def test_single_draws_are_counted_against_all_of_them(ev):
    d = stability.stability_frame(ev).query("fraction == .1 and task_kind == 'phenotype' and versus == 'LR'").iloc[0]
    single = stability.single_draw_frame(ev, [("MN-LR-2", "LR")])
    single = single.query("fraction == .1 and task_kind == 'phenotype'")
    assert d["n_single"] == 5 and d["differ_word"] == (single["word"] != d["word"]).sum()
    networks = stability.compare_networks(ev)
    assert (networks["n_pairs"] == 6).all() and (networks["outside_sources"] <= networks["outside_patients"]).all()


def test_an_exploratory_run_has_no_verdict():
    few = toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9, "untrained-LR-2": 0.2}, seeds=4)
    found = label_notes.describe_exploratory(few)
    assert "4 of 5 draws" in found and "1 of 3 networks" in found
    found = controls.control_frame(few)
    reasons = np.where(found["fraction"] < 1, "inconclusive: too few draws", "inconclusive: too few networks")
    assert found["verdict"].tolist() == reasons.tolist()


def test_names_of_columns_and_kinds():
    found = toy_evaluation(kinds=dict(Shock="phenotype"))
    assert name_fractions(found, "phenotype") == {0.1: "32 (10) · 10 %", 1.0: "320 (96) · 100 %"}
    found.results = found.results.drop(columns=["n_train", "n_positive"])
    assert name_fractions(found)[0.1] == "10 %"
    found.info["same_tasks"] = True
    assert kind_title(found, "phenotype") == "Tasks that the network has learned before, weighted AUROC"


def test_a_forest_of_nothing_says_so():
    figure = figure_forest(toy_evaluation({"MN-LR-2": 0.9, "GBT": 0.5}))
    assert "neither RNN-C nor LR was run" in figure.axes[0].texts[0].get_text()


def test_a_rule_that_excludes_nothing_changes_no_split():
    from rnn_transfer.cohorts.channels import Task

    tasks, prevalence = [Task(name) for name in "ABCDEFGH"], dict.fromkeys("ABCDEFGH", 0.1)
    plain = draw_splits(tasks, prevalence, 3, 2)
    assert plain == draw_splits(tasks, prevalence, 3, 2, test_positives=dict.fromkeys("ABCDEFGH", 10))
    rare = dict.fromkeys("ABCDEFGH", 10) | dict(A=9)
    assert all("A" in split.source for split in draw_splits(tasks, prevalence, 3, 2, test_positives=rare))
