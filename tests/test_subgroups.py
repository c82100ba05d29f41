"Subgroups, decision curves, calibration by fraction, stability: oracles, privacy, and what has too few positives."

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from rnn_transfer.cohorts.descriptors import Descriptor
from rnn_transfer.evaluation import controls, decision_curves, label_notes, stability, subgroups
from rnn_transfer.evaluation.differences import figure_forest
from rnn_transfer.evaluation.layout import kind_title, name_fractions
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.learning.splits import draw_splits

SKILLS = {"LR": 0.4, "MN-LR-2": 0.9, "MN-LR-2@1": 0.8, "MN-LR-2@2": 0.9}


@pytest.fixture(scope="module")
def ev():
    return toy_evaluation(SKILLS, seeds=5, n=120, kinds=dict(Shock="phenotype", Death="mortality"))


def test_the_auroc_of_a_group_is_that_of_its_stays(ev):
    group = subgroups.Subgroup("sex", "female", np.arange(0, 120, 2))
    rows = ev.rows_with(model="LR", fraction=1.0, task_kind="mortality")
    y = ev.labels["Death"][group.rows]
    want = np.mean([roc_auc_score(y, p[group.rows]) for p in ev.predicted(rows)])
    assert subgroups.group_auroc(ev, rows, group)[0] == pytest.approx(want, abs=1e-6)


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
    assert set(controls.control_frame(few)["verdict"]) == {"inconclusive: too few draws"}


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
