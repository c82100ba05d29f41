"A run folder of simulated predictions, evaluated once, for the tests of evaluation."

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.data import run_data
from rnn_transfer.evaluate import run_evaluate
from rnn_transfer.learning.systems import SYSTEMS
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.seeds import seeded_rng

TARGETS = {0: ['Phenotype A', 'Phenotype B'], 1: ['Phenotype C', 'Phenotype D']}
FIVE_SYSTEMS = ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'untrained-LR-2']


def simulated_fit(split, task, model, fraction, seed, y, stay_ids):
    "One fit: row, predictions, weights; at 5 % and seed 0 a null model for MN-LR-1 and no fit for task A."
    r = seeded_rng('simulated', split, task, model, fraction, seed)
    few = fraction < 0.1 and seed == 0
    n = {'LR': 20, 'RNN-C': None, 'MN-LR-1': 8}.get(model, 16)
    reason = 'training labels: one class in the subset' if few and task == 'Phenotype A' else None
    zero = few and model == 'MN-LR-1'
    weight = None if n is None else r.normal(size=n) * (r.random(n) < 0.5) * (not zero)
    p = (
        np.full(len(y), 0.2)
        if zero
        else 1
        / (
            1
            + np.exp(
                1 - (1 + fraction) * y - seeded_rng('shared', task).normal(size=len(y)) - 0.5 * r.normal(size=len(y))
            )
        )
    )
    key = dict(split=split, task=task, model=model, fraction=fraction, seed=seed)
    fit = (
        key
        | dict(
            task_kind='mortality' if task == 'Mortality' else 'phenotype',
            n_train=int(150 * fraction),
            n_val=int(40 * fraction),
            n_positive=int(30 * fraction),
            n_val_positive=int(8 * fraction),
            hidden=8,
            lambda_literal=1.0,
            n_features=n,
            n_near_zero=None if n is None else int((abs(weight) < 0.001).sum()),
            seconds=0.1,
            reason=reason,
        )
        | {'lambda': 0.1}
    )
    if reason:
        return fit | dict(n_features=None, n_near_zero=None), None, None
    return (
        fit,
        pd.DataFrame(key | dict(stay_id=stay_ids, y=y, p=p)),
        None
        if n is None
        else pd.DataFrame(dict(task=task, model=model, feature=[f'z2[{i}]' for i in range(n)], weight=weight)),
    )


def simulated_path(fit):
    "The path of a linear fit: weights leave one by one, and the literal rule prefers the empty end."
    n = int(fit['n_features'])
    at = np.array([0.1, 1.0, 10.0, 1e4])
    zeros = np.array([fit['n_near_zero'], min(n, fit['n_near_zero'] + 2), n - 1, n])
    return pd.DataFrame(
        {
            'task': fit['task'],
            'model': fit['model'],
            'lambda': at,
            'val_nll': fit['n_val'] * np.array([0.4, 0.5, 0.55, 0.6]),
            'n_near_zero': zeros.astype(int),
        }
    )


def simulated_run(run, n=300, profile='quick', systems=FIVE_SYSTEMS, seeds=None, paths=False):
    "A run folder as the earlier steps leave it, with invented predictions."
    seeds = seeds or {0.05: 2, 1.0: 1}  # fraction -> label subsets
    prepared = run_data(toy_cohort(n), run)
    test = prepared.stays.iloc[prepared.rows('test')]
    for split, targets in TARGETS.items():
        for fraction, draws in seeds.items():
            for seed in range(draws):
                folder = run / f'split-{split}' / f'fraction-{fraction:g}' / f'seed-{seed}'
                folder.mkdir(parents=True)
                made = zip(
                    *(
                        simulated_fit(split, t, m, fraction, seed, test[t].to_numpy(), test['stay_id'].to_numpy())
                        for t in targets + ['Mortality']
                        for m in systems
                    )
                )
                tables = dict(zip(('fits', 'predictions', 'weights'), made))
                if paths:
                    tables['path'] = [
                        simulated_path(f) for f, w in zip(tables['fits'], tables['weights']) if w is not None
                    ]
                for name, rows in tables.items():
                    (
                        pd.DataFrame(rows) if name == 'fits' else pd.concat([x for x in rows if x is not None])
                    ).to_parquet(folder / f'{name}.parquet', index=False)
    (run / 'manifest.json').write_text(json.dumps(dict(profile=profile)))
    return run


ALL_SYSTEMS = [
    *SYSTEMS,
    'MN-LR-2:cv',
    'MN-LR-2:literal',
    'MN-LR-2:full-val',
    'LR:cv',
    'RNN-C:full-val',
    'MN-LR-2@1',
    'MN-LR-2@2',
    'of my own',
]


@cache
def evaluated_run(folder):
    "A run of five systems, evaluated; its stays have numbers that nothing else has."
    run = simulated_run(folder / 'simulated-run')
    for f in [run / 'data' / 'stays.parquet', run / 'data' / 'statistics.parquet', *run.rglob('predictions.parquet')]:
        d = pd.read_parquet(f)
        d.assign(stay_id=d['stay_id'] + 7_310_000_000).to_parquet(f, index=False)
    return run, run_evaluate(run, replicates=60)


@cache
def evaluated_crowd(folder):
    "A run of all systems, some with another selection criterion, evaluated."
    run = simulated_run(folder / 'simulated-crowd', n=220, systems=ALL_SYSTEMS, seeds={0.05: 2, 1.0: 2}, paths=True)
    return run, run_evaluate(run, replicates=30)


@pytest.fixture(scope='session')
def done(tmp_path_factory):
    "Run folder and evaluation of five systems."
    return evaluated_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope='session')
def crowd(tmp_path_factory):
    "Run folder and evaluation of all systems."
    return evaluated_crowd(tmp_path_factory.getbasetemp())


@pytest.fixture(scope='session')
def page(done):
    "The report of the five systems."
    return (done[0] / 'report.html').read_text(encoding='utf-8')
