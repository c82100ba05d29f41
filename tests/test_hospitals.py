"Runs between hospitals: what pooled models may see, what the clock knows, the profile, one site left out at a time."

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sites import QUICK, pretrained, two_sites

from rnn_transfer.data import Cohort, run_data
from rnn_transfer.learning.features import feature_block
from rnn_transfer.learning.fits import labelled_rows
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer

POOLED = ['pooled-LR', 'pooled-GBT', 'pooled-RNN']


def run_pooled(cohort, folder, same_tasks=True, models=POOLED):
    "Pre-training and one transfer step; fits and the bytes of its tables."
    data, manifest = pretrained(cohort, folder, same_tasks=same_tasks, variants=())
    fits = run_transfer(folder, fraction=0.5, models=models, settings=QUICK)
    return data, manifest, fits, folder / 'split-0' / 'fraction-0.5' / 'seed-0'


def with_other_labels(cohort, rows, seed=1):
    "The same cohort with invented labels in some rows."
    stays, names = cohort.stays.copy(), [task.name for task in cohort.tasks]
    r = np.random.default_rng(seed)
    for name in names:
        stays.loc[rows, name] = (r.random(len(rows)) < 0.3).astype(float)
    return Cohort(cohort.events, stays, cohort.channels, cohort.tasks, cohort.meta)


# ---- pooled models


@pytest.fixture(scope='module')
def pooled():
    folder = Path(tempfile.mkdtemp())
    return run_pooled(two_sites(), folder)


def test_pooled_models_learn_the_same_tasks_alone(pooled):
    data, manifest, fits, _ = pooled
    reasons = fits.set_index(['task', 'model'])['reason']
    assert reasons[manifest['source']].isna().all()
    assert (reasons['Mortality'] == 'the source gives no label of this task').all()
    n_source = ((data.stays['site'] == 'A') & (data.stays['partition'] == 'train')).sum()
    rows = labelled_rows(data, manifest['source'][0], 0.5, 0)
    linear = fits[(fits['task'] == manifest['source'][0]) & (fits['model'] == 'pooled-LR')].iloc[0]
    assert linear['n_train'] == n_source + len(rows.train) and linear['n_val'] == len(rows.val)


def test_pooled_models_see_no_other_label(pooled, tmp_path, monkeypatch):
    "Garbage in labels of test stays, of site C, of val of the source and of stays not drawn changes no byte."
    data, manifest, _, step = pooled
    stays, drawn = data.stays, np.zeros(len(data.stays), bool)
    rows = {task: labelled_rows(data, task, 0.5, 0) for task in [*manifest['source'], 'Mortality']}
    for of_task in rows.values():
        drawn[of_task.labelled] = True
    learned_from = drawn | ((stays['site'] == 'A') & (stays['partition'] == 'train')).to_numpy()
    free = stays[~learned_from]
    assert {('test', 'B'), ('val', 'A'), ('train', 'C')} <= set(zip(free['partition'], free['site']))
    monkeypatch.setattr('rnn_transfer.transfer.labelled_rows', lambda data, task, *args: rows[task])
    other = run_pooled(with_other_labels(two_sites(), free.index), tmp_path)[3]
    one, two = (pd.read_parquet(folder / 'predictions.parquet').drop(columns='y') for folder in (step, other))
    pd.testing.assert_frame_equal(one, two)
    assert (step / 'weights.parquet').read_bytes() == (other / 'weights.parquet').read_bytes()


def test_source_labels_do_reach_pooled_models(pooled, tmp_path):
    data, _, _, step = pooled
    is_source = np.flatnonzero((data.stays['site'] == 'A') & (data.stays['partition'] == 'train'))
    other = run_pooled(with_other_labels(two_sites(), data.stays.index[is_source]), tmp_path)[3]
    one, two = (pd.read_parquet(folder / 'predictions.parquet') for folder in (step, other))
    for model in POOLED:
        assert (one['p'][one['model'] == model].to_numpy() != two['p'][two['model'] == model].to_numpy()).any()


def test_held_out_phenotypes_are_not_pooled(tmp_path):
    fits = run_pooled(two_sites(), tmp_path, same_tasks=False, models=['pooled-LR'])[2]
    assert (fits['reason'] == 'the source gives no label of this task').all()


# ---- the clock


def test_the_clock_knows_no_more_than_the_window(tmp_path):
    cohort = toy_cohort(60)
    cohort.stays['los_hours'] = np.linspace(10, 200, 60)
    data = run_data(cohort, tmp_path)
    clock, names = feature_block(tmp_path, 0, data, 'clock')
    length, _ = feature_block(tmp_path, 0, data, 'length of stay')
    assert clock.max() == 48 and clock.min() == 10 and names == ['hours|clock']
    np.testing.assert_array_equal(length[:, 0], data.stays['los_hours'])
    np.testing.assert_array_equal(clock[:, 0], np.minimum(length[:, 0], 48))


@pytest.mark.parametrize('model', ['clock-LR', 'clock-LR:cv'])
def test_a_constant_clock_says_the_prevalence_to_everybody(pooled, model):
    folder = pooled[3].parents[2]
    run_transfer(folder, models=[model, 'length-of-stay-LR'], settings=QUICK)
    step = folder / 'split-0' / 'fraction-1' / 'seed-0'
    table = pd.read_parquet(step / 'predictions.parquet')
    for _, p in table[table['model'] == model].groupby('task')['p']:
        assert p.nunique() == 1
    assert table[table['model'] == 'length-of-stay-LR'].groupby('task')['p'].nunique().max() > 1
