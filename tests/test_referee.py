"Numbers that others can check: from the predictions on disk in a few lines, and from other programs."

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from simulated import simulated_run
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from rnn_transfer.evaluate import run_evaluate
from rnn_transfer.evaluation.comparisons import holm, wilcoxon
from rnn_transfer.evaluation.delong import delong_compare
from rnn_transfer.evaluation.intervals import wilson_interval
from rnn_transfer.evaluation.measures import auprc, auroc, brier, calibration_line
from rnn_transfer.utilities.ranking import delong

# ---------------------------------------------------------------- from the predictions of a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "An evaluated run with six draws of the labels and three networks."
    folder = tmp_path_factory.mktemp("referee") / "run"
    systems = ["LR", "MN-LR-2", "MN-LR-2@1", "MN-LR-2@2"]
    simulated_run(folder, systems=systems, seeds={0.05: 6, 1.0: 1})
    run_evaluate(folder, replicates=300)
    return folder


def read_predictions(run, fraction):
    "All predictions at a fraction, with the subject of each stay."
    p = pd.concat(pd.read_parquet(f) for f in run.glob(f"split-*/fraction-{fraction:g}/seed-*/predictions.parquet"))
    return p.merge(pd.read_parquet(run / "data/stays.parquet", columns=["stay_id", "subject_id"]), on="stay_id")


def weighted_auroc(p):
    "Mean over draws and networks of a task, tasks by their positives, then splits: a draw and network a column."
    auc = p.groupby(["split", "task", "seed", "model"])[["y", "p"]].apply(lambda g: roc_auc_score(g["y"], g["p"]))
    positives = p.drop_duplicates(["split", "task", "stay_id"]).groupby(["split", "task"])["y"].sum()
    weights = positives / positives.groupby("split").transform("sum") / positives.index.unique("split").size
    return auc.unstack(["seed", "model"]).mul(weights, axis=0).sum(skipna=False)


def two_way_interval(table, patients, on_logit_scale=True):
    "Analysis of variance of (draws, networks), patients added, Satterthwaite's degrees of freedom."
    J, K = table.shape
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    rest = ((table - rows - columns + table.mean()) ** 2).sum() / ((J - 1) * (K - 1)) / (J * K)
    draws, networks = max(rows.var(ddof=1) / J, rest), max(columns.var(ddof=1) / K, rest)
    variance = patients**2 + draws + networks - rest
    df = variance**2 / (draws**2 / (J - 1) + networks**2 / (K - 1) + rest**2 / ((J - 1) * (K - 1)))
    middle = table.mean()
    half = stats.t.ppf(0.975, df) * variance**0.5
    if not on_logit_scale:
        return middle - half, middle + half
    half /= middle * (1 - middle)
    return expit(logit(middle) - half), expit(logit(middle) + half)


@pytest.mark.parametrize("kind", ["phenotype", "mortality"])
def test_the_tables_equal_a_recomputation_from_the_predictions(run, kind):
    p = read_predictions(run, 0.05)
    p = p[(p["task"] == "Mortality") == (kind == "mortality")]
    p = p[p["model"].str.startswith("MN-LR-2") & (p["task"] != "Phenotype A")]  # A has no fit in the first draw
    table = weighted_auroc(p).unstack("model").to_numpy()
    assert table.shape == (6, 3)
    row = pd.read_csv(run / f"tables/sources_{kind}.csv").query("model == 'MN-LR-2' and fraction == .05").iloc[0]
    assert row["estimate"] == pytest.approx(table.mean(), abs=1e-12)
    assert (row["low"], row["high"]) == pytest.approx(two_way_interval(table, row["sd_patients"]), abs=1e-10)

    subjects, r = np.sort(p["subject_id"].unique()), np.random.default_rng(1)
    stays_of = dict(list(p.groupby("subject_id")))
    resampled = []
    for _ in range(60):
        drawn = pd.concat([stays_of[s] for s in r.choice(subjects, len(subjects))])
        drawn["stay_id"] = drawn.groupby(["split", "task", "seed", "model"]).cumcount()  # each copy is a stay
        resampled.append(weighted_auroc(drawn).mean())
    assert row["sd_patients"] == pytest.approx(
        np.std(resampled, ddof=1), rel=0.3
    )  # three times the 9 % of 60 replicates


def test_the_headline_equals_a_recomputation_from_the_predictions(run):
    p = read_predictions(run, 1.0)
    phenotypes = p[(p["task"] != "Mortality") & (p["model"] == "LR")]
    table = pd.read_csv(run / "tables/headline_phenotype.csv").query("model == 'LR' and fraction == 1")
    assert table["value"].item() == pytest.approx(weighted_auroc(phenotypes).item(), abs=1e-12)


# ---------------------------------------------------------------- from other programs

# twelve stays of six subjects, with ties within and across the classes
Y = np.array([0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0], float)
P = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.4, 0.5, 0.7, 0.7, 0.9])
Q = np.array([0.3, 0.1, 0.6, 0.2, 0.2, 0.9, 0.4, 0.8, 0.5, 0.1, 0.7, 0.3])
SUBJECT = np.repeat(np.arange(6), 2)
TINY = np.array([0, 1.0]), np.array([0.4, 0.4])
GOLDEN_SKLEARN = 0.4571428571428572, 0.4103174603174603, 0.33583333333333326
GOLDEN_GLM = -0.148579428196796, 0.143466635452351


def test_golden_values_of_scikit_learn():
    # scikit-learn 1.9: roc_auc_score(Y, P), average_precision_score(Y, P), brier_score_loss(Y, P)
    assert auroc(Y, P) == pytest.approx(roc_auc_score(Y, P), abs=1e-15)
    assert auprc(Y, P) == pytest.approx(average_precision_score(Y, P), abs=1e-15)
    assert brier(Y, P) == pytest.approx(brier_score_loss(Y, P), abs=1e-15)
    assert (auroc(Y, P), auprc(Y, P), brier(Y, P)) == pytest.approx(GOLDEN_SKLEARN, abs=1e-12)
    assert auroc(*TINY) == roc_auc_score(*TINY) == 0.5
    weights = np.bincount(SUBJECT, [0, 0, 2, 2, 1, 1, 0, 0, 2, 2, 1, 1])[SUBJECT] / 2  # a replicate of subjects
    assert auroc(Y, P, weights) == pytest.approx(roc_auc_score(Y, P, sample_weight=weights), abs=1e-12)


def test_golden_values_of_statsmodels():
    # statsmodels 0.15.0, x = log(P / (1 - P)):
    # sm.GLM(Y, sm.add_constant(x), family=sm.families.Binomial()).fit(tol=1e-15).params[1]
    # sm.GLM(Y, np.ones((12, 1)), family=sm.families.Binomial(), offset=x).fit(tol=1e-15).params[0]
    found = calibration_line(Y, P)
    assert (found.slope, found.intercept) == pytest.approx(GOLDEN_GLM, abs=1e-6)
    # multipletests([.01, .04, .03, .005, .04, .9], method='holm')[1]
    assert holm([0.01, 0.04, 0.03, 0.005, 0.04, 0.9]) == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.12, 0.9], abs=1e-12)
    # proportion_confint(k, n, method='wilson')
    wilson = {
        (0, 5): (0.0, 0.43448246478317487),
        (1, 5): (0.036224108632430196, 0.6244653702374748),
        (5, 5): (0.5655175352168252, 1.0),
        (7, 40): (0.0874541374603592, 0.3194999033178772),
    }
    for (k, n), ends in wilson.items():
        assert wilson_interval(k, n) == pytest.approx(ends, abs=1e-12)


def test_golden_values_of_scipy():
    # scipy 1.17: stats.wilcoxon(d, method='exact'), six differences without ties
    d = np.array([0.011, 0.035, -0.006, 0.02, 0.048, 0.001])
    assert wilcoxon(d).p == pytest.approx(0.09375, abs=1e-12) == stats.wilcoxon(d, method="exact").pvalue


# pROC 1.18.0 in R 4.2.2, with options(digits = 17):
#   a <- roc(y, p, levels = c(0, 1), direction = "<"); b <- roc(y, q, levels = c(0, 1), direction = "<")
#   t <- roc.test(a, b, method = "delong", paired = TRUE)
#   c(auc(a), auc(b), var(a), var(b), cov(a, b), t$p.value, t$conf.int)
HUNDRED = np.arange(100)
HUNDRED_Y = (HUNDRED * 37 % 100 < 23).astype(float)
GOLDEN_PROC = {
    "ties": (
        (Y, P, Q),
        (0.45714285714285713, 0.87142857142857144, 0.031428571428571431, 0.017823129251700678, 0.0042006802721088424),
        (0.040388268908719188, -0.81042318972069682, -0.018148238850731468),
    ),
    "two stays of each class": (
        (np.array([0, 1, 0, 1.0]), np.array([0.2, 0.2, 0.1, 0.9]), np.array([0.5, 0.5, 0.5, 0.6])),
        (0.875, 0.75, 0.03125, 0.0625, 0.03125),
        (0.47950012218695348, -0.22147595608741938, 0.47147595608741938),
    ),
    "a hundred stays, 23 positive": (
        (
            HUNDRED_Y,
            np.round((HUNDRED * 61 % 20) / 20 + HUNDRED_Y * 0.15, 2),
            np.round((HUNDRED * 29 % 7) / 7 + HUNDRED_Y * 0.1, 2),
        ),
        (0.61434217955957082, 0.5714285714285714, 0.0045057944634772241, 0.0047735794294343327, 0.00030105664716258124),
        (0.64502489302867527, -0.13966059395106165, 0.2254878102130605),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_PROC)
def test_golden_values_of_proc(name):
    (y, p, q), (first, second, variance, variance_of_second, covariance), (p_value, low, high) = GOLDEN_PROC[name]
    aurocs, matrix = delong(y, np.stack([p, q]))
    assert aurocs == pytest.approx([first, second], abs=1e-14)
    assert matrix == pytest.approx(np.array([[variance, covariance], [covariance, variance_of_second]]), abs=1e-14)
    found = delong_compare(y, p, q)
    assert found.p == pytest.approx(p_value, abs=1e-12)
    assert tuple(found.interval) == pytest.approx((low, high), abs=1e-12)


def test_covariance_of_two_aurocs_over_stays():
    # DeLong's structural components by all pairs of stays
    pairs = np.array([[(p > q) + (p == q) / 2 for q in S[Y == 0]] for S in (P, Q) for p in S[Y == 1]])
    pairs = pairs.reshape(2, 5, 7)
    of_positives, of_negatives = np.cov(pairs.mean(2)) / 5, np.cov(pairs.mean(1)) / 7
    found = delong(Y, np.stack([P, Q]))
    assert found[1] == pytest.approx(of_positives + of_negatives, abs=1e-14)
    assert found[0] == pytest.approx([roc_auc_score(Y, P), roc_auc_score(Y, Q)], abs=1e-14)
