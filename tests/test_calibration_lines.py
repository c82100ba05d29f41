"Intervals of calibration by one Newton step: compared with repeated fits, and how often they hold the slope."

import numpy as np
import pytest
from scipy.special import expit

from rnn_transfer.evaluation.calibration_lines import calibration_replicates
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.measures import calibration_line

SLOPE, INTERCEPT = 0.8, -0.65  # about one stay in ten is positive


def invent_test_set(n, rng):
    "Labels, predictions that are too extreme, and 300 bootstrap weights after a row of ones."
    x = rng.normal(-2.2, 1.0, n)
    y = (rng.random(n) < expit(INTERCEPT + SLOPE * x)).astype(float)
    drawn = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(300)]
    return y, expit(x), np.stack([np.ones(n), *drawn])


def test_the_estimate_is_the_fit_and_replicates_follow_repeated_fits():
    y, p, weights = invent_test_set(3000, np.random.default_rng(1))
    found = calibration_replicates([y], [p], weights)[0]
    again = [calibration_line(np.repeat(y, w), np.repeat(p, w)) for w in weights[:40].astype(int)]
    assert (found.intercept[0], found.slope[0]) == pytest.approx((again[0].intercept, again[0].slope), abs=1e-9)
    assert found.slope[:40] == pytest.approx([line.slope for line in again], abs=0.02)
    assert found.intercept[:40] == pytest.approx([line.intercept for line in again], abs=0.02)


def test_a_replicate_of_one_class_has_no_line():
    y, p = np.array([0, 1, 0, 1, 0, 0, 1, np.nan]), np.array([0.1, 0.3, 0.4, 0.2, 0.1, 0.6, 0.7, 0.5])
    weights = np.array([[1] * 8, [2, 0, 2, 0, 2, 1, 0, 1], [0, 3, 0, 3, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]], float)
    found = calibration_replicates([y], [p], weights)[0]
    assert np.isnan(found.slope).tolist() == np.isnan(found.intercept).tolist() == [False, True, True, False]
    assert found.slope[3] == pytest.approx(found.slope[0], abs=1e-6)


@pytest.mark.parametrize("n", [200, 500])  # about 20 and 50 positives
def test_intervals_hold_the_slope(n):
    rng = np.random.default_rng(n)
    n_held = 0
    for _ in range(200):
        y, p, weights = invent_test_set(n, rng)
        low, high, _ = percentile_interval(calibration_replicates([y], [p], weights)[0].slope)
        n_held += low <= SLOPE <= high
    assert 0.90 <= n_held / 200 <= 0.99  # .95, less three standard errors of 200 sets


def test_invented_sets_have_one_positive_in_ten():
    x = np.random.default_rng(0).normal(-2.2, 1.0, 200_000)
    assert expit(INTERCEPT + SLOPE * x).mean() == pytest.approx(0.1, abs=0.02)
