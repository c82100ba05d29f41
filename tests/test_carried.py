"Statistics carried over from the source: which stays they are fitted to, and what is applied at the new site."

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from test_hospitals import with_other_labels
from test_sites import A_TO_B, QUICK, given, pretrained, two_sites  # noqa: F401

from rnn_transfer import transfer
from rnn_transfer.data import Cohort, run_data
from rnn_transfer.learning import carried
from rnn_transfer.learning.carried import reason_not_carried, source_request
from rnn_transfer.learning.fits import labelled_rows
from rnn_transfer.learning.l1_logistic import LAMBDAS
from rnn_transfer.learning.systems import SYSTEMS, needs_no_label, parse_model
from rnn_transfer.model import run_model
from rnn_transfer.pretrain import adopt_network
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

CARRIED = ['zero-shot-LR', 'recalibrated-LR', 'zero-shot-GBT', 'recalibrated-GBT']


def carried_over(cohort, folder, same_tasks=True, models=CARRIED, fraction=0.5):
    "Pre-training and one transfer step: data, split.json, fits, and p by model, task and stay."
    data, manifest = pretrained(cohort, folder, same_tasks=same_tasks, variants=())
    fits = run_transfer(folder, fraction=fraction, models=models, settings=QUICK)
    return data, manifest, fits, predictions(folder, fraction)


def predictions(folder, fraction, seed=0):
    "Predictions of a step by model, task and stay."
    step = folder / 'split-0' / f'fraction-{fraction:g}' / f'seed-{seed}'
    return pd.read_parquet(step / 'predictions.parquet').set_index(['model', 'task', 'stay_id'])['p'].sort_index()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('carried')
    return folder, *carried_over(two_sites(), folder)


def rows_of(data, site, partition):
    return np.flatnonzero((data.stays['site'] == site) & (data.stays['partition'] == partition))


def standardised(data):
    "The statistics by the mean and spread of the train stays of B, with plain NumPy."
    F = data.statistics.to_numpy().astype(float)
    own = F[rows_of(data, 'B', 'train')]
    observed = ~np.isnan(own)
    mean = np.where(observed, own, 0).sum(0) / np.maximum(observed.sum(0), 1)
    std = np.where(observed, own, mean).std(0)
    kept = std > np.maximum(1e-6 * abs(mean), 1e-9)
    return np.nan_to_num((F[:, kept] - mean[kept]) / std[kept])


def log_loss(p, y):
    return -np.sum(np.where(y == 1, np.log(p), np.log1p(-p)))


def correction_loss(v, features, offset, y):
    "Of an intercept and a slope."
    return log_loss(expit(features @ v + offset), y)


# ---- the models


def l1_logits(Z, y, lam, at):
    "Logits of the L1 regression by L-BFGS-B on the two signs of each weight; the intercept has no penalty."
    m = Z.shape[1]

    def objective(v):
        eta = Z @ (v[:m] - v[m:-1]) + v[-1]
        slope = Z.T @ (expit(eta) - y)
        gradient = np.r_[slope + lam, lam - slope, np.sum(expit(eta) - y)]
        return np.sum(np.logaddexp(0, eta) - y * eta) + lam * v[:-1].sum(), gradient

    bounds = [(0, None)] * (2 * m) + [(None, None)]
    options = dict(maxiter=20_000, maxfun=40_000, ftol=1e-15, gtol=1e-9)
    v = minimize(objective, np.zeros(2 * m + 1), jac=True, method='L-BFGS-B', bounds=bounds, options=options).x
    return at @ (v[:m] - v[m:-1]) + v[-1]


def test_regression_of_the_source_by_another_solver(run):
    "Fitted to all train stays of A; lambda by the loss of its validation stays."
    _, data, manifest, fits, p = run
    Z, test = standardised(data), rows_of(data, 'B', 'test')
    train, val = rows_of(data, 'A', 'train'), rows_of(data, 'A', 'val')
    for task in manifest['source']:
        y, found = data.stays[task].to_numpy(float), []
        for lam in LAMBDAS:
            logits = l1_logits(Z[train], y[train], lam, Z)
            loss = np.sum(np.logaddexp(0, logits[val]) - y[val] * logits[val])
            found.append((round(loss, 6), -lam, expit(logits[test])))
        row = fits[(fits['task'] == task) & (fits['model'] == 'zero-shot-LR')].iloc[0]
        _, lam, expected = min(found, key=lambda entry: entry[:2])
        assert row['lambda'] == -lam and row['n_features'] == Z.shape[1]
        found = p['zero-shot-LR', task].reindex(data.stays['stay_id'].to_numpy()[test])
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_trees_of_the_source_by_scikit_learn(run):
    _, data, manifest, fits, p = run
    S = data.statistics.to_numpy()
    train, test = rows_of(data, 'A', 'train'), rows_of(data, 'B', 'test')
    S = np.where(np.isnan(S[train]).all(0), 0.0, S)
    grown = 0
    for task in manifest['source']:
        row = fits[(fits['task'] == task) & (fits['model'] == 'zero-shot-GBT')].iloc[0]
        y = data.stays[task].to_numpy(float)[train]
        n_trees, leaf = int(row['best_update']), int(row['min_samples_leaf'])
        expected = np.full(len(test), y.mean())
        if n_trees:
            settings = dict(max_iter=n_trees, min_samples_leaf=leaf, early_stopping=False, random_state=0)
            expected = HistGradientBoostingClassifier(**settings).fit(S[train], y).predict_proba(S[test])[:, 1]
            grown += 1
        found = p['zero-shot-GBT', task].reindex(data.stays['stay_id'].to_numpy()[test])
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert grown


@pytest.mark.parametrize('base', ['LR', 'GBT'])
def test_intercept_and_slope_are_of_the_labelled_stays_of_the_new_site(run, base):
    "By another optimiser, from the logits that are kept; with fewer than 20 of a class the intercept alone."
    folder, data, _, _, p = run
    kept = pd.read_parquet(next((folder / 'split-0' / 'features').glob(f'source-{base}-*.parquet')))
    with_slope = set()
    for task, logits in zip(kept['task'], kept['logits']):
        labelled = labelled_rows(data, task, 0.5, 0).labelled
        assert set(data.stays['site'].iloc[labelled]) == {'B'}
        x, y = logits[labelled], data.stays[task].to_numpy(float)[labelled]
        slope = min(y.sum(), (1 - y).sum()) >= 20 and np.ptp(x) > 0
        features = np.c_[np.ones(len(x)), x if slope else 0 * x]
        offset = 0 if slope else x
        a, b = minimize(correction_loss, [0.0, 1.0], (features, offset, y), 'BFGS', options=dict(gtol=1e-8)).x
        if slope and b <= 0:
            continue  # no slope that is not above 0
        test = data.stays['stay_id'].to_numpy()[rows_of(data, 'B', 'test')]
        shown = expit(a + (b if slope else 1) * logits[rows_of(data, 'B', 'test')])
        np.testing.assert_allclose(p[f'recalibrated-{base}', task].reindex(test), shown, atol=2e-4)
        with_slope.add(bool(slope))
        order = np.argsort(p[f'zero-shot-{base}', task].reindex(test).to_numpy(), kind='stable')
        assert (np.diff(p[f'recalibrated-{base}', task].reindex(test).to_numpy()[order]) >= -1e-7).all()
    assert with_slope


def test_one_function_corrects_networks_and_statistics(run, monkeypatch, tmp_path):
    calls, fit = [], transfer.fit_classifier
    monkeypatch.setattr(transfer, 'fit_classifier', lambda *args: calls.append(args[2]) or fit(*args))
    pretrained(two_sites(), tmp_path, same_tasks=True, variants=())
    run_transfer(tmp_path, models=['zero-shot', 'recalibrated', *CARRIED], settings=QUICK)
    n_tasks = len(run[2]['source'])
    assert calls == [False] * n_tasks + [True] * n_tasks + ([False] * n_tasks + [True] * n_tasks) * 2


# ---- what they may see


def other_run(data, rows, folder):
    "The same run with invented labels in some rows; the order of the stays is the same."
    return carried_over(with_other_labels(two_sites(), data.stays.index[rows]), folder)[3]


def test_no_label_of_another_stay_is_read(run, tmp_path, monkeypatch):
    "Garbage in labels of test stays of A and B, and of all stays of site C, changes nothing."
    _, data, manifest, _, p = run
    rows = {task: labelled_rows(data, task, 0.5, 0) for task in [*manifest['source'], 'Mortality']}
    seen = np.isin(data.stays['partition'], ['train', 'val']) & (data.stays['site'] == 'A').to_numpy()
    for of_task in rows.values():
        seen[of_task.labelled] = True
    free = data.stays[~seen]
    assert {('test', 'B'), ('test', 'A'), ('train', 'C')} <= set(zip(free['partition'], free['site']))
    monkeypatch.setattr('rnn_transfer.transfer.labelled_rows', lambda data, task, *args: rows[task])
    pd.testing.assert_series_equal(p, other_run(data, np.flatnonzero(~seen), tmp_path))


def test_zero_shot_reads_no_label_of_the_new_site(run, tmp_path):
    _, data, _, _, p = run
    other = other_run(data, np.flatnonzero(data.stays['site'] == 'B'), tmp_path)
    for model in CARRIED:
        is_same = np.array_equal(p[model], other[model])
        assert is_same == needs_no_label(model), model


@pytest.mark.parametrize('partition', ['train', 'val'])
def test_labels_of_the_source_do_reach_them(run, tmp_path, partition):
    _, data, _, _, p = run
    other = other_run(data, rows_of(data, 'A', partition), tmp_path)
    assert all((p[model] != other[model]).any() for model in ('zero-shot-LR', 'zero-shot-GBT'))


def test_subjects_with_a_held_out_phenotype_give_no_label(tmp_path):
    data, manifest, fits, _ = carried_over(two_sites(), tmp_path, 'both')
    task = manifest['source'][0]
    y, rows = source_request(data, task, manifest['target'])
    without = source_request(data, task).rows
    removed = np.setdiff1d(np.r_[without.train, without.val], np.r_[rows.train, rows.val])
    assert len(removed) and np.isnan(y[removed]).all()
    has = (data.stays[manifest['target']] == 1).any(axis=1).to_numpy()
    subjects = set(data.stays['subject_id'][has & (data.stays['site'] == 'A').to_numpy()])
    assert not subjects & set(data.stays['subject_id'].iloc[np.r_[rows.train, rows.val]])
    assert set(fits[fits['reason'].isna()]['task_kind']) == {'learned'}


# ---- tasks without a model


def test_tasks_are_those_of_pooled_models(run, tmp_path, given):  # noqa: F811
    fits, manifest = run[3], run[2]
    reasons = fits.set_index(['task', 'model'])['reason']
    assert reasons[manifest['source']].isna().all()
    assert (reasons['Mortality'] == 'the source gives no label of this task').all()
    held_out = carried_over(two_sites(), tmp_path / 'held out', False)[2]
    assert (held_out['reason'] == 'the source gives no label of this task').all()
    run_data(two_sites(), tmp_path / 'given', transfer_sites=['B'], pretrained=given)
    run_model(tmp_path / 'given', [6])
    adopt_network(tmp_path / 'given', given, same_tasks=True)
    fits = run_transfer(tmp_path / 'given', models=CARRIED, settings=QUICK)
    assert fits['reason'].str.startswith('a given network replaces pre-training').all()


def test_a_source_with_one_class_has_no_model(run):
    _, data, manifest, _, _ = run
    task, stays = manifest['source'][0], data.stays.copy()
    stays.loc[stays['site'] == 'A', task] = 0.0
    other = type(data)(**{**vars(data), 'stays': stays})
    reason = reason_not_carried(other, manifest, task)
    assert reason.startswith('at the source: ') and reason.endswith('0 positive: both classes are needed')


def test_few_labels_of_one_class_stop_recalibration_alone(tmp_path):
    cohort = two_sites()
    stays = cohort.stays.copy()
    task = next(t.name for t in cohort.tasks if t.kind == 'phenotype')
    stays.loc[(stays['site'] == 'B') & (stays['partition'] != 'test'), task] = 0.0
    fits = carried_over(Cohort(cohort.events, stays, cohort.channels, cohort.tasks, cohort.meta), tmp_path)[2]
    reasons = fits[fits['task'] == task].set_index('model')['reason']
    assert {model for model in CARRIED if not reasons[model]} == {'zero-shot-LR', 'zero-shot-GBT'}


# ---- fitted once


def test_models_are_fitted_once_a_run_and_again_for_other_settings(tmp_path, monkeypatch):
    fitted, fit = [], carried.fit_carried
    monkeypatch.setattr(carried, 'fit_carried', lambda *args: fitted.append(args[2]) or fit(*args))
    pretrained(two_sites(), tmp_path, same_tasks=True, variants=())

    def step(**options):
        run_transfer(tmp_path, models=CARRIED, settings=QUICK, **options)
        return len(fitted)

    assert [step(fraction=0.5), step(fraction=0.5, seed=1), step()] == [2, 2, 2] and fitted == ['LR', 'GBT']
    for model in ('zero-shot-LR', 'zero-shot-GBT'):
        one, two = (predictions(tmp_path, 0.5, seed)[model] for seed in (0, 1))
        pd.testing.assert_series_equal(one, two)
    assert step(fraction=0.5, lambdas=[1.0, 10.0]) == 4
    files = list((tmp_path / 'split-0' / 'features').glob('source-*.parquet'))
    for file in files:
        file.write_bytes(b'damaged')
    assert step(fraction=0.5) == 6 and len(files) == 4


# ---- names


def test_names():
    assert {SYSTEMS[name].kind for name in CARRIED} == {'carried'}
    assert not any(parse_model(name).definition.is_trained or parse_model(name).depends_on_seed for name in CARRIED)
    assert parse_model('recalibrated-LR:full-val').criterion == 'full-val'
    for name in ('zero-shot-LR:fine', 'zero-shot-LR@1', 'zero-shot-RNN'):
        with pytest.raises(BadInput):
            parse_model(name)
