"Metrics against scikit-learn, the bootstrap against plain resampling, calibration against its definition."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from rnn_transfer.evaluation import measures
from rnn_transfer.evaluation.intervals import percentile_interval, wilson_interval
from rnn_transfer.evaluation.measures import (
    Bootstrap,
    auprc,
    auroc,
    brier,
    calibration_line,
    reliability_curve,
    simulate_coverage,
)
from rnn_transfer.utilities.seeds import seeded_rng

# ---------------------------------------------------------------- metrics


@st.composite
def scored(draw):
    "Labels with both classes, scores with many ties, weights with zeros that leave both classes."
    n = draw(st.integers(2, 40))
    y = np.array([0, 1] + draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2)), float)
    p = np.array(
        draw(st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 0.5, 0.9, 1]) | st.floats(0, 1), min_size=n, max_size=n))
    )
    w = np.array([1, 1] + draw(st.lists(st.integers(0, 4), min_size=n - 2, max_size=n - 2)), float)
    return y, p, w


@settings(deadline=None, max_examples=50)  # other work on the machine must not fail a test
@given(scored())
def test_metrics_equal_sklearn(data):
    y, p, w = data
    assert auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert auprc(y, p) == pytest.approx(average_precision_score(y, p), abs=1e-12)
    assert brier(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert auroc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert auprc(y, p, w) == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)
    assert brier(y, p, w) == pytest.approx(brier_score_loss(y, p, sample_weight=w), abs=1e-12)


@settings(deadline=None)
@given(scored())
def test_auroc_counts_pairs(data):
    y, p, _ = data
    diff = p[y == 1][:, None] - p[y == 0][None]
    assert auroc(y, p) == pytest.approx(((diff > 0) + (diff == 0) / 2).mean(), abs=1e-12)


@settings(deadline=None)
@given(scored(), st.integers(0, 10))
def test_null_labels_do_not_count(data, n):
    y, p, _ = data
    Y, P = np.r_[np.full(n, np.nan), y], np.r_[np.full(n, np.nan), p]
    assert [f(Y, P) for f in (auroc, auprc, brier)] == pytest.approx([f(y, p) for f in (auroc, auprc, brier)])


@settings(deadline=None)
@given(scored())
def test_equal_predictions_give_exactly_one_half(data):
    y, _p, w = data
    assert auroc(y, np.full(len(y), 0.3), w) == 0.5
    values = Bootstrap(np.arange(len(y)), 30, 1).measure(y, np.full(len(y), 0.3))['auroc']
    assert set(values[np.isfinite(values)]) == {0.5}


def test_calibration_equals_unpenalised_logistic_regression():
    r = seeded_rng('calibration')
    x = r.normal(size=2000)
    y = (r.random(2000) < 1 / (1 + np.exp(-(0.3 + 0.6 * x)))).astype(float)
    intercept, slope, reason = calibration_line(y, 1 / (1 + np.exp(-x)))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], y)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4) and reason is None
    assert np.mean(1 / (1 + np.exp(-(x + intercept)))) == pytest.approx(y.mean(), abs=1e-6)


@pytest.mark.parametrize(
    'y,p,why',
    [
        ([0, 1, 1], [0.2, 0.2, 0.2], 'all predictions are equal'),
        ([0, 0, 1], [0.1, 0.2, 0.9], 'separate the classes'),
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9], 'separate the classes'),
        ([1, 1, 0, 0], [0.1, 0.5, 0.5, 0.9], 'separate the classes'),
        ([0, 1, 1], [0.2, 0.2, 0.5], 'separate the classes'),
        ([1, 1, 1], [0.1, 0.2, 0.9], 'one class'),
    ],
)
def test_undefined_calibration_says_why(y, p, why):
    _, slope, reason = calibration_line(y, p)
    assert np.isnan(slope) and why in reason


def test_calibration_has_a_slope_as_soon_as_the_classes_overlap():
    x = np.array([0.1, 0.5, 0.5, 0.6, 0.9])
    y = np.array([0, 0, 1, 0, 1.0])
    _, slope, reason = calibration_line(y, x)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(x / (1 - x))[:, None], y)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-3) and reason is None


@pytest.mark.parametrize('columns', [1, 2])  # the fit of the intercept alone, and that of the slope
def test_a_calibration_that_did_not_converge_is_null_with_a_reason(monkeypatch, columns):
    search = measures.logistic_fit

    def stops(A, y, offset):
        return search(A, y, offset, **(dict(steps=1) if A.shape[1] == columns else {}))

    monkeypatch.setattr(measures, 'logistic_fit', stops)
    r = seeded_rng('calibration')
    y = (r.random(200) < 0.3).astype(float)
    intercept, slope, reason = calibration_line(y, r.random(200))
    assert np.isnan(slope) and 'did not converge' in reason and np.isnan(intercept) == (columns == 1)


# ---------------------------------------------------------------- bootstrap


def test_replicates_equal_sklearn_on_resampled_stays(monkeypatch):
    monkeypatch.setattr(measures, '_BLOCK', 7)
    r = seeded_rng('resample')
    subjects = r.integers(60, size=100)
    y = (r.random(100) < 0.3).astype(float)
    p = np.round(r.random(100), 1)
    boot = Bootstrap(subjects, 25, 3)
    values = boot.measure(y, p)
    for k in range(26):
        again = np.repeat(np.arange(100), boot.weights[k].astype(int))
        assert values['auroc'][k] == pytest.approx(roc_auc_score(y[again], p[again]), abs=1e-12)
        assert values['auprc'][k] == pytest.approx(average_precision_score(y[again], p[again]), abs=1e-12)
        assert values['brier'][k] == pytest.approx(brier_score_loss(y[again], p[again]), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_stays_of_a_subject_stay_together(subjects, seed):
    w = Bootstrap(subjects, 12, seed).weights
    s = np.array(subjects)
    assert w.shape == (13, len(s)) and (w[0] == 1).all()
    for k in np.unique(s):
        assert (w[:, s == k] == w[:, s == k][:, :1]).all()
    first = np.unique(s, return_index=True)[1]
    assert (w[:, first].sum(1) == len(first)).all()


def test_draws_depend_on_the_seed_alone():
    a, b, c = (Bootstrap(np.arange(50), 20, seed).weights for seed in (0, 0, 1))
    assert (a == b).all() and (a != c).any()


def test_interval_leaves_undefined_replicates_out_and_counts_them():
    values = np.r_[0.5, np.linspace(0, 1, 101), [np.nan] * 40]
    assert percentile_interval(values) == pytest.approx((0.025, 0.975, 40))
    low, high, n = percentile_interval(np.r_[0.5, 0.4, 0.6, [np.nan] * 3])
    assert np.isnan([low, high]).all() and n == 3


def test_intervals_cover():
    assert 0.93 - 0.035 <= simulate_coverage(200) <= 0.985  # three standard errors below 93 %, two above 95 %


# ---------------------------------------------------------------- calibration curves


def test_reliability_equals_plain_resampling():
    r = seeded_rng('reliability')
    subjects = r.integers(50, size=90)
    y = [(r.random(90) < 0.4).astype(float) for _ in range(2)]
    y[1][:20] = np.nan
    p = [r.random(90), r.random(90)]
    boot = Bootstrap(subjects, 40, 5)
    got = reliability_curve(list(zip(y, p)), boot.weights, bins=4)
    Y, P, who = np.concatenate(y), np.concatenate(p), np.tile(np.arange(90), 2)
    keep = ~np.isnan(Y)
    Y, P, who = Y[keep], P[keep], who[keep]
    bin = pd.qcut(P, 4, labels=False)
    for b in range(4):
        at = bin == b
        shares = [np.repeat(Y[at], boot.weights[k][who[at]].astype(int)).mean() for k in range(1, 41)]
        assert (
            got.loc[b, ['said', 'seen', 'low', 'high']].tolist()
            == pytest.approx([P[at].mean(), Y[at].mean(), *np.quantile(shares, [0.025, 0.975])])
            and got['n'][b] == at.sum()
        )


@pytest.mark.parametrize('k,n', [(0, 7), (3, 9), (9, 9), (50, 1000)])
def test_wilson_equals_scipy(k, n):
    assert wilson_interval(k, n) == pytest.approx(tuple(binomtest(k, n).proportion_ci(method='wilson')))


def test_a_bin_without_a_positive_has_an_interval():
    y, p = np.r_[np.zeros(30), np.tile([0.0, 1.0], 15)], np.r_[np.full(30, 0.1), np.full(30, 0.8)]
    got = reliability_curve([(y, p)], Bootstrap(np.arange(60), 50).weights, bins=2)
    assert (
        got['seen'].tolist() == [0, 0.5]
        and got['low'][0] == 0
        and got['high'][0] == pytest.approx(binomtest(0, 30).proportion_ci(method='wilson').high)
    )


def test_reliability_of_equal_predictions_is_one_point():
    got = reliability_curve([(np.array([0, 1, 1.0]), np.full(3, 0.2))], Bootstrap(np.arange(3), 20).weights)
    assert len(got) == 1 and got.iloc[0][['said', 'seen', 'n']].tolist() == pytest.approx([0.2, 2 / 3, 3])
