"Evaluations: averages and differences of a toy evaluation by plain loops, formats, and what a run folder holds."

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_transfer.evaluation.captions import data_caption
from rnn_transfer.evaluation.formats import (
    SYSTEM_GROUPS,
    display_group,
    display_order,
    format_column,
    format_estimate,
    format_percent,
    sort_systems,
)
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.measures import auroc
from rnn_transfer.evaluation.results import Evaluation, nested_mean
from rnn_transfer.evaluation.run_folder import (
    PREDICTION_SCHEMA,
    PredictionFolder,
    align_predictions,
    planned_step_folders,
    prediction_folders,
    prediction_reader,
    read_manifest,
    read_step_table,
)
from rnn_transfer.evaluation.scoring import EXTRA_COLUMNS, RESULT_COLUMNS
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.learning.systems import SELECTION_CRITERIA, SYSTEMS, SystemId, parse_model
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.seeds import seeded_rng

KINDS = dict(Shock='phenotype', Sepsis='phenotype', Death='mortality')


@pytest.fixture
def ev():
    "Two systems, three seeds, two splits; one fit is missing."
    ev = toy_evaluation({'LR': 0.4, 'MN-LR-2': 0.9}, seeds=3, splits=2, kinds=KINDS, replicates=30)
    r = ev.results
    gone = r['task'].eq('Sepsis') & r['seed'].eq(1) & r['split'].eq(0) & r['model'].eq('LR')
    r.loc[gone, 'auroc'] = np.nan
    return ev


# ---------------------------------------------------------------- averages


def plain_average(ev, fits, column):
    "Seeds, tasks weighted by positives, splits: in loops."
    splits = []
    for _, of_split in fits.groupby('split'):
        numbers, weights = [], []
        for task, of_task in of_split.groupby('task'):
            numbers.append(np.mean([ev.values['auroc'][i, column] for i in of_task.index]))
            weights.append(ev.positives[task][column])
        splits.append(np.average(numbers, weights=weights))
    return np.mean(splits)


@pytest.mark.parametrize('column', [0, 1, 7])
def test_averages_equal_loops(ev, column):
    fits = ev.results.query("model == 'LR' and fraction == .1 and task_kind == 'phenotype'").dropna(subset='auroc')
    rows = ev.rows_with(model='LR', fraction=0.1, task_kind='phenotype')
    assert rows.tolist() == fits.index.tolist()
    assert ev.average(rows)[column] == pytest.approx(plain_average(ev, fits, column))
    assert ev.average(rows, only=1) == ev.average(rows)[:1]


def test_a_row_of_averages_counts_its_fits(ev):
    row = ev.averages().query("model == 'LR' and fraction == .1 and task_kind == 'phenotype'").iloc[0]
    assert row[['n_seeds', 'n_splits', 'n_tasks', 'n_fits', 'n_missing']].tolist() == [3, 2, 4, 12, 1]
    by_seed = [
        ev.average(ev.rows_with(model='LR', fraction=0.1, task_kind='phenotype', seed=k), only=1)[0] for k in range(3)
    ]
    assert row['seed_sd'] == pytest.approx(np.std(by_seed, ddof=1)) and row['reason'] is None
    assert ev.averages() is ev.averages()


def test_averages_of_nothing_are_null_with_a_reason(ev):
    ev.results.loc[ev.results['model'] == 'LR', 'auprc'] = np.nan
    found = ev.averages('auprc').query("model == 'LR'")
    assert found['value'].isna().all() and set(found['reason']) == {'no fit has a defined value'}
    assert (found['n_missing'] == found['n_fits']).all()


def test_too_many_undefined_replicates_are_the_reason_for_no_interval(ev):
    ev.values['auroc'][:, 1:20] = np.nan
    found = ev.averages()
    assert found['value'].notna().all() and found['low'].isna().all()
    assert set(found['reason']) == {'interval: 19 of 30 replicates undefined'}
    assert set(ev.compare('LR', 'MN-LR-2')['reason']) == {'interval: 19 of 30 replicates undefined'}


def test_one_weight_for_all_tasks_is_the_macro_average():
    r = seeded_rng('nested')
    values, split, task = r.random((12, 5)), np.repeat([0, 1], 6), np.tile(['a', 'b', 'c'], 4)
    assert nested_mean(values, split, task, np.full((12, 5), 7.0)) == pytest.approx(nested_mean(values, split, task))
    assert nested_mean(values, split, task) == pytest.approx(values.mean(0))


# ---------------------------------------------------------------- differences


def test_differences_are_over_what_both_models_have(ev):
    row = ev.compare('MN-LR-2', 'LR').query("fraction == .1 and task_kind == 'phenotype'").iloc[0]
    assert row['n_pairs'] == 11 and row['n_seeds'] == 3
    back = ev.compare('LR', 'MN-LR-2').query("fraction == .1 and task_kind == 'phenotype'").iloc[0]
    assert [row['difference'], row['low'], row['high']] == pytest.approx(
        [-back['difference'], -back['high'], -back['low']]
    )


def test_differences_of_tasks_keep_to_shared_seeds(ev):
    found = ev.compare_tasks('MN-LR-2', 'LR', 0.1).set_index(['split', 'task'])
    assert found.loc[(0, 'Sepsis'), 'n_seeds'] == 2 and found.loc[(1, 'Sepsis'), 'n_seeds'] == 3
    rows = {m: ev.rows_with(model=m, fraction=0.1, split=0, task='Sepsis') for m in ('LR', 'MN-LR-2')}
    both = rows['MN-LR-2'][[0, 2]]
    values = ev.values['auroc'][both].mean(0) - ev.values['auroc'][rows['LR']].mean(0)
    assert found.loc[(0, 'Sepsis'), 'difference'] == pytest.approx(values[0])
    assert found.loc[(0, 'Sepsis'), ['low', 'high']].tolist() == pytest.approx(percentile_interval(values)[:2])


def test_without_a_shared_fit_there_are_no_rows_but_all_columns(ev):
    ev.results.loc[ev.results['model'] == 'LR', 'auroc'] = np.nan
    assert len(ev.compare_tasks('MN-LR-2', 'LR', 0.1)) == 0 and 'difference' in ev.compare_tasks('MN-LR-2', 'LR', 0.1)
    assert ev.by_task().query("model == 'LR'")['auroc'].isna().all()


# ---------------------------------------------------------------- the toy evaluation


def test_a_toy_evaluation_is_the_same_twice_and_its_predictions_give_its_numbers():
    one, two = toy_evaluation(), toy_evaluation()
    pd.testing.assert_frame_equal(one.results, two.results, check_exact=True)
    for row, p in zip(one.results.itertuples(), one.predicted(list(range(len(one.results))))):
        assert auroc(one.labels[row.task], p) == row.auroc
    assert isinstance(one, Evaluation) and data_caption(one).startswith('Synthetic data')


def test_a_toy_evaluation_has_columns_of_the_contract():
    assert set(toy_evaluation().results) <= set(RESULT_COLUMNS + EXTRA_COLUMNS)


# ---------------------------------------------------------------- formats


@given(st.floats(-2, 2), st.booleans())
def test_an_estimate_reads_back(v, sign):
    text = format_estimate(v, sign=sign)
    assert float(text.replace('−', '-')) == pytest.approx(v, abs=0.0005 + 1e-12)
    assert not text.lstrip('+−').startswith('0.') and '-' not in text


def test_nulls_are_dashes_and_intervals_need_two_ends():
    df = pd.DataFrame(dict(value=[0.5, np.nan, 0.5], low=[0.4, 0.4, np.nan], high=[0.6, 0.6, np.nan]))
    assert format_column(df) == ['.500 [.400, .600]', '–', '.500']
    assert format_column(df, 'value', sign=True) == ['+.500', '–', '+.500']
    assert [format_percent(f) for f in (0.01, 0.005, 1)] == ['1 %', '0.5 %', '100 %']


def test_every_system_is_in_one_group_and_sorts_by_it():
    shown = [name for systems in SYSTEM_GROUPS.values() for name in systems]
    assert sorted(shown) == sorted(SYSTEMS) and sort_systems(shown[::-1]) == shown
    names = [f'LR:{criterion}' for criterion in SELECTION_CRITERIA if criterion]
    assert sort_systems(names[::-1]) == names and {display_group(name) for name in names} == {'Selection criteria'}
    assert parse_model('LR:cv@2', check=False) == SystemId('LR:cv@2', 'LR', 'cv', 2)


def test_unknown_names_come_last_in_alphabetical_order():
    assert display_order(['z', 'b', 'a', 'b'], ['b']) == ['b', 'a', 'z']
    assert sort_systems(['mine', 'LR', 'her own', 'GBT']) == ['LR', 'GBT', 'her own', 'mine']


# ---------------------------------------------------------------- the run folder


@pytest.fixture
def run(tmp_path):
    "A run folder with two step folders, the larger fraction first in alphabetical order."
    for fraction in ('0.5', '0.05'):
        folder = tmp_path / 'split-0' / f'fraction-{fraction}' / 'seed-10'
        folder.mkdir(parents=True)
        p = float(fraction)
        table = pd.DataFrame(dict(task='Shock', model=['LR', 'GBT'], stay_id=1, y=1.0, p=[p, p / 2]))
        table.to_parquet(folder / 'predictions.parquet', index=False)
    return tmp_path


def test_folders_are_in_numerical_order_and_named(run):
    found = prediction_folders(run)
    assert [f.fraction for f in found] == [0.05, 0.5] and found[0][:3] == (0, 0.05, 10)
    assert isinstance(found[0], PredictionFolder) and found[0].path.is_dir()
    assert read_manifest(run) == {}


def test_folders_that_the_manifest_does_not_plan_do_not_count(run):
    step = 'split-0/fraction-0.5/seed-10'
    (run / 'manifest.json').write_text(json.dumps(dict(steps=[step])), encoding='utf-8')
    assert [f.path for f in prediction_folders(run)] == [run / step]
    assert planned_step_folders(run, 'split-*/pretrain') == []


def test_folders_of_another_plan_or_without_a_record_are_not_evaluated(run):
    steps = [f'split-0/fraction-{fraction}/seed-10' for fraction in ('0.05', '0.5')]
    (run / 'manifest.json').write_text(json.dumps(dict(steps=dict.fromkeys(steps, 'k'))), encoding='utf-8')

    def leave(name, key):
        (run / name / 'done.json').write_text(json.dumps(dict(key=key, parts={}, outputs={}, seen={})))

    leave(steps[0], 'k')
    with pytest.raises(BadInput, match='step split-0/fraction-0.5/seed-10 is not finished; .* --only split-0/frac'):
        prediction_folders(run)
    leave(steps[1], 'old')
    with pytest.raises(BadInput, match='fraction-0.5/seed-10 was made with other options, data or code'):
        prediction_folders(run)
    (run / 'manifest.json').write_text(json.dumps(dict(steps={steps[0]: 'k'})), encoding='utf-8')
    assert len(prediction_folders(run)) == 1, 'a folder that is not planned is no matter'
    (run / 'manifest.json').write_text(json.dumps(dict(steps=dict.fromkeys(steps, 'combined'))), encoding='utf-8')
    assert len(prediction_folders(run)) == 2


def test_predictions_are_read_when_they_are_wanted_and_kept(run):
    folders = [f.path for f in prediction_folders(run)]
    results = pd.DataFrame(dict(task='Shock', model=['LR', 'GBT', 'RNN-C', 'LR']))
    predicted = prediction_reader(results, folders[:1] * 3 + folders[1:], pd.DataFrame(dict(stay_id=[1], Shock=[1.0])))
    first = predicted([0, 2, 3])
    assert first.dtype == np.float32 and first[[0, 2], 0].tolist() == pytest.approx([0.05, 0.5])
    assert np.isnan(first[1]).all()
    (folders[0] / 'predictions.parquet').unlink()
    assert predicted([0])[0, 0] == first[0, 0]
    with pytest.raises(FileNotFoundError):
        predicted([1])


def test_a_table_says_which_column_is_missing(run):
    path = prediction_folders(run)[0].path
    table = read_step_table(path, 'predictions', PREDICTION_SCHEMA)
    table.drop(columns='p').to_parquet(path / 'predictions.parquet', index=False)
    with pytest.raises(BadInput, match='column p is missing'):
        read_step_table(path, 'predictions', PREDICTION_SCHEMA)


@pytest.mark.parametrize(
    'change,message',
    [
        (dict(stay_id=[10, 99]), 'example: row 1 name stays outside the test partition'),
        (dict(stay_id=[10, 10]), 'example: row 1 repeat a stay'),
        (dict(y=[1.0, 1.0]), "example: row 1 have a label that is not the cohort's"),
        (dict(p=[1.5, 0.5]), 'example: row 0 have no probability between 0 and 1'),
    ],
)
def test_predictions_that_do_not_fit_are_rejected(change, message):
    found = pd.DataFrame(dict(stay_id=[10, 11], y=[1.0, 0.0], p=[0.5, 0.5])).assign(**change)
    with pytest.raises(BadInput, match=message):
        align_predictions(found, np.array([1.0, 0.0]), [10, 11], 'example')
