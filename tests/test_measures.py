"Intervals and measures: results with names, reasons where a number is missing, and imports that cost little."

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from rnn_transfer.evaluation.intervals import Interval, as_row, percentile_interval, wilson_interval
from rnn_transfer.evaluation.measures import (
    METRICS,
    Bootstrap,
    auprc,
    auroc,
    brier,
    calibration_line,
    evaluate_predictions,
    reliability_curve,
)
from rnn_transfer.utilities.seeds import seeded_rng

# ---------------------------------------------------------------- intervals


class Estimate(NamedTuple):
    value: float
    interval: Interval
    n: int


def test_an_interval_becomes_two_columns_where_it_stands():
    row = as_row(Estimate(0.5, Interval(0.25, 0.75), 10))
    assert list(row.items()) == [('value', 0.5), ('low', 0.25), ('high', 0.75), ('n', 10)]


@pytest.mark.parametrize('n_undefined', [0, 49, 50, 51, 100])
def test_there_is_an_interval_while_half_of_the_replicates_are_defined(n_undefined):
    values = np.r_[0.5, np.linspace(0, 1, 100 - n_undefined), [np.nan] * n_undefined]
    found = percentile_interval(values)
    assert found.n_undefined == n_undefined
    assert np.isnan([found.low, found.high]).tolist() == [n_undefined > 50] * 2


def test_the_estimate_is_no_replicate():
    assert percentile_interval([9.0, 1.0, 1.0, 1.0]) == (1, 1, 0)
    assert np.isnan(percentile_interval([0.5]).low)


def test_a_lower_level_gives_a_narrower_interval():
    values = seeded_rng('level').random(500)
    for interval in (lambda level: percentile_interval(values, level), lambda level: wilson_interval(3, 10, level)):
        wide, narrow = interval(0.95), interval(0.8)
        assert wide.low < narrow.low < narrow.high < wide.high


# ---------------------------------------------------------------- measures


def test_without_a_label_nothing_is_defined():
    y, p = np.full(5, np.nan), np.full(5, 0.3)
    assert np.isnan([measure(y, p) for measure in (auroc, auprc, brier)]).all()
    assert calibration_line(y, p).reason == 'calibration: one class in the test set'


def test_one_set_of_weights_gives_a_number_and_several_give_an_array():
    r = seeded_rng('weights')
    y, p, w = r.integers(0, 2, 30), r.random(30), r.integers(0, 3, (4, 30))
    for measure in (auroc, auprc, brier):
        assert isinstance(measure(y, p), float) and isinstance(measure(y, p, w[0]), float)
        assert measure(y, p, w).tolist() == pytest.approx([measure(y, p, row) for row in w])


def test_the_first_column_of_a_bootstrap_is_the_cohort_itself():
    r = seeded_rng('first column')
    y, p = r.integers(0, 2, 40), r.random(40)
    measured = Bootstrap(np.arange(40) // 2, 10).measure(y, p)
    assert tuple(measured) == METRICS
    assert [v[0] for v in measured.values()] == pytest.approx([auroc(y, p), auprc(y, p), brier(y, p)])


def test_reasons_name_what_is_missing_first_and_calibration_after_it():
    bootstrap = Bootstrap(np.arange(4), 20)
    p = np.array([0.2, 0.4, 0.6, 0.8])
    reason = evaluate_predictions(np.ones(4), p, bootstrap).row['reason']
    assert reason == 'auroc, auprc: one class in the test set; calibration: one class in the test set'
    reason = evaluate_predictions(np.array([0, 1, 0, 1]), p, bootstrap).row['reason']
    assert reason == 'intervals: fewer than 5 positives in the test set'
    y, p = np.tile([0, 1, 1, 0], 5), np.arange(20) / 20
    assert evaluate_predictions(y, p, Bootstrap(np.arange(20), 20)).row['reason'] is None
    y = (np.arange(20) > 14).astype(float)
    reason = evaluate_predictions(y, p, Bootstrap(np.arange(20), 20)).row['reason']
    assert reason == 'calibration slope: the predictions separate the classes, ties aside'


@pytest.mark.parametrize('n_positive', [1, 4, 5])
def test_fewer_than_five_positives_have_no_interval(n_positive):
    y = (np.arange(40) < n_positive).astype(float)
    row = evaluate_predictions(y, np.random.default_rng(0).random(40), Bootstrap(np.arange(40), 50)).row
    assert 0 < row['auroc'] < 1
    assert np.isfinite([row['auroc_low'], row['auprc_high'], row['brier_low']]).all() == (n_positive == 5)


def test_an_interval_that_is_missing_is_explained_after_calibration():
    y, p = np.tile([1, 0, 1, 0], 3), np.tile([0.9, 0.6, 0.6, 0.4], 3)
    positives_alone = Bootstrap(np.arange(12), replicates=4)
    weights = np.vstack([np.ones(12), np.tile(y, (4, 1))]).astype(np.float32)
    positives_alone.weights, positives_alone._blocks = weights, [weights.T]
    measured = evaluate_predictions(y, p, positives_alone)
    separated = 'calibration slope: the predictions separate the classes, ties aside'
    assert measured.row['reason'] == f'{separated}; intervals: 4 of 4 replicates have one class'
    assert measured.row['n_undefined'] == 4 and np.isnan(measured.row['auroc_low'])
    assert not np.isnan(measured.row['brier_low'])


def test_a_curve_of_no_predictions_has_no_bins():
    curve = reliability_curve([(np.full(3, np.nan), np.full(3, 0.5))], np.ones((2, 3)))
    assert list(curve) == ['said', 'seen', 'low', 'high', 'n'] and len(curve) == 0


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize(
    'module', ['intervals', 'formats', 'run_folder', 'measures', 'results', 'delong', 'comparisons', 'label_efficiency']
)
def test_imports_are_cheap(module):
    code = (
        f'import sys; import rnn_transfer.evaluation.{module}; '
        'print(*({"torch", "sklearn", "matplotlib", "scipy.stats", "scipy.sparse", "dask"} & set(sys.modules)))'
    )
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert found.split() == []
