"Tables across hospitals: means over the same tasks in every row, or a row says how many it has, and which it lacks."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.evaluation.hospital_calibration import recalibration_frame, recalibration_table
from rnn_transfer.evaluation.hospitals import curve_frame, section
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.task_counts import complete_fits, count_tasks, describe_fewer_tasks, mark_fewer_tasks
from rnn_transfer.evaluation.three_sources import difference_interval, system_interval
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment import each_site

KINDS = dict(Shock="phenotype", Sepsis="phenotype", Kidney="phenotype", Death="mortality")
SKILLS = {"MN-LR-2": 0.9, "LR": 0.4, "zero-shot": 1.0, "recalibrated": 1.0}
METRICS = ("auroc", "auprc", "brier")


def without_fits(ev, lost):
    "The same evaluation, where some rows have no fit."
    results = ev.results.copy()
    results.loc[lost, [*METRICS, "calibration_intercept", "calibration_slope"]] = np.nan
    values = {name: np.where(lost.to_numpy()[:, None], np.nan, found) for name, found in ev.values.items()}
    return replace(ev, results=results, values=values, info=ev.info | dict(roles="Pre-training saw stays of A."))


@pytest.fixture(scope="module")
def whole():
    return toy_evaluation(SKILLS, (0.01, 0.05, 1.0), seeds=2, kinds=KINDS, replicates=20)


@pytest.fixture(scope="module")
def lacking(whole):
    "Shock has no positive among 1 % of the labels, so that only what needs no label predicts it."
    r = whole.results
    return without_fits(whole, (r["task"] == "Shock") & (r["fraction"] == 0.01) & (r["model"] != "zero-shot"))


# ---- calibration


def test_rows_of_calibration_average_the_same_tasks(lacking):
    d = recalibration_frame(lacking)
    r = lacking.results.query("task in ('Sepsis', 'Kidney')")
    for row in d.query("task_kind == 'phenotype'").itertuples():
        fits = r.query("model == @row.model and fraction == @row.fraction")
        assert row.brier == pytest.approx(fits.groupby("task")["brier"].mean().mean()) and len(fits) == 4
        assert row.calibration_intercept == pytest.approx(fits["calibration_intercept"].median())
        assert row.calibration_slope == pytest.approx(fits["calibration_slope"].median())
        assert (row.n_tasks, row.n_tasks_in_all, row.lacking_tasks) == (2, 3, "Shock")
    assert set(d.query("task_kind == 'mortality'")["n_tasks"]) == {1}  # another kind is not touched
    table = recalibration_table(lacking)
    assert "Tasks (phenotype): the 2 of 3 that all rows have; left out: Shock." in table.note
    assert not table.shown["Brier score"].str.contains("task").any()


def test_rows_of_calibration_have_every_task_where_none_is_lacking(whole):
    d = recalibration_frame(whole)
    assert (d["n_tasks"] == d["n_tasks_in_all"]).all() and set(d["lacking_tasks"]) == {""}
    assert "left out" not in recalibration_table(whole).note
    brier = whole.averages("brier", "macro").set_index(["task_kind", "model", "fraction"])["value"]
    assert d["brier"].tolist() == pytest.approx([brier[key] for key in zip(d["task_kind"], d["model"], d["fraction"])])


def test_where_few_tasks_are_shared_each_row_says_how_many_it_has(whole):
    r = whole.results
    few = (r["fraction"] == 0.01) & r["task"].isin(["Shock", "Sepsis"]) & (r["model"] != "zero-shot")
    ev = without_fits(whole, few)
    d = recalibration_frame(ev).query("task_kind == 'phenotype'").set_index(["model", "fraction"])
    assert d.loc[("LR", 0.01), ["n_tasks", "lacking_tasks"]].tolist() == [1, "Sepsis; Shock"]
    assert d.loc[("LR", 1.0), ["n_tasks", "lacking_tasks"]].tolist() == [3, ""]
    table = recalibration_table(ev)
    marked = table.shown["Brier score"].str.endswith(" (1 of 3 tasks)")
    assert set(table.shown[marked]["Labels"]) == {"1 %"} and marked.sum() == 3  # of the systems that need labels
    assert "Cells that give a number of tasks lack some (phenotype: Sepsis; Shock)" in table.note


def test_brier_scores_of_a_published_run_over_the_same_tasks(root):
    "From B to A the classifier's own score over twenty tasks stood next to nineteen after recalibration."
    r = pd.read_parquet(root / "docs/results/physionet2019-b-a-few/results.parquet")
    r = r[r["model"].isin(["zero-shot", "recalibrated"]) & (r["task_kind"] == "phenotype")].reset_index(drop=True)
    values = {name: np.repeat(r[name].to_numpy()[:, None], 3, axis=1) for name in METRICS}
    positives = {task: np.full(3, n) for task, n in r.groupby("task")["n_test_positive"].first().items()}
    d = recalibration_frame(Evaluation(r, values, positives, {})).set_index(["model", "fraction"])
    assert set(d["lacking_tasks"]) == {"Marked myocardial injury"} and set(d["n_tasks"]) == {19}
    cells = [("zero-shot", 0.01), ("zero-shot", 0.05), ("recalibrated", 0.01), ("recalibrated", 0.05)]
    assert d.loc[cells, "brier"].round(3).tolist() == [0.127, 0.127, 0.120, 0.117]
    published = pd.read_csv(root / "docs/results/physionet2019-b-a-few/tables/hospitals_calibration.csv")
    published = published.query("task_kind == 'phenotype'").set_index(["model", "fraction"])["brier"]
    assert published[cells[1:]].round(3).tolist() == [0.138, 0.120, 0.123]  # as it was run: of 20, 19 and 20 tasks


# ---- systems


def test_cells_of_systems_with_fewer_tasks_say_so(lacking):
    d = curve_frame(lacking)
    few = (d["task_kind"] == "phenotype") & (d["fraction"] == 0.01) & (d["model"] != "zero-shot")
    assert d["n_tasks"].where(few).dropna().tolist() == [2] * few.sum() and few.sum() == 3
    assert (d["n_tasks"] == d["n_tasks_in_all"])[~few].all()
    assert set(d[few]["lacking_tasks"]) == {"Shock"} and set(d[~few]["lacking_tasks"]) == {""}
    found = section(lacking)
    shown = found["hospitals_systems"].shown.set_index(["Tasks", "System"])
    marked = shown.map(lambda text: text.endswith(" (2 of 3 tasks)"))
    assert marked["1 %"].sum() == 3 and not marked.loc[("phenotype", "zero-shot"), "1 %"]
    assert not marked[["5 %", "100 %"]].any(axis=None)
    for name in ("hospitals_systems", "hospitals_curves"):
        assert "Shock" in found[name].note


def test_estimates_and_comparisons_are_as_before(whole, lacking):
    for row in curve_frame(lacking).itertuples():
        assert row.value == system_interval(lacking, row.model, row.task_kind, row.fraction).estimate
    r = lacking.results.query("task in ('Sepsis', 'Kidney') and fraction == .01")
    weighted = (r["auroc"] * r["n_test_positive"]).groupby([r["model"], r["seed"]]).sum()
    weighted /= r["n_test_positive"].groupby([r["model"], r["seed"]]).sum()
    paired = difference_interval(lacking, "zero-shot", "LR", "phenotype", 0.01)
    assert paired.estimate == pytest.approx(weighted["zero-shot"].mean() - weighted["LR"].mean())
    assert (
        not section(replace(whole, info=lacking.info))["hospitals_systems"]
        .shown.map(lambda t: "tasks" in t)
        .any(axis=None)
    )


# ---- many sites


def test_a_summary_over_sites_marks_cells_with_fewer_tasks():
    rows = [("east", "LR", 0.05, 0.6, 20), ("west", "LR", 0.05, 0.8, 20), ("east", "LR", 0.01, 0.5, 20)]
    rows += [("west", "LR", 0.01, 0.6, 19), ("east", "zero-shot", 0.01, 0.7, 20), ("west", "zero-shot", 0.01, 0.7, 20)]
    table = pd.DataFrame(rows, columns=["site", "model", "fraction", "value", "n_tasks"])
    table = table.assign(task_kind="phenotype", inconclusive=np.nan)
    summary = each_site.summarise_sites(table)
    assert summary["fewest_tasks"].tolist() == [20, 19, 20]
    shown = each_site._format_summary(summary, table)
    assert shown["west"].tolist() == ["0.800", "0.600 (19 of 20 tasks)", "0.700"]
    assert shown["east"].tolist() == ["0.600", "0.500", "0.700"] and shown["fewest_tasks"].tolist() == [
        "20",
        "19",
        "20",
    ]
    for other in (table.drop(columns="n_tasks"), table.assign(n_tasks=20)):  # of an earlier version; none is lacking
        text = each_site._format_summary(each_site.summarise_sites(other), other)
        assert "fewest_tasks" not in text and text["west"].tolist() == ["0.800", "0.600", "0.700"]


# ---- the counts


def test_a_task_counts_with_every_draw(whole):
    rows = whole.rows_with(model="LR", fraction=0.05, task_kind="phenotype")
    lost = rows[(whole.results.iloc[rows]["task"] == "Kidney") & (whole.results.iloc[rows]["seed"] == 1)]
    kept = complete_fits(whole, np.setdiff1d(rows, lost))
    assert set(whole.results.iloc[kept]["task"]) == {"Shock", "Sepsis"} and len(kept) == 4


def test_tasks_of_several_splits_are_named_by_split():
    ev = toy_evaluation(splits=2)
    all_rows, of_first = ev.rows_with(model="LR"), ev.rows_with(model="LR", split=0)
    d = count_tasks(ev, ["phenotype"] * 2, [all_rows, of_first]).assign(task_kind="phenotype")
    assert d["n_tasks"].tolist() == [4, 2] and d["lacking_tasks"][1] == "Sepsis (split 1); Shock (split 1)"
    assert mark_fewer_tasks(d) == ["", " (2 of 4 tasks)"] and "split 1" in describe_fewer_tasks(d)
