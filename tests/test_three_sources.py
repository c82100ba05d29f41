"The intervals over three sources on the results of a run, recomputed from the predictions, and the null models."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from rnn_transfer.evaluation import differences, learning_curves
from rnn_transfer.evaluation.calibration import quality_frame
from rnn_transfer.evaluation.null_fits import is_null_fit, null_frame
from rnn_transfer.evaluation.source_tables import difference_table, system_tables
from rnn_transfer.evaluation.three_sources import (
    Term,
    combined_interval,
    difference_interval,
    system_interval,
    system_sources,
    three_source_differences,
    three_source_frame,
)
from rnn_transfer.evaluation.toy import toy_evaluation

NETWORKS = {"MN-LR-2": 0.9, "MN-LR-2@1": 0.7, "MN-LR-2@2": 1.0}
KINDS = dict(Shock="phenotype", Sepsis="phenotype", Death="mortality")


@pytest.fixture(scope="module")
def ev():
    "Two phenotypes and mortality, two splits, six draws, three networks; LR has none."
    return toy_evaluation({"LR": 0.4, "RNN-C": 0.3} | NETWORKS, (0.05, 1.0), seeds=6, splits=2, kinds=KINDS)


def weighted_auroc(ev, names, split, fraction, seed, kind, w=None):
    "Weighted AUROC of the tasks of a split: scikit-learn, one task after the other, from the predictions."
    r = ev.results
    total = positives = 0.0
    for task in [t for t, k in KINDS.items() if k == kind]:
        cell = (r["split"] == split) & (r["task"] == task) & (r["model"] == names) & (r["fraction"] == fraction)
        p = ev.predicted(np.flatnonzero(cell & (r["seed"] == seed)))[0]
        y = ev.labels[task]
        n = (y if w is None else y * w).sum()
        total += n * roc_auc_score(y, p, sample_weight=w)
        positives += n
    return total / positives


def recomputed(ev, fraction, kind, versus=None):
    "The table of draws and networks, and the standard deviation over patients, in few lines."
    splits, seeds = (sorted(ev.results[c].unique()) for c in ("split", "seed"))

    def table(w=None):
        def cell(model, seed):
            return np.mean([weighted_auroc(ev, model, s, fraction, seed, kind, w) for s in splits])

        first = np.array([[cell(m, k) for m in NETWORKS] for k in seeds])
        return first if versus is None else first - np.array([[cell(versus, k)] for k in seeds])

    resampled = [table(w).mean() for w in ev.bootstrap.weights[1:9]]
    return table(), resampled


def interval(y, patients):
    "Two-way analysis of variance with Satterthwaite's degrees of freedom."
    J, K = y.shape
    rows, columns = y.mean(1, keepdims=True), y.mean(0, keepdims=True)
    rest = ((y - rows - columns + y.mean()) ** 2).sum() / ((J - 1) * (K - 1)) / (J * K)
    of_rows = max(rows.var(ddof=1) / J, rest)
    of_columns = max(columns.var(ddof=1) / K, rest)
    variance = patients**2 + of_rows + of_columns - rest
    spent = of_rows**2 / (J - 1) + of_columns**2 / (K - 1) + rest**2 / ((J - 1) * (K - 1))
    half = stats.t.ppf(0.975, variance**2 / spent) * variance**0.5
    return y.mean() - half, y.mean() + half


@pytest.mark.parametrize("kind", ["phenotype", "mortality"])
@pytest.mark.parametrize("versus", [None, "LR"])
def test_intervals_equal_a_recomputation_from_the_predictions(ev, kind, versus):
    table, resampled = recomputed(ev, 0.05, kind, versus)
    if versus is None:
        found = system_interval(ev, "MN-LR-2", kind, 0.05)
    else:
        found = difference_interval(ev, "MN-LR-2", versus, kind, 0.05)
    assert found.estimate == pytest.approx(table.mean(), abs=1e-6)  # predictions are kept as float32
    want = interval(table, found.spread.patients)
    if versus is None:  # one AUROC: by the tangent at its logit
        half = (want[1] - want[0]) / 2 / (table.mean() * (1 - table.mean()))
        want = tuple(expit(logit(table.mean()) + sign * half) for sign in (-1, 1))
    assert found.interval == pytest.approx(want, abs=1e-5)
    r = ev.results
    cell = (r["task_kind"] == kind) & (r["fraction"] == 0.05)
    replicates = ev.average(np.flatnonzero(cell & r["model"].isin(list(NETWORKS))))
    if versus:
        replicates = replicates - ev.average(np.flatnonzero(cell & (r["model"] == versus)))
    assert replicates[1:9] == pytest.approx(resampled, abs=1e-6)
    assert found.spread.patients == pytest.approx(replicates[1:].std(ddof=1), abs=1e-9)


def test_a_pair_and_its_mirror_agree(ev):
    one, two = (difference_interval(ev, *p, "phenotype", 0.05) for p in (("MN-LR-2", "LR"), ("LR", "MN-LR-2")))
    assert one.interval == pytest.approx((-two.interval.high, -two.interval.low))
    assert (one.n_draws, one.n_networks) == (two.n_draws, two.n_networks) == (6, 3)


def test_networks_are_paired_where_both_have_them():
    skills = NETWORKS | {"untrained-LR-2": 0.2, "untrained-LR-2@1": 0.2}
    found = toy_evaluation(skills, (0.05,), seeds=5)
    pair = difference_interval(found, "MN-LR-2", "untrained-LR-2", "phenotype", 0.05)
    assert pair.n_networks == 2 and pair.reason
    r = found.results.set_index(["model", "task", "seed"])["auroc"]
    both = [r[m] - r[m.replace("MN", "untrained")] for m in ("MN-LR-2", "MN-LR-2@1")]
    positives = {t: found.positives[t][0] for t in ("Shock", "Sepsis")}
    want = [sum(d[t].mean() * n for t, n in positives.items()) / sum(positives.values()) for d in both]
    assert pair.estimate == pytest.approx(np.mean(want))


def test_which_sources_apply():
    assert system_sources("LR", 0.1) == (True, False) and system_sources("LR", 1) == (False, False)
    assert system_sources("LR:cv", 1) == (True, False) and system_sources("GBT", 1) == (False, False)
    assert system_sources("shuffled-MN-LR-2", 1) == (True, True) and system_sources("MN-FT", 1) == (True, True)
    assert system_sources("multi-task", 1) == (True, False) and system_sources("own system", 1) == (True, False)


def test_a_missing_fit_takes_its_task_out(ev):
    found = toy_evaluation({"LR": 0.4, "GBT": 0.6}, (0.05,), seeds=6)
    row = found.results.query("model == 'LR' and task == 'Sepsis' and seed == 2").index
    found.results.loc[row, "auroc"] = np.nan
    frame = three_source_frame(found).set_index("model")
    assert frame.loc["LR", ["n_tasks", "n_tasks_incomplete"]].tolist() == [1, 1]
    assert frame.loc["GBT", ["n_tasks", "n_tasks_incomplete"]].tolist() == [2, 0]
    shock = found.results.query("model == 'LR' and task == 'Shock'")["auroc"]
    assert frame.loc["LR", "estimate"] == pytest.approx(shock.mean())
    undefined = replace(found, results=found.results.assign(auroc=np.nan))
    assert system_interval(undefined, "LR", "phenotype", 0.05) is None


def test_a_draw_of_one_split_alone_takes_no_task_out(ev):
    r = ev.results
    last = (r["model"] == "RNN-C") & (r["seed"] == 5) & (r["split"] == 1) & (r["fraction"] == 0.05)
    fewer = replace(ev, results=r.assign(auroc=r["auroc"].mask(last)))
    row = three_source_frame(fewer).query("model == 'RNN-C' and fraction == 0.05 and task_kind == 'phenotype'").iloc[0]
    assert (row["n_draws"], row["n_tasks"], row["n_tasks_incomplete"]) == (5, 4, 0)
    whole = system_interval(ev, "RNN-C", "phenotype", 0.05)
    assert row["estimate"] != pytest.approx(whole.estimate, abs=1e-9)  # of five draws, not six


def test_the_patients_only_columns_are_those_of_the_tables_of_averages(ev):
    frame, averages = three_source_frame(ev), ev.averages()
    averages = averages[averages["model"].isin(["LR", "RNN-C", "MN-LR-2"])]
    for column in ("value", "low", "high"):
        assert frame[f"patients_{column}"].tolist() == averages[column].tolist()
    d, compared = three_source_differences(ev, [("MN-LR-2", "LR")]), ev.compare("MN-LR-2", "LR")
    assert d["patients_value"].tolist() == compared["difference"].tolist()
    assert d[["patients_low", "patients_high"]].to_numpy().tolist() == compared[["low", "high"]].to_numpy().tolist()


def test_other_tasks_need_more_than_one(ev):
    assert system_interval(ev, "LR", "mortality", 0.05, random_tasks=True) is None
    frame = three_source_frame(ev)
    assert frame.query("task_kind == 'mortality'")["other_low"].isna().all()
    phenotypes = frame.query("task_kind == 'phenotype'")
    wider = (phenotypes["other_high"] - phenotypes["other_low"]) / (phenotypes["high"] - phenotypes["low"])
    assert (wider > 0.95).all()  # where the spread over tasks is 0, weights of tasks that are not resampled differ


def test_few_draws_conclude_nothing():
    few = toy_evaluation({"LR": -3.0, "GBT": 5.0}, (0.05, 1.0), seeds=4)
    table = difference_table(few, "phenotype", [("GBT", "LR")])
    assert table.frame["low"].min() > 0  # as far apart as can be
    assert table.shown["Conclusion"].tolist() == ["inconclusive: too few draws", "higher"]  # 100 %: nothing to draw
    assert "(too few draws)" in table.shown["Patients, draws and networks"][0]


def test_one_fit_with_all_labels_stands_next_to_every_draw():
    found = toy_evaluation({"LR": 0.4, "RNN-C": 0.3}, (0.05, 1.0), seeds=6)
    repeated = (found.results["model"] == "LR") & (found.results["fraction"] == 1) & (found.results["seed"] > 0)
    found.results.loc[repeated, "auroc"] = np.nan  # fitted once
    pair = difference_interval(found, "RNN-C", "LR", "phenotype", 1.0)
    assert pair.n_draws == 6 and pair.reason == ""
    alone = {m: system_interval(found, m, "phenotype", 1.0) for m in ("RNN-C", "LR")}
    assert pair.estimate == pytest.approx(alone["RNN-C"].estimate - alone["LR"].estimate)
    assert pair.spread.draws == pytest.approx(alone["RNN-C"].spread.draws) and alone["LR"].n_draws is None


def test_a_sum_of_terms_draw_by_draw(ev):
    terms = [Term(1, "MN-LR-2", 0.05), Term(-1, "RNN-C", 0.05), Term(-1, "MN-LR-2", 1.0), Term(1, "RNN-C", 1.0)]
    found = combined_interval(ev, "mortality", terms)
    r = ev.results[ev.results["task_kind"] == "mortality"].groupby(["model", "fraction", "seed"])["auroc"].mean()
    full = {m: r[m, 1.0][0] for m in NETWORKS}  # with all labels no seed changes a linear model
    columns = [r[m, 0.05] - r["RNN-C", 0.05] - full[m] + r["RNN-C", 1.0] for m in NETWORKS]
    table = np.stack(columns, axis=1)
    assert found.estimate == pytest.approx(table.mean()) and (found.n_draws, found.n_networks) == (6, 3)
    assert found.interval == pytest.approx(interval(table, found.spread.patients), abs=1e-9)


# ---------------------------------------------------------------- null models


@pytest.fixture
def with_nulls():
    "Half of the fits of LR are null models with an AUROC of .5; GBT has no weights."
    ev = toy_evaluation({"LR": 0.9, "GBT": 0.6}, (0.05,), seeds=6)
    null = ((ev.results["model"] == "LR") & (ev.results["seed"] % 2 == 0)).to_numpy()
    linear = (ev.results["model"] == "LR").to_numpy()
    ev.results["n_features"] = np.where(linear, 10.0, np.nan)
    ev.results["n_near_zero"] = np.where(null, 10.0, np.where(linear, 4.0, np.nan))
    ev.results.loc[null, "auroc"] = 0.5
    ev.values["auroc"][null] = 0.5
    return ev


def test_three_columns_of_null_models(with_nulls):
    r = with_nulls.results
    assert is_null_fit(r).sum() == 6
    found = null_frame(with_nulls).set_index("model")
    assert found.loc["LR", ["n_null", "n_linear", "null_share"]].tolist() == [6, 12, 0.5]
    assert found.loc["LR", "overall"] == pytest.approx((0.5 + found.loc["LR", "fitted"]) / 2)
    assert found.loc["GBT", "overall"] == found.loc["GBT", "fitted"] and np.isnan(found.loc["GBT", "null_share"])
    table = system_tables(with_nulls, "phenotype")[0]
    assert table.shown.set_index("Model").loc["LR", "Null models"] == "6 of 12"
    assert table.shown.set_index("Model").loc["GBT", ["Null models", "Given fitted models"]].tolist() == ["–", "–"]
    quality = quality_frame(with_nulls).set_index("model")
    assert quality.loc["LR", "null_share"] == 0.5 and quality.loc["LR", "fitted"] == found.loc["LR", "fitted"]


def test_a_pair_is_null_where_one_of_its_fits_is(with_nulls):
    row = three_source_differences(with_nulls, [("GBT", "LR")]).iloc[0]
    assert row[["n_null", "n_linear", "null_share"]].tolist() == [6, 12, 0.5]
    kept = with_nulls.results.query("seed % 2 == 1").pivot_table(index="task", columns="model", values="auroc")
    positives = pd.Series({t: with_nulls.positives[t][0] for t in kept.index})
    want = ((kept["GBT"] - kept["LR"]) * positives).sum() / positives.sum()
    assert row["fitted"] == pytest.approx(want) and row["estimate"] != pytest.approx(want)


def test_sections_hold_both_intervals(ev):
    names = learning_curves.section(ev).names
    assert {"headline_phenotype", "sources_phenotype", "sources_mortality"} <= set(names)
    found = differences.section(ev)
    assert {"differences_phenotype", "differences_sources_phenotype", "differences_sources_mortality"} <= set(
        found.names
    )
    shown = found["differences_sources_phenotype"].shown
    assert {"Patients only (these models)", "Patients, draws and networks", "J", "K", "Detectable"} <= set(shown)
