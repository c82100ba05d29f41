"Eq. (2) against two other solvers and its own conditions, and the transfer step against leaks, poison and chance."

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rnn_transfer import transfer
from rnn_transfer.data import PreparedCohort, run_data
from rnn_transfer.learning import linear, multitask, recurrent
from rnn_transfer.learning.features import model_features
from rnn_transfer.learning.few_labels import fit_few_labels
from rnn_transfer.learning.fine_grid import FINE_CRITERIA, fit_fine_grid
from rnn_transfer.learning.fits import FitRequest, LabelledRows, labelled_rows, reason_not_fittable, visible_labels
from rnn_transfer.learning.l1_logistic import (
    LAMBDAS,
    NEAR_ZERO,
    L1LogisticFit,
    fit_intercept,
    l1_logistic_path,
    lambda_max,
    negative_log_likelihood,
)
from rnn_transfer.learning.linear import Standardizer, choose_lambda, fit_linear, fit_linear_cv, subject_folds
from rnn_transfer.learning.multitask import multitask_labels
from rnn_transfer.learning.outputs import TABLE_COLUMNS, TransferTables, write_tables
from rnn_transfer.learning.recurrent import fit_recurrent
from rnn_transfer.learning.systems import SYSTEM_NAMES, SYSTEMS, SystemId, describe_system, parse_model
from rnn_transfer.learning.training import Diverged, TrainSettings
from rnn_transfer.learning.trees import fit_trees
from rnn_transfer.model import extract_features, init_network, load_checkpoint, run_model
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

PRETRAINED = TrainSettings(lr=0.02, max_updates=6, eval_every=3, device='cpu')
TABLES = ('predictions', 'fits', 'weights', 'path')
QUICK = TrainSettings(lr=0.02, max_updates=4, eval_every=2, patience=2, device='cpu')
VARIED = [
    'LR:literal',
    'LR:cv',
    'MN-LR-2:literal',
    'MN-LR-2:cv',
    'MN-LR-2:full-val',
    'RNN-C:full-val',
    'MN-FT:full-val',
    'GBT:full-val',
    'multi-task:full-val',
    'shuffled-MN-LR-2:full-val',
    'MN-LR-2@1',
    'untrained-LR-1@1',
    'MN-FT@1',
    'MN-LR-2:cv@1',
    'LR:fine',
    'MN-LR-2:ridge@1',
]
ALL = SYSTEM_NAMES + VARIED


def objective(Z, y, w, b, lam):
    "Eq. (2), stay by stay, written out a second time."
    return sum(np.logaddexp(0, -e if label else e) for e, label in zip(Z @ w + b, y)) + lam * np.abs(w).sum()


def minimum(Z, y, lam):
    "The minimum of eq. (2) by L-BFGS-B over w = u - v with u, v >= 0."
    m = Z.shape[1]

    def f(x):
        eta = Z @ (x[:m] - x[m : 2 * m]) + x[-1]
        r = expit(eta) - y
        return np.logaddexp(0, eta).sum() - y @ eta + lam * x[:-1].sum(), np.r_[Z.T @ r + lam, lam - Z.T @ r, r.sum()]

    return minimize(
        f,
        np.zeros(2 * m + 1),
        jac=True,
        method='L-BFGS-B',
        bounds=[(0, None)] * (2 * m) + [(None, None)],
        options=dict(maxiter=20_000, maxfun=40_000, ftol=1e-15, gtol=1e-9),
    ).fun


def problem(n, m, seed=0, kind='plain'):
    "Features and labels: plain, collinear (as statistics are), copies, or wild."
    r = np.random.default_rng(seed)
    Z = r.normal(size=(n, m))
    if kind == 'collinear':
        Z = r.normal(size=(n, 3)) @ r.normal(size=(3, m)) + 0.02 * Z
    if kind == 'copies':
        Z = Z[:, r.integers(max(m // 2, 1), size=m)]
    if kind == 'wild':
        Z = np.exp(2 * Z)
    s = Z.std(0)
    Z = (Z - Z.mean(0)) / np.where(s > 1e-9, s, 1)
    y = (r.random(n) < expit(2 * Z[:, 0] - 1)).astype(float)
    y[:2] = 0, 1
    return Z, y


kinds = st.sampled_from(['plain', 'collinear', 'copies', 'wild'])


# The objective


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(4, 80),
    m=st.integers(1, 40),
    seed=st.integers(0, 999),
    kind=kinds,
    lam=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_minimum_is_that_of_lbfgsb(n, m, seed, kind, lam):
    Z, y = problem(n, m, seed, kind)
    f = l1_logistic_path(Z, y, [lam])[0]
    assert f.objective <= minimum(Z, y, lam) * (1 + 1e-6)
    assert f.objective == pytest.approx(objective(Z, y, f.coef, f.intercept, lam), rel=1e-9) and f.converged


@pytest.mark.parametrize('kind, lams', [('plain', [100.0, 10.0, 1.0]), ('collinear', [100.0, 10.0])])
def test_minimum_is_that_of_saga(kind, lams):
    Z, y = problem(300, 20, 3, kind)
    for f in l1_logistic_path(Z, y, lams):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            s = LogisticRegression(
                l1_ratio=1.0, C=1 / f.lam, solver='saga', tol=1e-10, max_iter=20_000, random_state=0
            ).fit(Z, y)
        saga = objective(Z, y, s.coef_[0], s.intercept_[0], f.lam)
        assert f.objective <= saga * (1 + 1e-7) and saga == pytest.approx(
            f.objective, rel=1e-4
        )  # saga creeps along the intercept
        np.testing.assert_allclose(f.logits(Z), s.decision_function(Z), atol=2e-2)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(4, 60), m=st.integers(1, 60), seed=st.integers(0, 999), kind=kinds)
def test_the_conditions_of_a_minimum_hold_along_the_path(n, m, seed, kind):
    Z, y = problem(n, m, seed, kind)
    path = l1_logistic_path(Z, y)
    assert [f.lam for f in path] == sorted(LAMBDAS, reverse=True)
    for f in path:
        slope = Z.T @ (y - expit(f.logits(Z)))
        assert f.converged and abs((y - expit(f.logits(Z))).sum()) < 1e-8 * n  # the intercept is free
        assert np.abs(slope).max() <= f.lam * (1 + 1e-3)
        # the gap bounds what a single weight can be off by
        assert (np.abs(slope - f.lam * np.sign(f.coef))[np.abs(f.coef) > 0.1] <= f.lam * 1e-2).all()
        assert f.n_near_zero == sum(abs(w) < NEAR_ZERO for w in f.coef)
    assert np.all(np.diff([f.nll for f in path]) <= 1e-6 * path[0].nll)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 60), m=st.integers(1, 30), seed=st.integers(0, 999), kind=kinds)
def test_all_weights_are_zero_from_lambda_max_on_and_not_below(n, m, seed, kind):
    Z, y = problem(n, m, seed, kind)
    top = lambda_max(Z, y)
    at, below = l1_logistic_path(Z, y, [top * (1 + 1e-12), top * 0.97])
    assert not at.coef.any() and at.steps == 0 and expit(at.intercept) == pytest.approx(y.mean(), abs=1e-12)
    assert below.coef.any()


def test_the_gap_bounds_the_error():
    Z, y = problem(200, 30, 1, 'collinear')
    best = l1_logistic_path(Z, y, [1.0], tol=1e-12)[0].objective
    for tol in (1e-1, 1e-2, 1e-4):
        f = l1_logistic_path(Z, y, [1.0], tol=tol)[0]
        assert 0 <= f.objective / best - 1 <= f.gap <= tol
    loose = l1_logistic_path(Z, y, [1.0], max_steps=1)[0]
    assert not loose.converged and loose.objective / best - 1 <= loose.gap


@pytest.mark.slow
@pytest.mark.parametrize(
    'n, m, kind', [(3200, 600, 'plain'), (3200, 714, 'collinear'), (32, 714, 'collinear'), (4000, 600, 'plain')]
)
def test_realistic_shapes_are_certified(n, m, kind):
    assert all(f.converged for f in l1_logistic_path(*problem(n, m, 0, kind)))


# The intercept


def test_shifting_and_scaling_features_changes_no_probability():
    Z, y = problem(150, 6, 2)
    F = Z * [1, 2, 30, 0.5, 4, 1] + [100, -3, 0, 7, 1000, 5]
    s = Standardizer.fit(F)
    for a, b, c in zip(l1_logistic_path(Z, y), l1_logistic_path(s.transform(F), y), l1_logistic_path(Z + 3, y)):
        np.testing.assert_allclose(expit(a.logits(Z)), expit(b.logits(s.transform(F))), atol=1e-4)
        np.testing.assert_allclose(expit(a.logits(Z)), expit(c.logits(Z + 3)), atol=2e-3)
        assert a.objective == pytest.approx(c.objective, rel=1e-6)


def test_liblinear_penalises_the_intercept_and_is_worse():
    Z, y = problem(150, 6, 2)
    y[:] = 0
    y[:9] = 1
    best = l1_logistic_path(Z, y, [10.0])[0]
    lib = LogisticRegression(l1_ratio=1.0, C=1 / 10, solver='liblinear', tol=1e-8).fit(Z, y)
    assert objective(Z, y, lib.coef_[0], lib.intercept_[0], 10.0) > 1.01 * best.objective
    assert abs(expit(best.logits(Z)).sum() - 9) < 1e-6 < abs(lib.predict_proba(Z)[:, 1].sum() - 9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-300, 300), min_size=2, max_size=20), st.integers(0, 99))
def test_intercept_balances_any_logits(eta, seed):
    eta, y = np.array(eta), (np.random.default_rng(seed).random(len(eta)) < 0.4).astype(float)
    y[:2] = 0, 1
    b = fit_intercept(eta, y)

    def f(b):
        return negative_log_likelihood(eta + b, y)

    assert f(b) <= min(f(b - 0.01), f(b + 0.01)) + 1e-9


@pytest.mark.parametrize(
    'Z, y, lams, message',
    [
        (np.ones((3, 1)), [0, 0, 0], [1.0], 'both 0 and 1'),
        (np.ones((3, 1)), [0, 1, 2], [1.0], 'both 0 and 1'),
        (np.array([[1.0], [np.nan], [0]]), [0, 1, 0], [1.0], 'missing'),
        (np.ones((2, 1)), [0, 1], [], 'lambdas'),
        (np.ones((2, 1)), [0, 1], [0.0], 'positive'),
    ],
)
def test_what_cannot_be_fitted_is_rejected(Z, y, lams, message):
    with pytest.raises(BadInput, match=message):
        l1_logistic_path(Z, np.array(y), lams)


# Lambda


def fake(lam, w):
    return L1LogisticFit(lam, np.array([w]), 0.0, 0.0, 0.0, 0.0, 0, True)


def test_lambda_by_validation_loss_ties_to_the_sparser():
    Z, y = np.array([[1.0], [-1.0]]), np.array([1.0, 0.0])
    assert choose_lambda([fake(10, 0.0), fake(1, 0.5), fake(0.1, 3.0)], Z, y).lam == 0.1
    assert choose_lambda([fake(10, 0.0), fake(1, 0.5), fake(0.1, 3.0)], Z, 1 - y).lam == 10
    assert choose_lambda([fake(1000, 0.0), fake(100, 0.0), fake(10, -1.0)], Z, y).lam == 1000
    assert choose_lambda([fake(10, 0.0), fake(1, 1.0), fake(0.1, 3.0)], Z, y, literal=True).lam == 0.1
    assert choose_lambda([fake(10, 0.0), fake(1.5, 3.0)], Z, y, literal=True).lam == 10
    assert choose_lambda([fake(10, 0.0), fake(1, 0.5)], Z[:1], y[:1]).lam == 1  # one class in validation


def test_choice_decides_what_is_predicted():
    Z, y = problem(120, 10, 5)
    rows = LabelledRows(np.arange(60), np.arange(60, 90), np.arange(90, 120))
    for choose in ('nll', 'literal'):
        f = fit_linear(Z, y, rows, LAMBDAS, choose)
        lam = f.info['lambda']
        want = next(x for x in l1_logistic_path(Z[:60], y[:60]) if x.lam == lam)
        np.testing.assert_array_equal(f.p, expit(want.logits(Z[90:])))
    assert {'lambda', 'lambda_literal', 'n_features', 'n_near_zero'} <= set(f.info)


# Features


def test_standardiser_by_hand():
    nan = np.nan
    F = np.array([[1.0, nan, 5, 2], [3, nan, 5, nan], [nan, nan, 5, 2]], np.float32)
    s = Standardizer.fit(F)
    assert s.kept.tolist() == [True, False, False, False]
    np.testing.assert_allclose(s.mean, [2]), np.testing.assert_allclose(s.std, [(2 / 3) ** 0.5])
    np.testing.assert_allclose(s.transform(np.array([[nan, 1, 1, 1], [4, nan, nan, nan]])), [[0], [2 / (2 / 3) ** 0.5]])


def test_a_skewness_that_is_0_but_for_rounding_sends_no_stay_far_away():
    few = pd.DataFrame(dict(a=[0.1, 0.2, 0.30], b=[0.7, 0.1, 0.4])).T.to_numpy()
    pairs = np.array([skew([x, x + 0.1]) for x in np.arange(1, 40) / 7])  # 0 by hand, and by scipy only nearly
    assert pairs.any() and np.abs(pairs).max() < 1e-6
    F = np.c_[np.arange(39.0), pairs]
    s = Standardizer.fit(F)
    assert s.kept.tolist() == [True, False]
    assert np.abs(s.transform(np.c_[[3.0, 4], skew(few, axis=1)])).max() < 40


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A toy run up to pre-training."
    run = tmp_path_factory.mktemp('run')
    run_data(toy_cohort(), run)
    run_model(run, [3, 4])
    run_pretrain(run, n_held_out=2, hidden=[3, 4], settings=PRETRAINED, inits=1)
    return run


def copy_of(run, to):
    shutil.copytree(run, to, ignore=shutil.ignore_patterns('fraction-*'))
    return to


def out(run, fraction=1.0, seed=0):
    return Path(run) / 'split-0' / f'fraction-{fraction:g}' / f'seed-{seed}'


def tables(run, *key):
    return {t: pd.read_parquet(out(run, *key) / f'{t}.parquet') for t in TABLES}


@pytest.fixture(scope='module')
def done(run):
    run_transfer(run, fraction=0.5, models=ALL, settings=QUICK)
    return tables(run, 0.5)


def test_layers_of_each_network(run):
    data = PreparedCohort.load(run)
    about = json.loads((run / 'split-0/pretrain/split.json').read_text())
    h = about['hidden']
    for name, path in (
        ('MN', 'split-0/pretrain/mimic-net'),
        ('no-removal', 'split-0/pretrain/no-removal'),
        ('untrained', f'model/h-{h}'),
    ):
        z = extract_features(load_checkpoint(run / f'{path}.safetensors'), np.array(data.X), np.array(data.lengths))
        one, two = model_features(run, 0, data, f'{name}-LR-1'), model_features(run, 0, data, f'{name}-LR-2')
        np.testing.assert_array_equal(two[0], z)
        np.testing.assert_array_equal(one[0], z[:, z.shape[1] // 2 :])
        assert two[1][-1] == one[1][-1] and one[1][0] == 'z2[0]' and two[1][0] == 'z1[0]'
    np.testing.assert_array_equal(model_features(run, 0, data, 'LR')[0], data.statistics)


def test_features_do_not_change_with_fraction_or_seed_and_follow_the_weights(run, done, tmp_path):
    cached = {p.name: p.read_bytes() for p in (run / 'split-0/features').iterdir()}
    assert len(cached) == 8  # MIMIC-Net and its start, two times, and four variants
    run_transfer(run, fraction=0.3, seed=1, models=['MN-LR-1', 'untrained-LR-2', 'no-removal-LR-1'], settings=QUICK)
    assert cached == {p.name: p.read_bytes() for p in (run / 'split-0/features').iterdir()}
    other = copy_of(run, tmp_path / 'other')
    run_pretrain(other, n_held_out=2, hidden=[3, 4], settings=replace(PRETRAINED, max_updates=3))
    run_transfer(other, models=['MN-LR-1'], settings=QUICK)
    assert len(list((other / 'split-0/features').iterdir())) > 8  # new weights, new files


# What is written


def kind(m):
    return parse_model(m).definition.kind


def test_every_system_predicts_every_test_stay(run, done):
    data, p, f, w = PreparedCohort.load(run), done['predictions'], done['fits'], done['weights']
    target = json.loads((run / 'split-0/pretrain/split.json').read_text())['target']
    assert f['task'].unique().tolist() == target + ['Mortality'] and f['reason'].isna().all()
    assert f.groupby('task')['model'].apply(list).map(lambda m: m == ALL).all()
    test = data.stays.iloc[data.rows('test')]
    for (task, _), q in p.groupby(['task', 'model']):
        assert (
            q['stay_id'].tolist() == sorted(test['stay_id'])
            and q['p'].between(0, 1).all()
            and q['p'].dtype == np.float32
        )
        np.testing.assert_array_equal(q['y'], test.sort_values('stay_id')[task])
    linear = f[[kind(m) == 'linear' for m in f['model']]]
    assert (
        (linear['lambda'].isin(LAMBDAS) | linear['model'].str.contains(':fine|:ridge')).all()
        and (linear['lambda_literal'].isin(LAMBDAS) | linear['model'].str.contains(':cv|:fine|:ridge')).all()
        and (linear['gap'] <= 1e-7).all()
    )
    count = w.groupby(['task', 'model'])['weight'].agg(['size', lambda x: (x.abs() < NEAR_ZERO).sum()])
    assert (
        linear.set_index(['task', 'model'])[['n_features', 'n_near_zero']].to_numpy()
        == count.loc[list(zip(linear['task'], linear['model']))].to_numpy()
    ).all()
    rnn = f[[kind(m) in ('recurrent', 'multi-task') for m in f['model']]]
    assert rnn['lambda'].isna().all() and rnn['hidden'].notna().all() and f['seconds'].notna().all()
    of_paper = ~done['path']['model'].str.contains(':fine|:ridge')
    assert set(done['path']['lambda'][of_paper]) == set(LAMBDAS) and done['path']['converged'].all()


def test_weights_give_the_predictions_back(run, done):
    data = PreparedCohort.load(run)
    F, names = model_features(run, 0, data, 'MN-LR-2')
    train = F[data.rows('train')].astype(float)
    Z = (F - train.mean(0)) / train.std(0)
    w = (
        done['weights']
        .query("task == 'Mortality' and model == 'MN-LR-2'")
        .set_index('feature')['weight']
        .reindex(names)
        .fillna(0)
        .to_numpy()
    )
    q = done['predictions'].query("task == 'Mortality' and model == 'MN-LR-2'")
    at = pd.Index(data.stays['stay_id']).get_indexer(q['stay_id'])
    logit = np.log(q['p'] / (1 - q['p'])).to_numpy(float) - Z[at] @ w
    assert np.ptp(logit) < 1e-3  # what is left is the intercept


def test_subsets_are_those_of_the_counts(run, done):
    data = PreparedCohort.load(run)
    for f in done['fits'].to_dict('records'):
        rows = labelled_rows(data, f['task'], 0.5, 0, full_val=':full-val' in f['model'])
        y = data.stays[f['task']]
        assert (f['n_train'], f['n_val'], f['n_positive'], f['n_val_positive']) == (
            len(rows.train),
            len(rows.val),
            y.iloc[rows.train].sum(),
            y.iloc[rows.val].sum(),
        )


@settings(max_examples=20, deadline=None)
@given(a=st.floats(0.01, 1), b=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_subsets_are_nested_and_stratified(run, a, b, seed):
    data = PreparedCohort.load(run)
    small, large = (labelled_rows(data, 'Mortality', f, seed) for f in sorted((a, b)))
    y = data.stays['Mortality'].to_numpy()
    for partition, few, many in (('train', small.train, large.train), ('val', small.val, large.val)):
        rows = data.rows(partition)
        assert set(few) <= set(many) <= set(rows)
        for label in (0, 1):
            assert abs((y[many] == label).sum() - max(a, b) * (y[rows] == label).sum()) <= 0.5 + 1e-9
    np.testing.assert_array_equal(small.test, data.rows('test'))


# Nobody sees what is not theirs


def poisoned(run, to, change):
    "A copy of the run whose prepared stays or grid were changed."
    copy_of(run, to)
    stays, X = pd.read_parquet(to / 'data/stays.parquet'), np.load(to / 'data/grid.npy')
    change(PreparedCohort.load(run), stays, X)
    stays.to_parquet(to / 'data/stays.parquet', index=False)
    np.save(to / 'data/grid.npy', X)
    return to


def same(a, b, what=('task', 'model', 'stay_id', 'p')):
    pd.testing.assert_frame_equal(a['predictions'][list(what)], b['predictions'][list(what)], check_exact=True)


def test_rnnc_sees_nothing_outside_its_subset(run, tmp_path):
    def change(data, stays, X):
        rows = labelled_rows(data, 'Mortality', 0.5, 0)
        outside = np.setdiff1d(np.arange(len(X)), np.concatenate(list(rows)))
        X[outside] = 99.0
        unlabelled = stays.index[outside]
        stays.loc[unlabelled, [t.name for t in data.tasks if t.name != 'Mortality']] = (
            1.0 - stays.loc[unlabelled, [t.name for t in data.tasks if t.name != 'Mortality']]
        )

    other = poisoned(run, tmp_path / 'other', change)
    a, b = (run_and_read(r, fraction=0.5, models=['RNN-C']) for r in (copy_of(run, tmp_path / 'plain'), other))

    def pick(t):
        return {'predictions': t['predictions'].query("task == 'Mortality'").reset_index(drop=True)}

    same(pick(a), pick(b))


def run_and_read(run, fraction=1.0, seed=0, **k):
    run_transfer(run, fraction=fraction, seed=seed, **(dict(settings=QUICK) | k))
    return tables(run, fraction, seed)


def test_no_fit_reads_a_label_outside_its_rows(run):
    data = PreparedCohort.load(run)
    rows, y = labelled_rows(data, 'Mortality', 0.5, 0), data.stays['Mortality'].to_numpy()
    blind = np.full(len(y), np.nan)
    blind[rows.labelled] = y[rows.labelled]
    F, _ = model_features(run, 0, data, 'MN-LR-2')
    Z = Standardizer.fit(F[data.rows('train')]).transform(F)
    np.testing.assert_array_equal(fit_linear(Z, y, rows).p, fit_linear(Z, blind, rows).p)

    def recurrent(y):
        return fit_recurrent(data, {'': FitRequest(y, rows)}, [init_network(len(data.columns), 3, 1)], QUICK)[''].p

    np.testing.assert_array_equal(recurrent(y), recurrent(blind))


def test_recurrent_fits_keep_the_auroc_of_their_own_stays(run, monkeypatch):
    data = PreparedCohort.load(run)
    rows, y = labelled_rows(data, 'Mortality', 0.5, 0), data.stays['Mortality'].to_numpy(float)
    passes, predict = [], recurrent.predict_probabilities

    def counted(net, X, lengths=None, batch=512):
        passes.append(len(X))
        return predict(net, X, lengths, batch)

    monkeypatch.setattr(recurrent, 'predict_probabilities', counted)
    net, request = init_network(len(data.columns), 3, 1), FitRequest(visible_labels(y, rows), rows)
    found = fit_recurrent(data, {'': request, 'full-val': request}, [net], QUICK)
    assert passes == [len(rows.test), len(rows.labelled)]  # one pass more, and one update answers twice
    np.testing.assert_array_equal(found[''].p, predict(net, data.X[rows.test], data.lengths[rows.test])[:, 0])
    for name, part in (('auroc_train', rows.train), ('auroc_val', rows.val)):
        p = predict(net, data.X[part], data.lengths[part])[:, 0]
        assert found[''].info[name] == pytest.approx(roc_auc_score(y[part], p))
        assert found['full-val'].info[name] == found[''].info[name]


def test_the_tables_have_the_training_auroc_of_recurrent_systems_alone(run, tmp_path):
    fits = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['LR', 'RNN-C', 'MN-FT'])['fits']
    known = fits.set_index('model')[['auroc_train', 'auroc_val']]
    assert known.loc['LR'].isna().all(axis=None)
    assert known.loc[['RNN-C', 'MN-FT'], 'auroc_train'].between(0, 1).all()


def test_test_labels_never_influence_a_prediction(run, done, tmp_path):
    def change(data, stays, X):
        at = stays.index[data.rows('test')]
        for t in data.tasks:
            stays.loc[at, t.name] = np.random.default_rng(0).integers(2, size=len(at)).astype(float)

    same(done, run_and_read(poisoned(run, tmp_path / 'other', change), 0.5, models=ALL))


def test_labels_outside_the_subset_never_influence_a_prediction(run, done, tmp_path, monkeypatch):
    data, drawn = PreparedCohort.load(run), {}
    for task in done['fits']['task'].unique():
        for full in (False, True):
            drawn[task, full] = labelled_rows(data, task, 0.5, 0, full)
    monkeypatch.setattr(
        transfer, 'labelled_rows', lambda data, task, fraction, seed, full_val=False: drawn[task, full_val]
    )  # the draw itself is stratified by label

    def change(
        data, stays, X
    ):  # who has a held-out phenotype decides who gives source labels: that is the removal, and stays
        rows = drawn['Mortality', False]
        hidden = np.setdiff1d(np.arange(len(stays)), rows.labelled)
        stays.loc[hidden, 'Mortality'] = 1 - stays.loc[hidden, 'Mortality']

    few = [m for m in ALL if ':full-val' not in m]
    got = run_and_read(poisoned(run, tmp_path / 'other', change), 0.5, models=few)['predictions']
    want = done['predictions'][done['predictions']['model'].isin(few)].reset_index(drop=True)
    pd.testing.assert_frame_equal(got.drop(columns='y'), want.drop(columns='y'), check_exact=True)


def test_trees_and_fine_tuning_see_nothing_of_stays_outside_the_subset(run, tmp_path):
    def change(data, stays, X):
        outside = np.setdiff1d(np.arange(len(X)), np.concatenate(labelled_rows(data, 'Mortality', 0.5, 0)))
        X[outside] = 99.0
        S = pd.read_parquet(tmp_path / 'other/data/statistics.parquet')
        S.loc[outside, S.columns[1:]] = -99.0
        S.to_parquet(tmp_path / 'other/data/statistics.parquet', index=False)

    other = poisoned(run, tmp_path / 'other', change)
    a, b = (
        run_and_read(r, 0.5, models=['GBT', 'MN-FT'])['predictions'].query("task == 'Mortality'")
        for r in (copy_of(run, tmp_path / 'plain'), other)
    )
    np.testing.assert_array_equal(a['p'], b['p'])


def test_null_labels_are_not_in_the_tasks_cohort(run, tmp_path):
    def change(data, stays, X):
        stays.loc[stays.index % 3 == 0, 'Mortality'] = np.nan

    t = run_and_read(poisoned(run, tmp_path / 'other', change), models=['LR', 'RNN-C'])
    q, f = t['predictions'].query("task == 'Mortality'"), t['fits'].query("task == 'Mortality'")
    data = PreparedCohort.load(tmp_path / 'other')
    known = data.stays['Mortality'].notna().to_numpy()
    assert len(q) == 2 * known[data.rows('test')].sum() and (f['n_train'] == known[data.rows('train')].sum()).all()


# Names


@pytest.mark.parametrize(
    'name, want',
    [
        ('LR', ('LR', '', 0)),
        ('MN+statistics-LR@12', ('MN+statistics-LR', '', 12)),
        ('MN-LR-2:full-val@1', ('MN-LR-2', 'full-val', 1)),
        ('GBT:full-val', ('GBT', 'full-val', 0)),
        ('untrained-LR-2:cv@3', ('untrained-LR-2', 'cv', 3)),
    ],
)
def test_names_are_taken_apart(name, want):
    assert parse_model(name) == SystemId(name, *want) and describe_system(name).startswith(SYSTEMS[want[0]].text)


@pytest.mark.parametrize(
    'name, message',
    [
        ('', 'expected one or more of LR'),
        ('lr', 'expected'),
        ('LR:', 'expected'),
        ('LR@0', 'expected'),
        ('LR@x', 'expected'),
        ('MN-LR-2@1:cv', 'expected'),
        ('LR:cv:cv', 'expected'),
        (None, 'expected'),
        ('LR:best', 'selection criteria of LR are LR:literal, LR:cv, LR:fine, LR:ridge, LR:full-val'),
        ('GBT:cv', 'selection criteria of GBT are GBT:full-val'),
        ('RNN-C:literal', 'RNN-C:full-val'),
        ('multi-task:cv', 'multi-task:full-val'),
        ('LR@1', 'only systems that read MIMIC-Net'),
        ('RNN-C@1', 'only systems'),
        ('no-removal-LR-1@1', 'only systems'),
        ('AE-LR-2@1', 'only systems'),
        ('multi-task@1', 'only systems'),
    ],
)
def test_names_of_nothing_are_rejected(name, message):
    with pytest.raises(BadInput, match=message):
        parse_model(name)


def test_every_system_has_its_line():
    assert [s.group for s in SYSTEMS.values()] == sorted(
        (s.group for s in SYSTEMS.values()), key=['paper', 'further', 'ablation', 'control'].index
    )
    assert len({s.text for s in SYSTEMS.values()}) == len(SYSTEMS) and all('\n' not in s.text for s in SYSTEMS.values())


# Selection criteria

cohort_of_folds = st.lists(st.tuples(st.integers(0, 25), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(cohort_of_folds, st.integers(0, 9))
def test_folds_part_no_subject_and_leave_both_classes(rows, seed):
    subject, y = np.array([s for s, _ in rows]), np.array([float(b) for _, b in rows])
    fold = subject_folds(y, subject, 'task', seed)
    sick = {s for s, b in rows if b}
    well = {s for s, _ in rows} - sick
    k = min(5, len(sick), len(well))
    if k < 2:
        assert not len(fold)
        return
    assert set(fold) == set(range(k)) and all(len(set(fold[subject == s])) == 1 for s in set(subject))
    for who in (sick, well, sick | well):
        sizes = [len({s for s in who if (fold[subject == s] == i).all()}) for i in range(k)]
        assert max(sizes) - min(sizes) <= 1
    for i in range(k):
        assert set(y[fold != i]) == {0.0, 1.0}
    np.testing.assert_array_equal(fold, subject_folds(y, subject, 'task', seed))


def test_cross_validation_written_out_a_second_time():
    Z, y = problem(120, 8, 5)
    subject, rows = np.arange(120) // 2, LabelledRows(np.arange(60), np.arange(60, 90), np.arange(90, 120))
    f = fit_linear_cv(Z, y, rows, subject, ('t', 1))
    fold, loss = subject_folds(y[:90], subject[:90], 't', 1), {}
    for lam in LAMBDAS:
        loss[lam] = 0
        for i in range(5):
            w = l1_logistic_path(Z[:90][fold != i], y[:90][fold != i], [lam])[0]
            p = expit(w.logits(Z[:90][fold == i]))
            loss[lam] -= np.log(np.where(y[:90][fold == i] == 1, p, 1 - p)).sum()
    assert f.info['lambda'] == min(LAMBDAS, key=lambda lam: (round(loss[lam], 6), -lam))
    np.testing.assert_allclose(
        f.path.set_index('lambda')['val_nll'][list(LAMBDAS)], [loss[lam] for lam in LAMBDAS], rtol=1e-3
    )
    np.testing.assert_allclose(
        f.p, expit(l1_logistic_path(Z[:90], y[:90], [f.info['lambda']])[0].logits(Z[90:])), atol=1e-3
    )


@pytest.mark.parametrize('criterion, n', [('fine', 90), ('ridge', 90), ('ridge', 1200)])
def test_a_fine_grid_against_scikit_learn(criterion, n):
    Z, y = problem(n + 30, 6, 5)
    third = n // 3
    rows = LabelledRows(np.arange(2 * third), np.arange(2 * third, n), np.arange(n, n + 30))
    subject = np.arange(n + 30) // 2
    f = fit_fine_grid(Z, y, rows, subject, ('t', 1), criterion)
    Z_seen, y_seen, lambdas = Z[:n], y[:n], f.path['lambda'].to_numpy()
    lasso = dict(l1_ratio=1.0, solver='saga', tol=1e-8, max_iter=100_000)
    how = lasso if criterion == 'fine' else dict(l1_ratio=0.0, solver='newton-cholesky', tol=1e-10)

    def fit(Z, y, lam):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return LogisticRegression(C=1 / lam, **how).fit(Z, y)

    def held_out_loss(lam, fold, k):
        p = fit(Z_seen[fold != k], y_seen[fold != k], lam).predict_proba(Z_seen[fold == k])[:, 1]
        return -np.log(np.where(y_seen[fold == k] == 1, p, 1 - p)).sum()

    repeats = 3 if n <= 1000 else 2
    folds = [subject_folds(y_seen, subject[:n], 't', 1, repeat) for repeat in range(repeats)]
    some = np.append(lambdas[2::5], f.info['lambda'])  # at the largest ones saga does not converge
    loss = [sum(held_out_loss(lam, fold, k) for fold in folds for k in range(5)) / repeats for lam in some]
    np.testing.assert_allclose(f.path.set_index('lambda')['val_nll'][some], loss, rtol=1e-4)
    assert f.info['lambda'] == f.path.set_index('lambda')['val_nll'].idxmin() and min(loss) == loss[-1]
    assert f.path.loc[0, 'n_near_zero'] == 6 or criterion == 'ridge'
    np.testing.assert_allclose(f.p, fit(Z_seen, y_seen, f.info['lambda']).predict_proba(Z[n:])[:, 1], atol=1e-5)
    np.testing.assert_array_equal(f.weights, whole_grid(Z_seen, y_seen, subject[:n], criterion, repeats).fit.coef)


def whole_grid(Z, y, subject, criterion, repeats):
    "The same without an early end of the grid."
    return fit_few_labels(Z, y, subject, FINE_CRITERIA[criterion], repeats=repeats, key=('t', 1))


def test_with_all_labels_the_seed_moves_only_what_says_so(run, tmp_path):
    there = copy_of(run, tmp_path / 'other')
    models = ['LR', 'LR:literal', 'MN-LR-2', 'MN-LR-2@1', 'MN-LR-2:full-val', 'GBT', 'LR:cv', 'LR:ridge', 'RNN-C']
    models += ['shuffled-MN-LR-2']
    first, second = (run_and_read(there, 1.0, seed, models=models) for seed in (0, 1))

    def of_model(tables, table, model):
        rows = tables[table]
        return rows[rows['model'] == model].drop(columns='seed', errors='ignore').reset_index(drop=True)

    for model in models:
        same = [
            of_model(first, t, model).equals(of_model(second, t, model)) for t in ('predictions', 'weights', 'path')
        ]
        assert all(same) != parse_model(model).depends_on_seed, model


def test_a_selection_criterion_is_what_its_setting_would_give(run, done, tmp_path):
    def pick(t, m):
        return t['predictions'].query('model == @m')['p'].to_numpy()

    literal = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['LR', 'MN-LR-2'], choose='literal')
    for m in ('LR', 'MN-LR-2'):
        np.testing.assert_array_equal(pick(literal, m), pick(done, f'{m}:literal'))
    everything = run_and_read(
        tmp_path / 'other',
        1.0,
        models=[
            'MN-LR-2',
            'MN-LR-2:full-val',
            'RNN-C',
            'RNN-C:full-val',
            'GBT',
            'GBT:full-val',
            'multi-task',
            'multi-task:full-val',
        ],
    )
    for m in ('MN-LR-2', 'RNN-C', 'GBT', 'multi-task'):
        np.testing.assert_array_equal(pick(everything, m), pick(everything, f'{m}:full-val'))
    f = done['fits'].set_index(['task', 'model'])
    assert (f.xs('LR', level='model')['lambda_literal'] == f.xs('LR:literal', level='model')['lambda']).all()


def test_what_is_shared_is_fitted_once(run, tmp_path, monkeypatch):
    count = dict(l1_logistic_path=0, fit_with_monitors=0)

    def count_calls(module, name):
        function = getattr(module, name)

        def counted(*a, **k):
            count[name] += 1
            return function(*a, **k)

        monkeypatch.setattr(module, name, counted)

    for module in (transfer, linear):
        count_calls(module, 'l1_logistic_path')
    for module in (recurrent, multitask):
        count_calls(module, 'fit_with_monitors')
    tasks = run_and_read(
        copy_of(run, tmp_path / 'other'),
        0.5,
        models=['LR', 'LR:literal', 'LR:full-val', 'RNN-C', 'RNN-C:full-val', 'multi-task', 'multi-task:full-val'],
    )['fits']['task'].nunique()
    assert count == dict(l1_logistic_path=tasks, fit_with_monitors=tasks + 1)


def test_other_initial_weights_are_read_from_their_own_network(run):
    data = PreparedCohort.load(run)
    for model, path in (
        ('MN-LR-2@1', 'mimic-net@1'),
        ('untrained-LR-2@1', 'untrained@1'),
        ('MN-LR-2:cv@1', 'mimic-net@1'),
    ):
        np.testing.assert_array_equal(
            model_features(run, 0, data, model)[0],
            extract_features(load_checkpoint(run / f'split-0/pretrain/{path}.safetensors'), data.X),
        )


# Systems


def test_what_the_controls_read(run):
    data = PreparedCohort.load(run)

    def read(m):
        return model_features(run, 0, data, m)

    S, (F, names) = data.statistics, read('masks-LR')
    assert names == [c for c in S if c.endswith('|len')]
    np.testing.assert_array_equal(F, S[names].fillna(0))
    assert read('values-LR')[1] == [c for c in S if not c.endswith('|len')]
    F, names = read('last-LR')
    assert [n.removesuffix('|last hour') for n in names] == [c for c in data.columns if not c.startswith('mask->')]
    np.testing.assert_array_equal(F, data.X[:, -1, : len(names)])
    F, names = read('MN+statistics-LR')
    np.testing.assert_array_equal(F, np.c_[read('MN-LR-2')[0], S])
    assert names == read('MN-LR-2')[1] + list(S)


def test_a_channel_never_measured_counts_as_zero(run, tmp_path):
    other = copy_of(run, tmp_path / 'other')
    S = pd.read_parquet(other / 'data/statistics.parquet')
    S.loc[[0, 5], [c for c in S if c.startswith('Glucose')]] = np.nan
    S.to_parquet(other / 'data/statistics.parquet', index=False)
    F, names = model_features(other, 0, PreparedCohort.load(other), 'masks-LR')
    assert (F[[0, 5]][:, [n.startswith('Glucose') for n in names]] == 0).all() and np.isfinite(F).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=4, max_size=40), st.integers(0, 9))
def test_shuffled_labels_keep_their_number_and_their_place(y, seed):
    y = np.array(y)
    known = np.flatnonzero(~np.isnan(y))
    rows = LabelledRows(known[::3], known[1::3], known[2::3])
    for shuffle in ((), ('task', seed)):
        seen = visible_labels(y, rows, shuffle)
        assert set(np.flatnonzero(~np.isnan(seen))) == set(rows.train) | set(rows.val)
        for at in (rows.train, rows.val):
            assert sorted(seen[at]) == sorted(y[at])
        np.testing.assert_array_equal(seen, visible_labels(y, rows, shuffle))


def test_shuffled_labels_are_those_the_control_learns_from_and_not_those_it_is_tested_on(run, done):
    data = PreparedCohort.load(run)
    rows, y = labelled_rows(data, 'Mortality', 0.5, 0), data.stays['Mortality'].to_numpy()
    F, _ = model_features(run, 0, data, 'MN-LR-2')
    seen = visible_labels(y, rows, ('Mortality', 0))
    assert (seen[rows.train] != y[rows.train]).any()
    q = done['predictions'].query("task == 'Mortality' and model == 'shuffled-MN-LR-2'")
    np.testing.assert_array_equal(
        q['p'], fit_linear(Standardizer.fit(F[data.rows('train')]).transform(F), seen, rows).p.astype(np.float32)
    )
    np.testing.assert_array_equal(q['y'], y[rows.test])


def test_labels_of_the_multi_task_network_against_a_loop(run):
    data, about = PreparedCohort.load(run), json.loads((run / 'split-0/pretrain/split.json').read_text())
    tasks = about['target'] + ['Mortality']
    subsets = {t: labelled_rows(data, t, 0.3, 0) for t in tasks}
    Y = multitask_labels(data, about['source'], about['target'], subsets)
    sick = set(data.stays['subject_id'][(data.stays[about['target']] == 1).any(axis=1)])
    for i, stay in data.stays.iterrows():
        for k, t in enumerate(about['source']):
            want = stay[t] if stay['partition'] != 'test' and stay['subject_id'] not in sick else np.nan
            assert Y[i, k] == want or (np.isnan(Y[i, k]) and np.isnan(want))
        for k, t in enumerate(tasks, len(about['source'])):
            want = stay[t] if i in subsets[t].labelled else np.nan
            assert Y[i, k] == want or (np.isnan(Y[i, k]) and np.isnan(want))


def test_where_recurrent_systems_start(run, tmp_path, monkeypatch):
    started = []

    whole = recurrent.fit_with_monitors

    def remember(net, *a, **k):
        started.append((net.config['n_tasks'], {n: v.clone() for n, v in net.rnn.state_dict().items()}))
        return whole(net, *a, **k)

    for module in (recurrent, multitask):
        monkeypatch.setattr(module, 'fit_with_monitors', remember)
    about = json.loads((run / 'split-0/pretrain/split.json').read_text())
    n = len(about['target']) + 1
    run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['MN-FT', 'MN-FT@1', 'multi-task', 'RNN-C'])
    pre, h = run / 'split-0/pretrain', about['hidden']
    want = [(1, load_checkpoint(pre / 'mimic-net.safetensors'))] * n + [
        (1, load_checkpoint(pre / 'mimic-net@1.safetensors'))
    ] * n
    want += [(len(about['source']) + n, load_checkpoint(run / f'model/h-{h}.safetensors'))] + [
        (1, init_network(len(PreparedCohort.load(run).columns), h, 1, 0))
    ] * n
    assert len(started) == len(want)
    for (k, rnn), (wanted, net) in zip(started, want):
        assert k == wanted and all(np.array_equal(v, net.rnn.state_dict()[a]) for a, v in rnn.items())


# Trees


def requests(y, n_train, n_val):
    return {'': FitRequest(y, LabelledRows(*np.split(np.arange(len(y)), [n_train, n_train + n_val])))}


def test_trees_stop_where_validation_says():
    r = np.random.default_rng(0)
    F = r.normal(size=(300, 6))
    y = (F[:, 0] + F[:, 1] * F[:, 2] + 0.5 * r.normal(size=300) > 0).astype(float)
    F[r.random(F.shape) < 0.1] = np.nan
    got = fit_trees(F, requests(y, 150, 75))['']
    best = {}
    for leaf in (5, 20, 60):
        for k in range(1, 76):
            eta = (
                HistGradientBoostingClassifier(max_iter=k, min_samples_leaf=leaf, early_stopping=False, random_state=0)
                .fit(F[:150], y[:150])
                .decision_function(F[150:225])
                if leaf == got.info['min_samples_leaf']
                else None
            )
            if eta is not None:
                best[k] = negative_log_likelihood(eta, y[150:225])
    k = got.info['best_update']
    assert 0 < k <= 75 and best[k] == pytest.approx(min(best.values()), rel=1e-6)
    want = (
        HistGradientBoostingClassifier(
            max_iter=k, min_samples_leaf=got.info['min_samples_leaf'], early_stopping=False, random_state=0
        )
        .fit(F[:150], y[:150])
        .predict_proba(F[225:])[:, 1]
    )
    np.testing.assert_allclose(got.p, want, rtol=1e-5)
    np.testing.assert_array_equal(got.p, fit_trees(F, requests(y, 150, 75))[''].p)


def test_each_criterion_has_the_trees_that_it_would_have_alone():
    "Early stopping by one validation set says nothing about the trees of another; a common set is grown to once."
    r = np.random.default_rng(2)
    F = r.normal(size=(400, 4))
    y = (F[:, 0] * F[:, 1] + 0.5 * r.normal(size=400) > 0).astype(float)
    both = {'': requests(y, 150, 20)[''], 'full-val': requests(y, 150, 150)[''], 'cv': requests(y, 150, 20)['']}
    both = {
        criterion: request._replace(rows=request.rows._replace(test=np.arange(300, 400)))
        for criterion, request in both.items()
    }
    got = fit_trees(F, both)
    for criterion, request in both.items():
        alone = fit_trees(F, {criterion: request})[criterion]
        np.testing.assert_array_equal(got[criterion].p, alone.p)
        assert got[criterion].info == alone.info
    np.testing.assert_array_equal(got[''].p, got['cv'].p)
    assert got[''].info != got['full-val'].info


def test_no_tree_at_all_where_there_is_nothing_to_learn():
    r = np.random.default_rng(1)
    y = np.r_[0, 1, r.integers(2, size=60)].astype(float)
    F = np.full((62, 3), np.nan)  # never observed
    F[:, 1] = 7
    f = fit_trees(F, requests(y, 30, 20))['']
    assert f.info['best_update'] == 0 and np.allclose(f.p, y[:30].mean())
    few = fit_trees(r.normal(size=(9, 2)), requests(np.array([0.0, 1, 1, 0, 1, 0, 1, 0, 1]), 4, 2))['']
    assert np.allclose(few.p, 0.5)  # no leaf is large enough


# Failures, chance, settings


def test_one_class_is_recorded_for_every_model_and_the_rest_goes_on(run, tmp_path):
    def change(data, stays, X):
        train = stays.index[data.rows('train')]
        stays.loc[train, 'Mortality'] = 0.0
        stays.loc[train[:2], 'Mortality'] = 1.0

    t = run_and_read(poisoned(run, tmp_path / 'other', change), 0.2)
    f = t['fits'].set_index('task')
    assert (
        len(f.loc['Mortality']) == len(SYSTEM_NAMES)
        and f.loc['Mortality', 'reason'].str.contains('0 positive').all()
        and f.loc['Mortality', 'lambda'].isna().all()
    )
    assert 'Mortality' not in set(t['predictions']['task']) and f.drop('Mortality')['reason'].isna().all()


def test_cross_validation_needs_two_subjects_of_each_class_and_not_both_in_train(run, tmp_path):
    def change(data, stays, X):
        stays.loc[stays['partition'] != 'test', ['Mortality']] = 0.0
        for part, n in (('train', 1), ('val', 1 + (tmp_path / 'second').exists())):
            subjects = stays.loc[stays['partition'] == part, 'subject_id'].unique()[:n]
            stays.loc[stays['subject_id'].isin(subjects), 'Mortality'] = 1.0
        stays.loc[stays['partition'] == 'train', 'Mortality'] *= (tmp_path / 'second').exists() is False

    first = (
        run_and_read(poisoned(run, tmp_path / 'one', change), models=['LR', 'LR:cv'])['fits']
        .query("task == 'Mortality'")
        .set_index('model')
    )
    assert first['reason'].isna().all()  # one subject in train, one in val: two folds
    (tmp_path / 'second').mkdir()
    second = (
        run_and_read(poisoned(run, tmp_path / 'two', change), models=['LR', 'LR:cv'])['fits']
        .query("task == 'Mortality'")
        .set_index('model')
    )
    assert 'both classes' in second.loc['LR', 'reason'] and pd.isna(second.loc['LR:cv', 'reason'])


def test_cross_validation_without_a_second_subject_is_a_reason(run, tmp_path):
    def change(data, stays, X):
        stays.loc[stays['partition'] != 'test', 'Mortality'] = 0.0
        stays.loc[
            stays['subject_id'] == stays.loc[stays['partition'] == 'train', 'subject_id'].iloc[0], 'Mortality'
        ] = 1.0

    f = (
        run_and_read(poisoned(run, tmp_path / 'one', change), models=['LR', 'LR:cv'])['fits']
        .query("task == 'Mortality'")
        .set_index('model')
    )
    assert (
        pd.isna(f.loc['LR', 'reason'])
        and 'two subjects of each class' in f.loc['LR:cv', 'reason']
        and np.isnan(f.loc['LR:cv', 'lambda'])
    )


def test_a_grid_without_masks_gives_its_reason(tmp_path):
    run_data(toy_cohort(), tmp_path, masks=False)
    run_model(tmp_path, [3])
    run_pretrain(tmp_path, n_held_out=2, hidden=[3], settings=QUICK)
    t = run_and_read(tmp_path, 0.5, models=['masks-MN-LR-2', 'values-MN-LR-2', 'AE-LR-2', 'masks-LR', 'last-LR'])
    left = t['fits']['model'].isin(['masks-MN-LR-2', 'values-MN-LR-2'])
    assert (t['fits'].loc[left, 'reason'] == 'the grid has no masks').all() and t['fits'].loc[
        ~left, 'reason'
    ].isna().all()


def test_a_network_that_was_not_trained_is_asked_for(run, tmp_path):
    other = copy_of(run, tmp_path / 'other')
    (other / 'split-0/pretrain/masks-only.safetensors').unlink()
    with pytest.raises(
        BadInput,
        match='masks-only.safetensors: no such file; '
        'run 02_pretrain for split 0 and masks-only among the ablation networks .variants. first',
    ):
        run_transfer(other, models=['LR', 'masks-MN-LR-2'], settings=QUICK)
    assert not out(other).exists()


def test_validation_without_a_positive_still_chooses(run, tmp_path):
    def change(data, stays, X):
        stays.loc[stays.index[data.rows('val')], 'Mortality'] = 0.0

    t = run_and_read(poisoned(run, tmp_path / 'other', change), 0.2)
    assert t['fits']['reason'].isna().all() and (t['fits'].query("task == 'Mortality'")['n_val_positive'] == 0).all()


def test_a_training_that_diverges_is_recorded_and_the_others_go_on(run, done, tmp_path):
    trained = ['RNN-C', 'MN-FT', 'multi-task', 'RNN-C:full-val']
    t = run_and_read(
        copy_of(run, tmp_path / 'other'), 0.5, models=['LR', 'MN-LR-2', *trained], settings=replace(QUICK, lr=1e38)
    )
    failed = t['fits']['model'].isin(trained)
    assert (
        t['fits'].loc[failed, 'reason'].str.contains('loss is not finite').all()
        and t['fits'].loc[failed, 'updates'].isna().all()
        and failed.sum() == len(trained) * t['fits']['task'].nunique()
    )
    assert t['fits'].loc[~failed, 'reason'].isna().all() and set(t['predictions']['model']) == {'LR', 'MN-LR-2'}
    assert (
        t['predictions'].query("model == 'LR'")['p'].tolist()
        == done['predictions'].query("model == 'LR'")['p'].tolist()
    )


def test_a_multi_task_training_that_diverges_is_not_tried_for_each_task(run, tmp_path, monkeypatch):
    calls = []

    def diverging(*a, **k):
        calls.append(1)
        raise Diverged('the loss is not finite after 7 updates')

    monkeypatch.setattr(transfer, 'fit_multitask', diverging)
    fits = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['LR', 'multi-task'])['fits']
    lost = fits['model'] == 'multi-task'
    assert (
        len(calls) == 1
        and lost.sum() == 3
        and (fits.loc[lost, 'reason'] == 'the loss is not finite after 7 updates').all()
        and fits.loc[~lost, 'reason'].isna().all()
    )


def test_a_size_of_rnn_c_that_diverges_loses_to_the_others(run, tmp_path, monkeypatch):
    whole = recurrent.fit_with_monitors

    def diverging(net, *a, **k):
        if net.config['hidden'] == 4:
            raise Diverged('the loss is not finite after 7 updates')
        return whole(net, *a, **k)

    monkeypatch.setattr(recurrent, 'fit_with_monitors', diverging)
    fits = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['RNN-C'], rnnc_hidden=[3, 4])['fits']
    assert fits['reason'].isna().all() and (fits['hidden'] == 3).all()
    fits = run_and_read(copy_of(run, tmp_path / 'none'), 0.5, models=['RNN-C'], rnnc_hidden=[4])['fits']
    assert (fits['reason'] == 'the loss is not finite after 7 updates').all()


def test_reasons():
    assert reason_not_fittable(np.array([0.0, 1]), np.array([0.0])) is None
    assert '1 positive' in reason_not_fittable(np.ones(1), np.zeros(3)) and 'no labelled val' in reason_not_fittable(
        np.array([0.0, 1]), np.array([])
    )


def test_same_seed_same_bytes_and_another_seed_another_subset(run, done, tmp_path):
    other = copy_of(run, tmp_path / 'other')
    again = run_and_read(other, 0.5, models=ALL)
    for t in ('predictions', 'weights', 'path'):
        assert (out(run, 0.5) / f'{t}.parquet').read_bytes() == (out(other, 0.5) / f'{t}.parquet').read_bytes()
    pd.testing.assert_frame_equal(
        done['fits'].drop(columns='seconds'), again['fits'].drop(columns='seconds'), check_exact=True
    )
    assert not run_and_read(other, 0.5, seed=1, models=['LR', 'RNN-C'])['predictions']['p'].equals(
        done['predictions'].query("model in ('LR', 'RNN-C')")['p']
    )
    assert not [p for p in (other / 'split-0').rglob('*') if 'tmp' in p.name]


def test_one_model_alone_is_the_same_as_among_all(run, done, tmp_path):
    some = [
        'RNN-C:full-val',
        'MN-LR-2',
        'LR:cv',
        'MN-LR-2:literal',
        'GBT',
        'multi-task:full-val',
        'MN-FT@1',
        'LR:literal',
    ]
    alone = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=some)
    for m in some:
        a, b = (t['predictions'][t['predictions']['model'] == m].reset_index(drop=True) for t in (done, alone))
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_rnnc_chooses_among_given_sizes(run, tmp_path):
    f = run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=['RNN-C'], rnnc_hidden=[2, 5])['fits']
    assert f['hidden'].isin([2, 5]).all()


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(models=['SVM']), 'SVM'),
        (dict(models=['LR', 'MN-LR-2@2']), 'inits of at least 2'),
        (dict(models=[]), 'models'),
        (dict(lambdas=[-1.0]), 'positive'),
        (dict(choose='auc'), 'auc'),
        (dict(fraction=0.0), 'fraction'),
        (dict(split=7), '02_pretrain for split 7'),
    ],
)
def test_wrong_settings_write_nothing(run, wrong, message):
    before = sorted(run.rglob('*'))
    with pytest.raises(BadInput, match=message):
        run_transfer(run, **(dict(seed=77, settings=QUICK) | wrong))
    assert sorted(run.rglob('*')) == before


def test_no_warning_leaks(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        Z, y = problem(60, 80, 0, 'collinear')
        l1_logistic_path(Z, y)
        run_and_read(copy_of(run, tmp_path / 'other'), 0.5, models=ALL)


# What is written where nothing was fitted


def test_tables_without_a_fit_keep_their_columns(tmp_path):
    tables = TransferTables(dict(split=0, fraction=0.5, seed=1))
    counts = dict(n_train=3, n_val=1, n_positive=0, n_val_positive=0)
    row = dict(task='Mortality', task_kind='mortality', model='LR', **counts, reason='one class')
    tables.add(row, pd.DataFrame(dict(stay_id=[1], Mortality=[0.0])), None)
    fits = write_tables(tables, tmp_path, ['Mortality'], ['LR'])
    assert fits['reason'].tolist() == ['one class'] and fits['lambda'].isna().all()
    for table, columns in TABLE_COLUMNS.items():
        written = pd.read_parquet(tmp_path / f'{table}.parquet')
        assert list(written) == list(columns)
        assert len(written) == (table == 'fits')


def nearly_copied_features(seed: int) -> tuple[np.ndarray, np.ndarray]:
    "400 stays, 480 features: copies, noisy copies and maxima of 60, as the statistics of a channel are"
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(400, 60))
    noisy = [base + size * rng.normal(size=base.shape) for size in (1e-2, 1e-3, 1e-1)]
    Z = np.hstack([base, base, base, *noisy, *[np.maximum(base, np.roll(base, 1, 1))] * 2])
    p = expit(base[:, :10] @ rng.normal(size=10) * 0.7 - 1.5)
    return (Z - Z.mean(0)) / Z.std(0), (rng.random(400) < p).astype(float)


@pytest.mark.parametrize('seed', [2, 3])
def test_a_path_of_nearly_copied_features_does_not_stall(seed):
    "With steps halved instead of stopped at zero, 50 Newton steps left a gap of 1e-5 here"
    Z, y = nearly_copied_features(seed)
    path = l1_logistic_path(Z, y, lambda_max(Z, y) * np.geomspace(1, 1e-4, 20)[:12])
    assert max(fit.gap for fit in path) <= 1e-7
    assert max(fit.steps for fit in path) <= 15
    again = l1_logistic_path(Z, y, [path[8].lam], start=path[4])[0]
    assert again.converged and again.objective == pytest.approx(path[8].objective, rel=1e-6)
