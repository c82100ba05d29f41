"The interval over patients, draws and networks against recomputations in few lines, and its coverage."

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from rnn_transfer.evaluation.component_coverage import component_coverage
from rnn_transfer.evaluation.components import (
    OBSERVED_SPREADS,
    SourceSpread,
    _two_way_components,
    describe_design,
    detectable_difference,
    draws_needed,
    least_difference,
    logit_interval,
    three_source_interval,
    variance_components,
)
from rnn_transfer.evaluation.measures import Bootstrap, auroc
from rnn_transfer.utilities.seeds import seeded_rng

MORTALITY, MORTALITY_AT_5, PHENOTYPES = OBSERVED_SPREADS.values()
CASES = {
    "mortality": replace(MORTALITY, residual=0.02),
    "phenotypes": replace(PHENOTYPES, residual=0.01),
    "no network": replace(MORTALITY, networks=0.0),
    "all labels": SourceSpread(patients=0.006, draws=0.003, networks=0.007, residual=0.003),
}


def textbook_components(y):
    "Mean squares of a balanced two-way table, as a textbook of analysis of variance has them."
    J, K = y.shape
    rows, columns = y.mean(1, keepdims=True), y.mean(0, keepdims=True)
    ms_rows = K * ((rows - y.mean()) ** 2).sum() / (J - 1)
    ms_columns = J * ((columns - y.mean()) ** 2).sum() / (K - 1)
    ms_rest = ((y - rows - columns + y.mean()) ** 2).sum() / ((J - 1) * (K - 1))
    return ms_rows, ms_columns, ms_rest


def textbook_interval(y, patients):
    "Interval of the mean from mean squares, with Satterthwaite's degrees of freedom; no component below 0."
    J, K = y.shape
    ms_rows, ms_columns, ms_rest = textbook_components(y)
    rest = ms_rest / (J * K)
    rows, columns = max(ms_rows / (J * K), rest), max(ms_columns / (J * K), rest)
    variance = patients**2 + rows + columns - rest
    spent = rows**2 / (J - 1) + columns**2 / (K - 1) + rest**2 / ((J - 1) * (K - 1))
    df = variance**2 / spent if spent else np.inf
    half = stats.t.ppf(0.975, df) * variance**0.5
    return y.mean() - half, y.mean() + half


tables = st.tuples(st.integers(2, 6), st.integers(2, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.floats(0.25, 1, width=16), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(deadline=None)
@given(tables)
def test_components_of_a_full_table_are_those_of_the_textbook(table):
    y = np.array(table)
    J, K = y.shape
    ms_rows, ms_columns, ms_rest = textbook_components(y)
    want = [max(0, (ms_rows - ms_rest) / K), max(0, (ms_columns - ms_rest) / J), ms_rest]
    assert variance_components(y) == pytest.approx(want, abs=1e-12)


@settings(deadline=None)
@given(tables, st.floats(0.001, 0.1))
def test_intervals_of_a_full_table_are_those_of_the_textbook(table, patients):
    y = np.array(table)
    replicates = y.mean() + patients * np.sqrt(0.5) * np.array([-1, 1])  # their standard deviation is `patients`
    found = three_source_interval(y, replicates)
    assert found.interval == pytest.approx(textbook_interval(y, patients), rel=1e-6, abs=1e-9)
    assert found.spread.patients == pytest.approx(patients) and found.estimate == pytest.approx(y.mean())


def test_without_patients_and_networks_it_is_the_t_interval_of_the_draws():
    y = seeded_rng("t").normal(0.7, 0.05, 12)
    found = three_source_interval(y[:, None], np.full(50, y.mean()), networks=False)
    want = stats.ttest_1samp(y, 0).confidence_interval()
    assert found.interval == pytest.approx((want.low, want.high)) and found.df == pytest.approx(11)
    assert (found.n_draws, found.n_networks, found.reason) == (12, None, "")


def test_with_nothing_drawn_and_no_network_it_is_the_normal_interval_of_the_patients():
    replicates = seeded_rng("normal").normal(0.7, 0.01, 400)
    found = three_source_interval([[0.7]], replicates, drawn=False, networks=False)
    half = stats.norm.ppf(0.975) * replicates.std(ddof=1)
    assert found.interval == pytest.approx((0.7 - half, 0.7 + half)) and found.df == np.inf
    assert (found.n_draws, found.n_networks, found.reason) == (None, None, "")


def test_components_of_a_table_with_gaps_are_unbiased():
    found, kept = [], np.ones((8, 4), bool)
    kept[3:, 1:] = False  # further networks for three of eight draws, and one cell more
    kept[6, 2] = True
    for k in range(4000):
        r = seeded_rng("gaps", k)
        y = r.normal(0, 2, (8, 1)) + r.normal(0, 1, (1, 4)) + r.normal(0, 0.5, (8, 4))
        found.append(_two_way_components(np.where(kept, y - y[kept].mean(), 0), kept))
    error = 4 * np.std(found, axis=0) / 4000**0.5
    assert (abs(np.mean(found, axis=0) - [4, 1, 0.25]) <= error).all()
    y = np.where(kept, y, np.nan)
    assert three_source_interval(y, [0, 1]).estimate == pytest.approx(y[kept].mean())
    assert variance_components(y) == pytest.approx(np.maximum(found[-1], 0))


def test_rows_and_columns_that_were_not_run_do_not_count():
    y = seeded_rng("empty").normal(0.7, 0.05, (6, 3))
    wide = np.full((8, 4), np.nan)
    wide[1:7, 1:] = y
    one, two = (three_source_interval(t, [0.69, 0.70, 0.72]) for t in (y, wide))
    assert one.interval == pytest.approx(two.interval) and (two.n_draws, two.n_networks) == (6, 3)


@pytest.mark.parametrize("shape, drawn, networks", [((1, 3), True, True), ((9, 1), True, True), ((1, 1), True, False)])
def test_a_source_with_one_level_leaves_no_interval(shape, drawn, networks):
    y = seeded_rng("one").normal(0.7, 0.05, shape)
    found = three_source_interval(y, [0.69, 0.7, 0.71], drawn=drawn, networks=networks)
    assert np.isnan([*found.interval, found.se, found.detectable]).all() and found.estimate == pytest.approx(y.mean())
    lacking = "networks" if shape == (9, 1) else "draws"
    assert found.reason == f"inconclusive: too few {lacking}"


def test_enough_draws_and_networks():
    y = seeded_rng("enough").normal(0.7, 0.05, (5, 3))
    v = [0.69, 0.7, 0.71]
    assert three_source_interval(y, v).reason == ""
    assert three_source_interval(y[:, :2], v).reason == "inconclusive: too few networks"
    assert three_source_interval(y[:4, :2], v).reason == three_source_interval(y[:4], v).reason
    assert three_source_interval(y[:4, :1], v, networks=False).reason == "inconclusive: too few draws"
    assert three_source_interval(y[:, :1], v, networks=False).reason == ""
    assert three_source_interval(y[:1], v, drawn=False).reason == ""


def test_a_table_without_a_result_and_undefined_replicates():
    found = three_source_interval(np.full((3, 2), np.nan), np.full(10, np.nan))
    assert np.isnan([found.estimate, *found.interval]).all() and (found.n_draws, found.n_networks) == (0, 0)
    y = seeded_rng("undefined").normal(0.7, 0.05, (5, 3))
    assert np.isnan(three_source_interval(y, [0.7, np.nan, np.nan, 0.6, np.nan]).interval.low)


def test_equal_fits_have_the_interval_of_the_patients():
    replicates = seeded_rng("equal").normal(0.5, 0.01, 300)
    found = three_source_interval(np.full((6, 3), 0.5), replicates)
    assert found.se == pytest.approx(replicates.std(ddof=1)) and found.df == np.inf


# ---------------------------------------------------------------- from predictions


def predictions_of_a_run(seed, subjects=120, n_draws=6, n_networks=3):
    "Labels of stays of which a subject has one to three, and scores with ties for each draw and network."
    r = seeded_rng("predictions", seed)
    subject = np.repeat(np.arange(subjects), r.integers(1, 4, subjects))
    y = (r.random(subjects) < 0.3)[subject].astype(float)
    noise = r.normal(size=subjects)[subject] + r.normal(size=(n_draws, n_networks, len(subject)))
    skill = 0.8 + r.normal(0, 0.3, (n_draws, 1, 1)) + r.normal(0, 0.1, (1, n_networks, 1))
    return subject, y, np.round(skill * y + noise, 1)


@pytest.mark.parametrize("subjects, n_draws, n_networks", [(120, 6, 3), (14, 2, 2)])
def test_the_interval_from_predictions_by_an_independent_recomputation(subjects, n_draws, n_networks):
    subject, y, scores = predictions_of_a_run(0, subjects, n_draws, n_networks)
    weights = Bootstrap(subject, 100).weights
    values = np.array([[auroc(y, p, weights) for p in row] for row in scores])  # (draws, networks, 1 + replicates)
    found = three_source_interval(values[..., 0], values[..., 1:].mean((0, 1)))

    table = np.array([[roc_auc_score(y, p) for p in row] for row in scores])
    resampled = []
    for w in weights[1:]:
        rows = np.repeat(np.arange(len(y)), w.astype(int))
        if len(set(y[rows])) < 2:
            continue
        resampled.append(np.mean([roc_auc_score(y[rows], p[rows]) for row in scores for p in row]))
    assert found.estimate == pytest.approx(table.mean(), abs=1e-12)
    assert found.interval == pytest.approx(textbook_interval(table, np.std(resampled, ddof=1)), abs=1e-9)


# ---------------------------------------------------------------- what a design can find


def test_power_of_the_detectable_difference_is_what_it_says():
    spread, n_draws = SourceSpread(patients=0.004, draws=0.027), 15
    lead, found = detectable_difference(spread, n_draws), 0
    for k in range(2000):
        r = seeded_rng("power", k)
        y = lead + r.normal(0, spread.patients) + r.normal(0, spread.draws, (n_draws, 1))
        replicates = np.array([-1, 1]) * spread.patients * np.sqrt(0.5)
        found += three_source_interval(y, replicates, networks=False).interval.low > 0
    assert 0.77 <= found / 2000 <= 0.83


def test_what_no_number_of_draws_goes_below_by_hand():
    "Patients and networks alone; Satterthwaite's degrees of freedom come from the networks."
    patients, networks = 0.006**2, 0.007**2 / 5
    df = (patients + networks) ** 2 / (networks**2 / 4)
    expected = (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * (patients + networks) ** 0.5
    assert least_difference(MORTALITY, 5) == pytest.approx(expected, rel=1e-9)
    assert expected < detectable_difference(MORTALITY, 100_000, 5) < expected + 1e-4
    assert least_difference(MORTALITY_AT_5, 5) == pytest.approx((1.959964 + 0.841621) * 0.00695, rel=1e-5)


def test_what_a_design_says_of_draws_by_hand():
    "772 draws: patients and networks take nine tenths of the variance that .02 allows."
    allowed, fixed = (0.02 / 2.8016) ** 2, 0.006**2 + 0.007**2 / 5
    assert 0.88 < fixed / allowed < 0.92
    at_least = 0.057**2 / (allowed - fixed)  # with normal quantiles
    assert at_least < draws_needed(0.02, MORTALITY) == 772 < 1.3 * at_least
    said = describe_design(20, 5)
    now = (0.006**2 + 0.057**2 / 20 + 0.007**2 / 5) ** 0.5
    assert "mortality, 2 %: 0.042 now, 0.02 with 772 draws, 0.019 at best" in said
    assert 2.80 * now < 0.042 < 2.95 * now
    assert "mortality, 5 %: 0.025 now, 0.02 with 245 draws, 0.019 at best" in said
    assert "phenotypes, 5 %: 0.022 now, 0.02 with 26 draws, 0.013 at best" in said


def test_a_design_says_what_else_than_draws_is_lacking(monkeypatch):
    "Three networks are too few for .02 at 2 %; a small test set is too small whatever the networks are."
    assert "mortality, 2 %: 0.094 now, 0.021 at best, so 0.02 needs more networks too" in describe_design(5, 3)
    assert " now" not in describe_design(4, 3) and " now" not in describe_design(5, 2)
    monkeypatch.setitem(OBSERVED_SPREADS, "mortality, 2 %", replace(MORTALITY, patients=0.008))
    assert "mortality, 2 %: 0.044 now, 0.024 at best, so 0.02 needs more patients too" in describe_design(20, 5)
    monkeypatch.setitem(OBSERVED_SPREADS, "mortality, 2 %", SourceSpread(patients=0.00713, draws=0.057))
    assert "mortality, 2 %: 0.042 now, 0.02 with more than 2000 draws, 0.020 at best" in describe_design(20, 5)


def test_draws_needed_is_the_smallest_number_that_does():
    for spread in (PHENOTYPES, MORTALITY, MORTALITY_AT_5):
        n = draws_needed(0.03, spread)
        assert detectable_difference(spread, n, 5) <= 0.03 < detectable_difference(spread, n - 1, 5)
    assert draws_needed(0.2, PHENOTYPES) == 5
    assert draws_needed(0.02, MORTALITY, n_networks=3) is None
    assert 25 <= draws_needed() <= 30


# ---------------------------------------------------------------- coverage


@pytest.mark.parametrize("name, n_draws", [("mortality", 5), ("phenotypes", 10), ("no network", 20)])
def test_intervals_cover(name, n_draws):
    found = component_coverage(CASES[name], n_draws, 1 if name == "no network" else 3, repetitions=400, seed="test")
    assert 0.917 <= found.three_sources <= 0.983  # three standard errors of 400 repetitions
    assert found.patients_only < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("n_draws", [5, 10, 20, 50])
@pytest.mark.parametrize("name, n_networks", [(n, k) for n in CASES for k in ((1,) if n == "no network" else (3, 5))])
def test_intervals_cover_over_a_thousand_repetitions(name, n_networks, n_draws):
    found = component_coverage(CASES[name], n_draws, n_networks, repetitions=1000, seed=0)
    assert 0.93 <= found.three_sources <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n_draws, least", [(5, 0.6), (10, 0.85), (20, 0.91), (50, 0.92)])
def test_null_models_need_more_draws(n_draws, least):
    "One draw in five leaves a null model: few draws may show none of them, and then the interval is too narrow."
    found = component_coverage(replace(MORTALITY, draws=0.02), n_draws, 3, 0.2, repetitions=1000)
    assert least <= found.three_sources <= 0.97


@pytest.mark.slow
def test_intervals_of_invented_predictions_cover():
    "From scores to the interval: subjects with several stays, a new cohort of patients, draws and networks each time."
    hits, n_networks, n_draws = 0, 3, 6
    for k in range(1000):
        subject, y, scores = predictions_of_a_run(k, 200, n_draws, n_networks)
        weights = Bootstrap(subject, 100, k).weights
        values = np.array([[auroc(y, p, weights) for p in row] for row in scores])
        found = three_source_interval(values[..., 0], values[..., 1:].mean((0, 1)))
        hits += found.interval.low <= TRUTH <= found.interval.high
    assert 0.93 <= hits / 1000 <= 0.97


# Expected AUROC of `predictions_of_a_run`: two scores of other subjects differ by a normal variable with variance 4.
TRUTH = stats.norm.cdf(0.8 / np.sqrt(4 + 0.3**2 + 0.1**2))


@pytest.mark.slow
def test_intervals_for_other_tasks_cover():
    hits, n_tasks = 0, 10
    for k in range(1000):
        r = seeded_rng("tasks", k)
        tasks, patients = r.normal(0, 0.03, (n_tasks, 1, 1)), r.normal(0, 0.01, (n_tasks, 1, 1))
        y = tasks + patients + r.normal(0, 0.06, (n_tasks, 8, 1)) + r.normal(0, 0.01, (n_tasks, 1, 3))
        y = y + r.normal(0, 0.02, (n_tasks, 8, 3))
        replicates = y.mean((1, 2))[:, None] + r.normal(0, 0.01, (n_tasks, 200))
        found = three_source_interval(y, replicates, random_tasks=True)
        hits += found.interval.low <= 0 <= found.interval.high
    assert 0.93 <= hits / 1000 <= 0.97


# ---- one AUROC near 1


@given(st.floats(0.5, 0.999), st.floats(0.0001, 0.1), st.integers(2, 20))
@settings(deadline=None, max_examples=50)
def test_the_interval_of_one_auroc_stays_between_0_and_1(level, sd, n_draws):
    rng = seeded_rng("near one", level, sd, n_draws)
    table = np.clip(level + rng.normal(0, sd, (n_draws, 3)), 0, 1)
    plain = three_source_interval(table, rng.normal(table.mean(), sd / 3, 50))
    found = logit_interval(plain)
    assert 0 <= found.interval.low <= found.estimate <= found.interval.high <= 1
    assert replace(found, interval=plain.interval) == plain  # nothing else changes


def test_the_ends_are_those_of_the_tangent_at_the_logit():
    plain = three_source_interval([[0.96, 0.97], [0.98, 0.99], [0.985, 0.99]], np.array([0.975, 0.98, 0.985]))
    a, half = plain.estimate, plain.interval.high - plain.estimate
    want = [expit(logit(a) + sign * half / (a * (1 - a))) for sign in (-1, 1)]
    assert plain.interval.high > 1 > want[1]
    assert logit_interval(plain).interval == pytest.approx(tuple(want))
    certain = three_source_interval(np.ones((3, 2)), np.ones(10))
    assert logit_interval(certain).interval == (1, 1)
    unknown = three_source_interval([[0.9]], [0.9, 0.9])
    assert np.isnan(logit_interval(unknown).interval.low)


def test_near_one_the_logit_scale_covers_as_often_as_it_says():
    n, hits, rng = 400, np.zeros(2), seeded_rng("coverage near one")
    spread = (0.8**2 + 2 * 0.3**2) ** 0.5
    truth = expit(logit(0.98) + spread * rng.normal(size=200_000)).mean()
    for _ in range(n):
        fits = rng.normal(0, 0.8, (10, 1)) + rng.normal(0, 0.3, (1, 5)) + rng.normal(0, 0.3)
        table = expit(logit(0.98) + fits)
        plain = three_source_interval(table, expit(logit(table.mean()) + rng.normal(0, 0.3, 100)))
        hits += [low <= truth <= high for low, high in (plain.interval, logit_interval(plain).interval)]
    plain, on_logits = hits / n
    assert on_logits > plain
    assert 0.92 <= on_logits <= 0.98
