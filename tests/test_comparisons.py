"Comparisons against computations in few lines: all pairs, all signs, scikit-learn and scipy."

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import ttest_1samp
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from rnn_transfer.evaluation.comparisons import (
    holm,
    wilcoxon,
    wilcoxon_over_tasks,
)
from rnn_transfer.evaluation.delong import bootstrap_vs_delong, delong_compare, delong_coverage
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.label_efficiency import (
    LabelAmount,
    estimate_label_efficiency,
    format_labels,
    isotonic_curve,
    label_efficiency_table,
    label_numbers,
    labels_to_reach,
)
from rnn_transfer.evaluation.measures import Bootstrap, auroc, simulate_coverage
from rnn_transfer.evaluation.three_sources import difference_interval
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.ranking import delong
from rnn_transfer.utilities.seeds import seeded_rng

# ---------------------------------------------------------------- DeLong


def all_pairs(y, P):
    "DeLong et al. 1988 as it is written: every positive against every negative."
    kernel = [(d > 0) + (d == 0) / 2 for d in (p[y == 1][:, None] - p[y == 0][None] for p in P)]
    V10, V01 = np.array([k.mean(1) for k in kernel]), np.array([k.mean(0) for k in kernel])
    return V10.mean(1), np.cov(V10).reshape(len(P), -1) / V10.shape[1] + np.cov(V01).reshape(len(P), -1) / V01.shape[1]


def obuchowski(y, p, subjects):
    "Variance of one AUROC by Obuchowski 1997, subject by subject."
    d = p[y == 1][:, None] - p[y == 0][None]
    kernel = (d > 0) + (d == 0) / 2
    auc = kernel.mean()
    m, n = kernel.shape
    v10, v01 = np.full(len(y), np.nan), np.full(len(y), np.nan)
    v10[y == 1], v01[y == 0] = kernel.mean(1), kernel.mean(0)
    s10 = s01 = s11 = i10 = i01 = 0
    names = set(subjects)
    for s in names:
        x, z = v10[(subjects == s) & (y == 1)], v01[(subjects == s) & (y == 0)]
        i10 += len(x) > 0
        i01 += len(z) > 0
        a, b = x.sum() - len(x) * auc, z.sum() - len(z) * auc
        s10 += a * a
        s01 += b * b
        s11 += a * b
    big = len(names)
    return s10 * i10 / ((i10 - 1) * m) / m + s01 * i01 / ((i01 - 1) * n) / n + 2 * s11 * big / (big - 1) / (m * n)


@st.composite
def scored(draw, models=2):
    "Labels with two stays of each class at least, and scores of some models with many ties."
    n = draw(st.integers(4, 40))
    y = np.array([0, 1, 0, 1] + draw(st.lists(st.integers(0, 1), min_size=n - 4, max_size=n - 4)), float)
    score = st.sampled_from([0, 0.1, 0.25, 0.5, 0.5, 0.9, 1]) | st.floats(0, 1, width=16)
    return y, np.array(draw(st.lists(st.lists(score, min_size=n, max_size=n), min_size=models, max_size=models)))


@settings(deadline=None)
@given(scored(3))
def test_delong_equals_all_pairs_and_sklearn(data):
    y, P = data
    auc, cov = delong(y, P)
    auc2, cov2 = all_pairs(y, P)
    assert auc == pytest.approx([roc_auc_score(y, p) for p in P], abs=1e-12) and auc == pytest.approx(auc2, abs=1e-12)
    assert cov == pytest.approx(cov2, abs=1e-12)


def test_delong_equals_all_pairs_on_a_thousand_stays():
    r = seeded_rng('delong')
    y = (r.random(1000) < 0.2).astype(float)
    P = np.round(y + r.normal(size=(4, 1000)), 1)
    auc, cov = delong(y, P)
    auc2, cov2 = all_pairs(y, P)
    assert auc == pytest.approx(auc2, abs=1e-12) and cov == pytest.approx(cov2, abs=1e-15)


@settings(deadline=None)
@given(scored(), st.lists(st.integers(0, 5), min_size=40, max_size=40))
def test_delong_by_subject_equals_obuchowski(data, subjects):
    y, P = data
    s = np.array(subjects[: len(y)])
    _, cov = delong(y, P, s)
    if min(len(set(s[y == 1])), len(set(s[y == 0]))) < 2:
        assert np.isnan(cov).all()
        return
    assert np.diag(cov) == pytest.approx([obuchowski(y, p, s) for p in P], abs=1e-12)
    assert cov[0, 0] + cov[1, 1] - 2 * cov[0, 1] >= -1e-12
    assert delong(y, P, np.arange(len(y)))[1] == pytest.approx(delong(y, P)[1], abs=1e-14)


@settings(deadline=None)
@given(scored())
def test_delong_is_antisymmetric_and_knows_only_ranks(data):
    y, (a, b) = data
    one, two = delong_compare(y, a, b), delong_compare(y, b, a)
    assert one.difference == pytest.approx(-two.difference, abs=1e-12)
    assert one.interval.low == pytest.approx(-two.interval.high, abs=1e-12)

    def same(x, z):
        return x == pytest.approx(z, abs=1e-9, nan_ok=True)

    assert same(one.p, two.p) and (np.isnan(one.p) or 0 <= one.p <= 1)
    turned = delong_compare(1 - y, 1 - a, 1 - b)
    if len(np.unique(1 - a)) == len(np.unique(a)) and len(np.unique(1 - b)) == len(np.unique(b)):
        assert same(one.difference, turned.difference) and same(one.se, turned.se)
    back = delong_compare(y[::-1], 3 * a[::-1] + 1, b[::-1])
    ties = len(np.unique(3 * a + 1)) == len(np.unique(a))
    if ties:
        assert same(one.difference, back.difference) and same(one.se, back.se)


@settings(deadline=None)
@given(scored(), st.integers(1, 5))
def test_unknown_labels_do_not_count(data, n):
    y, P = data
    Y, Q = np.r_[np.full(n, np.nan), y], np.c_[np.full((2, n), np.nan), P]
    for got, want in zip(delong(Y, Q, np.r_[np.zeros(n), np.arange(len(y))]), delong(y, P)):
        assert got == pytest.approx(want, abs=1e-14)


def test_delong_of_one_class_or_one_positive_is_undefined():
    assert np.isnan(delong([1, 1], [[0.1, 0.2]])[0]).all() and np.isnan(delong([0, 0], [[0.1, 0.2]])[1]).all()
    auc, cov = delong([1, 0, 0], [[0.9, 0.2, 0.3]])
    assert auc == 1 and np.isnan(cov).all()
    found = delong_compare([1, 0, 0], [0.9, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert found.difference == 1 and np.isnan([found.interval.low, found.p]).all()


def test_models_that_tie_everywhere_differ_by_nothing():
    found = delong_compare([1, 0, 1, 0], [0.3] * 4, [0.7] * 4)
    assert (found.auroc, found.difference, found.interval, found.p) == (0.5, 0, (0, 0), 1)


def test_delong_agrees_with_the_bootstrap_where_both_apply():
    r = seeded_rng('agree')
    n = 2000
    y = (r.random(n) < 0.2).astype(float)
    shared = r.normal(size=n)
    a, b = y + shared + 0.5 * r.normal(size=n), 0.8 * y + shared + 0.5 * r.normal(size=n)
    draws = Bootstrap(np.arange(n), 2000)
    v = auroc(y, a, draws.weights) - auroc(y, b, draws.weights)
    found = delong_compare(y, a, b)
    assert found.difference == pytest.approx(v[0]) and found.se == pytest.approx(v[1:].std(), rel=0.06)
    assert found.interval == pytest.approx(percentile_interval(v)[:2], abs=0.004)


def test_delong_intervals_cover():
    found = delong_coverage(300, seed=1)  # three standard errors of 300 repetitions are .038
    assert (
        0.912 <= found.by_subject <= 0.988 and 0.912 <= found.difference <= 0.988 and found.by_stay < found.by_subject
    )


@pytest.mark.slow
def test_delong_intervals_cover_over_a_thousand_repetitions():
    found = delong_coverage(1000)
    assert 0.93 <= found.by_subject <= 0.97 and 0.93 <= found.difference <= 0.97


@pytest.mark.slow
def test_bootstrap_intervals_cover_over_a_thousand_repetitions():
    assert 0.93 <= simulate_coverage(1000) <= 0.97


@pytest.mark.slow
def test_paired_bootstrap_intervals_cover_over_a_thousand_repetitions():
    held = 0
    for k in range(1000):
        r = seeded_rng('paired coverage', k)
        subject = np.repeat(np.arange(300), r.integers(1, 3, 300))
        y = (r.random(300) < 0.2)[subject].astype(float)
        a, b = y + np.sqrt(0.5) * (r.normal(size=300)[subject] + r.normal(size=(2, len(subject))))
        w = Bootstrap(subject, 300, k).weights
        low, high, _ = percentile_interval(auroc(y, a, w) - auroc(y, b, w))
        held += low <= 0 <= high
    assert 0.93 <= held / 1000 <= 0.97


# ---------------------------------------------------------------- Wilcoxon and Holm


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([-0.03, -0.02, -0.01, 0, 0.01, 0.02, 0.03]) | st.floats(-0.125, 0.125, width=16),
        min_size=1,
        max_size=9,
    )
)
def test_wilcoxon_equals_all_signs(d):
    found = wilcoxon(d)
    x = np.round(d, 10)
    x = x[x != 0]
    if not len(x):
        assert found.p == 1
        return
    rank = stats.rankdata(abs(x))
    up = rank[x > 0].sum()
    mean = rank.sum() / 2
    sums = np.array([(rank * s).sum() for s in product([0, 1], repeat=len(x))])
    assert found.p == pytest.approx((abs(sums - mean) >= abs(up - mean) - 1e-9).mean())
    assert found.rank_biserial == pytest.approx(2 * up / rank.sum() - 1)
    other = wilcoxon(-np.array(d))
    assert (
        other.p == pytest.approx(found.p)
        and other.rank_biserial == pytest.approx(-found.rank_biserial)
        and other.median == pytest.approx(-found.median)
    )
    assert found.n == len(d) == found.n_ahead + found.n_behind + found.n_zero


@pytest.mark.parametrize('n', [3, 10, 25, 45])
def test_wilcoxon_equals_scipy(n):
    d = seeded_rng('wilcoxon', n).normal(0.01, 0.02, n)
    assert wilcoxon(d).p == pytest.approx(stats.wilcoxon(d, method='exact').pvalue)
    assert wilcoxon(d).median == pytest.approx(np.median([(a + b) / 2 for i, a in enumerate(d) for b in d[i:]]))


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_values)
def test_holm_equals_stepping_down(p):
    found, order = holm(p), np.argsort(p, kind='stable')
    for alpha in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for step, k in enumerate(order):
            if p[k] * (len(p) - step) > alpha:
                break
            rejected.add(int(k))
        assert set(np.flatnonzero(found <= alpha)) == rejected


@given(p_values, st.randoms())
def test_holm_is_monotone_and_never_below_p(p, random):
    found = holm(p)
    assert (
        (found >= p).all()
        and (found <= np.minimum(np.array(p) * len(p), 1) + 1e-15).all()
        and (np.diff(found[np.argsort(p, kind='stable')]) >= 0).all()
    )
    at = list(range(len(p)))
    random.shuffle(at)
    assert sorted(holm(np.array(p)[at])) == pytest.approx(sorted(found))
    with_gap = holm([np.nan, *p])
    assert np.isnan(with_gap[0]) and with_gap[1:] == pytest.approx(found)


# ---------------------------------------------------------------- label efficiency

curves = st.integers(2, 7).flatmap(
    lambda n: st.lists(st.lists(st.floats(0.5, 1, width=16), min_size=4, max_size=4), min_size=n, max_size=n)
)


@settings(deadline=None)
@given(curves)
def test_monotone_is_isotonic_regression(curve):
    curve = np.array(curve)
    x = np.arange(len(curve))
    want = np.stack([IsotonicRegression().fit_transform(x, c) for c in curve.T], 1)
    assert isotonic_curve(curve) == pytest.approx(want, abs=1e-9)


def reached_by(x, curve, target):
    "The answers as the numbers of tables."
    return np.array([amount.as_number() for amount in labels_to_reach(x, curve, np.full(curve.shape[1], target))])


@settings(deadline=None)
@given(curves, st.floats(0.4, 1))
def test_what_is_needed_is_where_the_curve_reaches_it(curve, target):
    curve = np.array(curve)
    x = np.geomspace(0.01, 1, len(curve))
    for amount, c in zip(labels_to_reach(x, curve, np.full(4, target)), isotonic_curve(curve).T):
        if amount.state == 'at most':
            assert c[0] >= target - 1e-9 and amount == ('at most', x[0]) and amount.as_number() == 0
        elif amount.state == 'not reached':
            assert c[-1] < target and amount.amount is None and amount.as_number() == np.inf
        else:
            assert amount.state == 'reached' and amount.as_number() == amount.amount
            assert x[0] <= amount.amount <= x[-1] + 1e-12
            assert np.interp(np.log(amount.amount), np.log(x), c) == pytest.approx(target, abs=1e-6)
    assert (reached_by(x, curve, target + 0.05) >= reached_by(x, curve, target)).all()


def test_a_curve_with_a_gap_has_no_answer():
    found = labels_to_reach([0.1, 1], np.array([[0.7, np.nan, 0.7], [0.8, 0.8, 0.8]]), [0.75, 0.75, np.nan])
    assert [amount.state for amount in found] == ['reached', 'undefined', 'undefined']
    assert np.isnan(found[1].as_number()) and format_labels(found[1], [0.1, 1]) == 'undefined'


def test_files_hold_a_number_for_each_amount():
    amounts = [LabelAmount('at most', 0.1), LabelAmount('reached', 0.25), LabelAmount('not reached')]
    amounts += [LabelAmount('undefined')]
    numbers = label_numbers(pd.DataFrame(dict(needed=amounts, low=amounts, high=amounts, labels=1.0)))
    for name in ('needed', 'low', 'high'):
        assert numbers[name].tolist()[:3] == [0, 0.25, np.inf] and np.isnan(numbers[name][3])
    assert numbers.dtypes.tolist() == [np.dtype(float)] * 4


def test_counts_of_labels_read_as_numbers():
    curve = np.array([[0.7] * 5, [0.8] * 5])
    found = estimate_label_efficiency([100, 1000], curve, np.full(5, 0.75))
    assert found.needed.amount == pytest.approx(1000 / 10**0.5) and found.words == '316 (in 95 % of replicates)'
    found = estimate_label_efficiency([100, 1000], curve, np.full(5, 0.6))
    assert found.words == 'at most 100 (in 95 % of replicates)'
    assert found.as_row() == dict(
        needed=found.needed, low=found.needed, high=found.needed, reached=1, n_undefined=0, words=found.words
    )


def test_undefined_replicates_are_counted_and_too_many_leave_no_interval():
    curve = np.array([[0.7] * 6, [0.8] * 6])
    target = np.array([0.75, 0.75, 0.75, 0.75, np.nan, np.nan])
    found = estimate_label_efficiency([0.1, 1], curve, target)
    assert found.n_undefined == 2 and found.interval.low == found.interval.high == found.needed
    found = estimate_label_efficiency([0.1, 1], curve, np.r_[0.75, 0.75, [np.nan] * 4])
    assert found.interval.low.state == 'undefined' and found.words == '32 %'
    assert [found.as_row()[end].state for end in ('low', 'high')] == ['undefined'] * 2


# ---------------------------------------------------------------- on an evaluation


def test_agreement_of_bootstrap_and_delong():
    ev = toy_evaluation(n=400, replicates=400)
    t = bootstrap_vs_delong(ev, 'MN-LR-2', 'LR', 0.1)
    assert len(t) == 2
    assert t['bootstrap_se'].to_numpy() == pytest.approx(t['delong_se'].to_numpy(), rel=0.12)
    ev.predicted = None
    with pytest.raises(BadInput, match='not at hand'):
        bootstrap_vs_delong(ev, 'MN-LR-2', 'LR', 0.1)


def test_three_sources_and_tasks_use_what_both_models_have():
    ev = toy_evaluation(
        {'LR': 0.4, 'GBT': 0.9}, seeds=3, kinds=dict(Shock='phenotype', Sepsis='phenotype', Death='mortality')
    )
    r = ev.results
    gone = r.index[(r['task'] == 'Sepsis') & (r['seed'] == 1) & (r['model'] == 'LR') & (r['fraction'] == 0.1)]
    r.loc[gone, 'auroc'] = np.nan
    ev._cache.clear()
    found = difference_interval(ev, 'GBT', 'LR', 'phenotype', 0.1)
    one = r.query("fraction == .1 and task == 'Shock'").pivot(index='seed', columns='model', values='auroc')
    want = ttest_1samp(one['GBT'] - one['LR'], 0)
    assert found.n_draws == 3 and found.estimate == pytest.approx((one['GBT'] - one['LR']).mean())
    assert found.spread.draws / 3**0.5 == pytest.approx(found.estimate / want.statistic)
    t = wilcoxon_over_tasks(ev, [('GBT', 'LR'), ('LR', 'GBT'), ('GBT', 'RNN-C')], 1.0)
    assert len(t) == 4 and t.query("task_kind == 'mortality'")['p'].isna().all()
    assert (t.query("task_kind == 'phenotype'")['p_holm'] >= t.query("task_kind == 'phenotype'")['p']).all()


def test_efficiency_keeps_to_tasks_that_are_there_throughout():
    ev = toy_evaluation({'RNN-C': 0.2, 'MN-LR-2': 0.9}, fractions=(0.1, 0.3, 1.0))
    whole = label_efficiency_table(ev, 'MN-LR-2', 'RNN-C')
    assert whole['n_tasks'].item() == 2 and 0 < whole['needed'].item().amount < 1
    ev.results.loc[
        (ev.results['task'] == 'Sepsis') & (ev.results['fraction'] == 0.1) & (ev.results['model'] == 'MN-LR-2'), 'auroc'
    ] = np.nan
    ev._cache.clear()
    left = label_efficiency_table(ev, 'MN-LR-2', 'RNN-C')
    assert left['n_tasks'].item() == 1 and left['n_tasks_seen'].item() == 2
