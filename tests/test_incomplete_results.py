"What a report says where fits are missing: of a kind of task, of a task, of a draw, or of a fraction of the labels."

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fastcore.xml import to_xml

from rnn_transfer.evaluation import (
    calibration,
    claims,
    controls,
    differences,
    hospitals,
    label_notes,
    labels_saved,
    learning_curves,
    report,
    stability,
    subgroups,
    variance,
)
from rnn_transfer.evaluation.run_folder import describe_missing_steps
from rnn_transfer.evaluation.source_tables import system_tables
from rnn_transfer.evaluation.three_sources import difference_interval, three_source_frame
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.evaluation.verdict_stability import resample_run
from rnn_transfer.utilities.seeds import seeded_rng

SECTIONS = [
    *(calibration, claims, controls, differences, label_notes, labels_saved),
    *(learning_curves, stability, subgroups, variance),
]
SKILLS = {'LR': 0.4, 'RNN-C': 0.5, 'MN-LR-1': 0.7, 'MN-LR-2': 0.9}


def without_fits(ev, where):
    "The same evaluation, in which these fits failed."
    auroc = ev.results['auroc'].mask(where)
    values = {metric: np.where(where.to_numpy()[:, None], np.nan, found) for metric, found in ev.values.items()}
    return replace(ev, results=ev.results.assign(auroc=auroc, reason=np.where(where, 'one class', None)), values=values)


def keep_fits(ev, keep):
    "The same evaluation of some of its fits."
    rows = np.flatnonzero(keep)
    values = {metric: found[rows] for metric, found in ev.values.items()}
    return replace(
        ev,
        results=ev.results.iloc[rows].reset_index(drop=True),
        values=values,
        predicted=lambda wanted: ev.predicted(rows[np.asarray(wanted)]),
    )


def between_sites(ev):
    "The same evaluation as of a run from hospital A to hospital B."
    design = dict(given=False, sites=[['A'], ['B']], hours=24)
    return replace(ev, info=ev.info | dict(roles='Pre-training saw A.', same_tasks=True, design=design))


@pytest.fixture(scope='module')
def full():
    return toy_evaluation(SKILLS, fractions=(0.1, 0.2, 1.0), seeds=3, replicates=50)


@pytest.mark.parametrize('section', SECTIONS, ids=lambda module: module.__name__.rpartition('.')[2])
def test_sections_of_runs_in_which_a_kind_or_a_fraction_failed(full, section):
    r = full.results
    section.section(without_fits(full, r['task_kind'] == 'mortality'))
    section.section(keep_fits(full, ~(r['model'].str.startswith('MN') & (r['fraction'] < 1))))
    section.section(keep_fits(full, ~(r['model'].isin(['LR', 'RNN-C']) & (r['fraction'] == 1))))


def test_between_sites_a_kind_without_a_value_has_an_empty_panel(full):
    ev = between_sites(without_fits(full, full.results['task_kind'] == 'mortality'))
    found = hospitals.section(ev)
    assert 'hospitals_curves' in found.names
    assert set(found['hospitals_systems'].frame['task_kind']) == {'phenotype'}


def test_between_sites_no_curve_is_shown_where_none_of_its_systems_was_run():
    ev = between_sites(toy_evaluation({'MN-LR-1': 0.9, 'untrained-LR-2': 0.3}, seeds=5, replicates=50))
    assert not {'hospitals_curves', 'hospitals_systems'} & set(hospitals.section(ev).names)
    assert list(hospitals.curve_frame(ev)) == hospitals._CURVE_COLUMNS
    names = hospitals.section(between_sites(toy_evaluation({'LR:ridge': 0.4, 'zero-shot-LR': 0.5}))).names
    assert 'hospitals_systems' in names and 'hospitals_curves' not in names


@pytest.fixture(scope='module')
def hard():
    "Three phenotypes, of which one is harder and lacks a draw at 10 %; no model is null."
    kinds = dict(Shock='phenotype', Sepsis='phenotype', Kidney='phenotype', Mortality='mortality')
    ev = toy_evaluation({'LR': 0.4, 'MN-LR-2': 0.9}, fractions=(0.1, 1.0), seeds=10, replicates=50, kinds=kinds, n=160)
    r = ev.results.assign(n_features=10.0, n_near_zero=5.0)
    few = (r['task'] == 'Sepsis') & (r['fraction'] == 0.1)
    r['auroc'] -= 0.2 * few
    values = {metric: found - 0.2 * few.to_numpy()[:, None] for metric, found in ev.values.items()}
    return without_fits(replace(ev, results=r, values=values), few & (r['seed'] == 3))


def test_estimate_and_fitted_models_are_of_the_same_tasks(hard):
    row = three_source_frame(hard, 'phenotype').set_index(['model', 'fraction']).loc[('LR', 0.1)]
    r = hard.results.query("model == 'LR' and fraction == 0.1 and task in ('Shock', 'Kidney')")
    weight = r['task'].map({task: hard.positives[task][0] for task in ('Shock', 'Kidney')})
    assert row['fitted'] == pytest.approx(np.average(r['auroc'], weights=weight))
    assert row['estimate'] == pytest.approx(row['fitted'], abs=2e-3)  # by way of the logit scale
    assert row['patients_value'] < row['estimate'] - 0.02
    assert (row['n_tasks'], row['n_tasks_incomplete']) == (2, 1)
    note = system_tables(hard, 'phenotype')[0].note
    assert 'Up to 1 tasks of a row lack a fit and take no part in its estimate' in note


def test_draws_that_failed_for_every_task_are_counted(hard):
    lost = (hard.results['task'] == 'Mortality') & (hard.results['fraction'] == 0.1) & (hard.results['seed'] < 3)
    ev = without_fits(hard, lost & (hard.results['model'] == 'MN-LR-2'))
    rows = three_source_frame(ev, 'mortality').set_index(['model', 'fraction'])
    assert rows.loc[('MN-LR-2', 0.1), ['n_draws', 'n_draws_failed']].tolist() == [7, 3]
    assert rows.loc[('LR', 0.1), ['n_draws', 'n_draws_failed']].tolist() == [10, 0]
    assert difference_interval(ev, 'MN-LR-2', 'LR', 'mortality', 0.1).n_draws == 7
    assert 'Up to 3 draws of a row failed for every task' in system_tables(ev, 'mortality')[0].note


def test_draws_that_failed_do_not_make_a_run_large_enough(full):
    ev = toy_evaluation(SKILLS | {f'MN-LR-2@{k}': 0.9 for k in (1, 2)}, fractions=(0.1,), seeds=6, replicates=20)
    assert label_notes.describe_exploratory(ev) == ''
    lost = without_fits(ev, (ev.results['model'] == 'RNN-C') & (ev.results['seed'] < 4))
    assert re.search('2 of 5 draws', label_notes.describe_exploratory(lost))


def test_resampled_runs_have_the_tasks_of_the_run(hard):
    tasks = three_source_frame(hard, 'phenotype')['n_tasks'].tolist()
    for i in range(5):
        again = resample_run(hard, seeded_rng('tasks', i), 20)
        missing = hard.results['auroc'].isna()
        assert again.results['auroc'].isna()[missing].all()
        assert three_source_frame(again, 'phenotype')['n_tasks'].tolist() == tasks


def test_efficiency_counts_no_null_model_where_nothing_was_run_with_fewer_labels(full):
    r = full.results
    ev = keep_fits(full, ~(r['model'].str.startswith('MN') & (r['fraction'] < 1)))
    frame = labels_saved.efficiency_frame(ev)
    assert isinstance(frame, pd.DataFrame) and (frame['n_null'] == 0).all()


def test_the_largest_fraction_is_called_all_labels_only_where_it_is():
    skills = {'LR': 0.4, 'MN-LR-2': 0.9, 'RNN-C': 0.5}
    for fractions, words in ((0.05, 0.2), '20 % of the labels'), ((0.05, 1.0), 'all labels'):
        found = hospitals.section(between_sites(toy_evaluation(skills, fractions, seeds=5, replicates=50)))
        assert found['hospitals_labels'].shown['reaches'].str.endswith(f' with {words}').all()


def test_a_report_says_which_planned_steps_are_not_there(full, tmp_path):
    names = [f'split-0/fraction-{f}/seed-{k}' for f in (0.1, 1) for k in (0, 1)]
    (tmp_path / names[0]).mkdir(parents=True)
    (tmp_path / names[0] / 'predictions.parquet').touch()
    ev = replace(full, folder=tmp_path)
    assert 'Not finished' not in to_xml(report._notices(ev))  # nothing says what was planned
    steps = ['data', 'split-0/pretrain', *names, 'evaluate']
    (tmp_path / 'manifest.json').write_text(json.dumps(dict(steps=dict.fromkeys(steps, 'k'))))
    sentence = '3 of 4 planned transfer steps are not there; all numbers are of the others.'
    assert describe_missing_steps(tmp_path) == sentence and sentence in to_xml(report._notices(ev))
    (tmp_path / 'manifest.json').write_text(json.dumps(dict(steps=['data', names[0]])))
    assert describe_missing_steps(tmp_path) == ''
