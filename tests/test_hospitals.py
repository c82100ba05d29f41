"Runs between hospitals: what pooled models may see, what the clock knows, the profile, one site left out at a time."

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import in_this_process
from test_sites import A_TO_B, QUICK, pretrained, two_sites

from rnn_transfer.cohorts.channels import Task
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.data import Cohort, run_data
from rnn_transfer.evaluation.components import MIN_DRAWS
from rnn_transfer.evaluation.hospital_calibration import recalibration_frame
from rnn_transfer.evaluation.hospital_differences import differences_frame
from rnn_transfer.evaluation.hospitals import (
    curve_frame,
    figure_hospitals,
    judge_comparison,
    labels_saved_frame,
    read_hospital_rules,
    section,
)
from rnn_transfer.evaluation.three_sources import difference_interval, system_interval, system_sources
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment.commands import rnn_transfer_paper
from rnn_transfer.experiment.draws import count_draws
from rnn_transfer.experiment.each_site import leave_one_site_out, site_runs
from rnn_transfer.experiment.profiles import PROFILES, check_options
from rnn_transfer.experiment.run import describe_plan, run_experiment
from rnn_transfer.learning.features import feature_block
from rnn_transfer.learning.fits import labelled_rows
from rnn_transfer.learning.systems import CARRIED_SYSTEMS
from rnn_transfer.model import init_network, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

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


# ---- the profile


def test_the_profile_has_what_the_rules_compare_and_what_a_verdict_needs():
    rules, options = read_hospital_rules().table, PROFILES['hospitals']
    check_options(options)
    assert {*rules['model'], *rules['versus']} <= set(options['models'])
    assert set(rules['fraction']) <= set(options['fractions']) and options['hours'] == 24
    for fraction in (0.01, 0.05, 0.2):
        draws = count_draws(options, fraction)
        assert draws.linear >= 10 and draws.trained >= MIN_DRAWS
    for model in {*rules['model'], *rules['versus']}:
        if system_sources(model, 0.05).networks:
            assert {f'{model}@1', f'{model}@2'} <= set(options['models']), model
    assert len(CARRIED_SYSTEMS) == 4 and set(CARRIED_SYSTEMS) <= set(options['models'])
    others = [profile['models'] for name, profile in PROFILES.items() if name != 'hospitals']
    assert not set(CARRIED_SYSTEMS) & {model for models in others for model in models}


def test_the_rules_on_paper_are_the_rules_that_decide():
    text = (Path(__file__).parents[1] / 'docs' / 'rules' / 'hospitals-2026-11.md').read_text(encoding='utf-8')
    lines = [line.strip('|').split('|') for line in text.splitlines() if line.startswith('| ')]
    rows = [[cell.strip() for cell in line] for line in lines]
    written = [row for row in rows if len(row) == 6 and row[1] in ('primary', 'secondary')]
    table = read_hospital_rules().table
    shipped = table.assign(fraction=[f'{100 * f:g} %' for f in table['fraction']])
    columns = ['claim', 'status', 'task_kind', 'model', 'versus', 'fraction']
    assert written == shipped[columns].to_numpy().tolist()
    assert read_hospital_rules().sha256 == '4851c07e183ae68bb5233f936fb98585fec5e330ccb87b97dfcd5fb6956ffbde'


def test_a_run_with_the_profile_ends_in_the_section(tmp_path):
    "At toy size, from the command's options to the tables of the page."
    cohort = two_sites()
    cohort.tasks[-1] = Task('Mortality', 'other')
    cohort.save(tmp_path / 'cohort')
    options = dict(A_TO_B, hidden=[4], lr=0.05, max_updates=4, eval_every=2, fractions=[1.0], replicates=20)
    rules = read_hospital_rules().table
    models = sorted({*rules['model'], *rules['versus'], *PROFILES['hospitals']['models'][:4], 'shuffled-MN-LR-2'})
    options |= dict(hours=48, seeds=[1], linear_seeds=[], inits=0, variants=[], models=models)
    run = tmp_path / 'run'
    with in_this_process():
        run_experiment(cohort_folder := tmp_path / 'cohort', run, 'hospitals', progress=False, **options)
    assert '0 of' in describe_plan(cohort_folder, run, 'hospitals', options)
    fits = pd.read_csv(run / 'results.csv')
    learned = fits[(fits['task_kind'] == 'phenotype') & (fits['seed'] == 0)]
    assert learned['auroc'].notna().mean() > 0.9 and set(learned['model']) == set(models)
    tables = {file.stem for file in (run / 'tables').glob('hospitals_*.csv')}
    names = ('claims', 'systems', 'calibration')  # one fraction: no labels are saved
    assert tables == {f'hospitals_{name}' for name in names}
    claims = pd.read_csv(run / 'tables' / 'hospitals_claims.csv')
    assert set(claims['rules']) == {read_hospital_rules().sha256} and claims[['masks', 'clock']].shape == (13, 2)
    assert 'exploratory' in (run / 'report.html').read_text(encoding='utf-8')
    assert not (run / 'tables' / 'claims.csv').exists()  # the network has learned these tasks


# ---- verdicts


@pytest.mark.parametrize(
    'estimate, low, high, says',
    [
        (0.02, 0.001, 0.04, 'supports'),
        (0.0099, 0.005, 0.015, 'open'),
        (0.01, 0.0, 0.02, 'open'),
        (0.0, -0.02, 0.0099, 'contradicts'),
        (0.005, 0.001, 0.009, 'contradicts'),
        (0.0, -0.02, 0.01, 'open'),
        (0.3, np.nan, np.nan, 'no interval'),
    ],
)
def test_what_a_comparison_says(estimate, low, high, says):
    assert judge_comparison(estimate, low, high) == says
    assert judge_comparison(estimate, low, high, 'too few') == 'too few'


# ---- labels saved, and calibration

EVERY = {'LR': 0.4, 'RNN-C': 0.3, 'GBT': 0.6, 'MN-LR-2': 0.9, 'MN-FT': 1.2, 'zero-shot': 1.0}
EVERY |= {'pooled-LR': 0.7, 'pooled-GBT': 0.8, 'pooled-RNN': 1.1, 'recalibrated': 1.0}
EVERY |= dict.fromkeys(['zero-shot-LR', 'recalibrated-LR'], 0.5) | dict.fromkeys(['zero-shot-GBT'], 0.6)


@pytest.fixture(scope='module')
def every():
    "Invented results of every system of the two tables; pooled ones count the 5,000 stays of the source too."
    ev = toy_evaluation(EVERY, (0.05, 0.2, 1.0), seeds=2, n=160)
    pooled = ev.results['model'].str.startswith('pooled')
    ev.results.loc[pooled, 'n_train'] += 5000
    ev.info['roles'] = 'Pre-training saw stays of A alone.'
    return ev


def test_labels_saved_of_trees_fine_tuning_and_both_sites(every):
    d = labels_saved_frame(every)
    alone, both, network = ['LR', 'RNN-C', 'GBT'], ['pooled-LR', 'pooled-GBT', 'pooled-RNN'], ['MN-LR-2', 'MN-FT']
    expected = {(a, 'zero-shot') for a in [*alone, 'MN-FT', *both]}
    expected |= {(a, b) for a in [*network, *both] for b in alone} | {(a, b) for a in network for b in both}
    assert set(zip(d['model'], d['versus'])) == expected and len(d) == len(expected)
    reached = d[d['labels'].notna()]
    assert set(both) <= set(reached['model'])
    for row in reached.itertuples():  # 4 · 160 stays of the new site, whoever learned from those of the source too
        assert row.labels == pytest.approx(row.needed.amount * 640)
    assert 'those of the source too' in section(every)['hospitals_labels'].note


def test_calibration_of_trees_fine_tuning_and_both_sites(every):
    d = recalibration_frame(every)
    assert set(d['model']) == set(EVERY) and len(d) == 3 * len(EVERY)
    for row in d.query('fraction == 1').itertuples():
        fits = every.results.query('model == @row.model and fraction == 1')
        rows, y = fits.index.to_numpy(), [every.labels[task] for task in fits['task']]
        squares = [(p.astype(float) - y) ** 2 for p, y in zip(every.predicted(rows), y)]
        by_task = pd.DataFrame(squares).groupby(fits['task'].to_numpy()).mean().mean()
        weights = every.bootstrap.weights
        brier = weights @ by_task.to_numpy() / weights.sum(1)
        assert row.brier == pytest.approx(brier[0], abs=1e-6)
        ends = np.percentile(brier[1:], [2.5, 97.5])
        assert [row.brier_low, row.brier_high] == pytest.approx(list(ends), abs=1e-6)
    note = section(every)['hospitals_calibration'].note
    assert 'over patients alone, whether a system has one network or several' in note


def test_what_needs_no_label_has_one_row_of_calibration(every):
    shown = section(every)['hospitals_calibration'].shown.groupby('System')['Labels'].agg(list)
    for model in ('zero-shot', 'zero-shot-LR', 'zero-shot-GBT'):
        assert shown[model] == ['none']
    assert shown['recalibrated-LR'] == shown['MN-LR-2'] == ['5 %', '20 %', '100 %']
    order = list(dict.fromkeys(section(every)['hospitals_calibration'].shown['System']))
    assert order[:4] == ['zero-shot', 'recalibrated', 'zero-shot-LR', 'recalibrated-LR']


def test_calibration_is_shown_where_statistics_alone_were_carried_over():
    ev = toy_evaluation({'LR': 0.4, 'zero-shot-LR': 0.5, 'recalibrated-LR': 0.5})
    ev.info['roles'] = 'Pre-training saw stays of A alone.'
    shown = section(ev)['hospitals_calibration'].shown
    assert shown['System'].tolist()[0] == 'zero-shot-LR' and 'the classifier of the network' in str(section(ev).items)


# ---- systems of the table, and differences that no rule asks for

FINE = {'LR:fine': 0.4, 'LR:ridge': 0.5, 'MN-LR-2:fine': 0.9, 'MN-LR-2:ridge': 0.8, 'untrained-LR-2:fine': 0.3}
FINE |= {'untrained-LR-2': 0.3, 'pooled-RNN': 1.2, 'zero-shot': 0.9, 'zero-shot-LR': 0.5, 'zero-shot-GBT': 0.6}


@pytest.fixture(scope='module')
def fine():
    ev = toy_evaluation(FINE, (0.05, 1.0), seeds=2)
    ev.info['roles'] = 'Pre-training saw stays of A alone.'
    return ev


def test_the_table_has_systems_that_the_figure_has_not(fine):
    d = curve_frame(fine)
    assert set(d['model']) == set(FINE) - {'untrained-LR-2'}  # plain, where it was run with the fine grid
    for row in d.itertuples():
        found = system_interval(fine, row.model, row.task_kind, row.fraction)
        assert row.value == found.estimate and [row.low, row.high] == pytest.approx(list(found.interval), nan_ok=True)
    labels = {text.get_text() for text in figure_hospitals(fine, d).axes[0].texts}
    assert {'MN-LR-2:fine', 'LR:fine', 'pooled-RNN', 'zero-shot'} <= labels
    assert not {'untrained-LR-2:fine', 'LR:ridge', 'MN-LR-2:ridge', 'zero-shot-LR', 'zero-shot-GBT'} & labels
    assert 'of the source alone' in section(fine)['hospitals_systems'].note
    without = toy_evaluation({'LR': 0.4, 'zero-shot': 0.9})
    without.info['roles'] = 'Pre-training saw stays of A alone.'
    assert 'of the source alone' not in section(without)['hospitals_systems'].note
    assert 'hospitals_differences' not in section(without).names


def test_differences_that_no_rule_asks_for(fine):
    d = differences_frame(fine)
    pairs = [('pooled-RNN', 'MN-LR-2:fine'), ('MN-LR-2:fine', 'LR:ridge'), ('MN-LR-2:ridge', 'LR:ridge')]
    pairs += [('zero-shot', 'zero-shot-LR'), ('zero-shot', 'zero-shot-GBT')]
    pairs += [('MN-LR-2:ridge', 'zero-shot'), ('MN-LR-2:ridge', 'zero-shot-GBT')]
    assert list(dict.fromkeys(zip(d['model'], d['versus']))) == pairs and len(d) == 2 * len(pairs)
    rules = read_hospital_rules().table
    assert not set(pairs) & set(zip(rules['model'], rules['versus']))
    r = fine.results
    average = (r['auroc'] * r['n_test_positive']).groupby([r['model'], r['fraction'], r['seed']]).sum()
    average /= r['n_test_positive'].groupby([r['model'], r['fraction'], r['seed']]).sum()
    for row in d.itertuples():
        one, two = (average[model, row.fraction] for model in (row.model, row.versus))
        if row.fraction < 1:  # with all labels, systems that draw nothing count once
            assert row.estimate == pytest.approx((one - two).mean())
        interval = difference_interval(fine, row.model, row.versus, row.task_kind, row.fraction).interval
        assert [row.low, row.high] == pytest.approx(list(interval), nan_ok=True)
    table = section(fine)['hospitals_differences']
    assert 'Exploratory' in table.note and table.shown['Comparison'][0] == 'pooled-RNN − MN-LR-2:fine'
    assert table.shown['Difference in AUROC'].str.contains('too few draws').any()  # two draws, one network


# ---- one site left out at a time


def with_sites(*names, n=240):
    cohort = toy_cohort(n)
    cohort.stays['site'] = np.array(names)[cohort.stays['subject_id'] % len(names)]
    return cohort


def test_each_site_is_the_new_one_once(tmp_path, capsys):
    sites = ['a/1', 'b', 'c']
    with_sites(*sites).save(tmp_path / 'cohort')
    further = 'splits=1; n_held_out=2; max_updates=2; lr=.05; replicates=20; inits=0; variants=[]'
    further += "; models=['LR', 'MN-LR-2']"
    options = dict(cohort=str(tmp_path / 'cohort'), out=str(tmp_path / 'runs'), transfer_sites='each', hidden='4')
    with in_this_process():
        rnn_transfer_paper(**options, fractions='1', seeds='1', workers=1, set=further)
    said = capsys.readouterr().out
    assert 'pre-trained at the others' in said and '| mean |' in said
    assert (tmp_path / 'runs' / 'sites.md').read_text() in said
    assert 'Synthetic data (invented patients; shows nothing about medicine): toy; quick profile (' in said
    assert 'Exploratory. Each run has 1 of 3 networks: ' in said and ' (too few networks) |' in said
    table = pd.read_csv(tmp_path / 'runs' / 'sites.csv')
    assert set(table['site']) == set(sites) and set(table['task_kind']) == {'phenotype', 'mortality'}
    stays = pd.read_parquet(tmp_path / 'cohort' / 'stays.parquet')
    for site in sites:
        run = tmp_path / 'runs' / f'site-{site.replace("/", "%2F")}'
        roles = json.loads((run / 'manifest.json').read_text())['sites']
        assert roles['transfer'] == [site] and set(roles['pretrain']) == set(sites) - {site}
        n_test = ((stays['site'] == site) & (stays['partition'] == 'test')).sum()
        assert set(pd.read_csv(run / 'results.csv')['n_test']) == {n_test}
        mortality = pd.read_csv(run / 'results.csv').query('task == "Mortality" and model == "LR"')['auroc']
        here = table.query('site == @site and task_kind == "mortality" and model == "LR"')
        assert here['value'].item() == pytest.approx(mortality.item())


def test_sites_that_cannot_be_left_out(tmp_path, capsys):
    toy_cohort().save(tmp_path / 'cohort')
    with pytest.raises(SystemExit) as e:
        rnn_transfer_paper(cohort=str(tmp_path / 'cohort'), out=str(tmp_path / 'runs'), transfer_sites='each')
    assert e.value.code == 2 and 'no column site' in capsys.readouterr().err and not (tmp_path / 'runs').exists()
    cohort = with_sites('a/1', 'b', 'c', 'd', n=320)
    cohort.stays.loc[(cohort.stays['site'] == 'd') & (cohort.stays['partition'] == 'val'), 'partition'] = 'train'
    cohort.save(tmp_path / 'other')
    runs = site_runs(tmp_path / 'other', tmp_path / 'runs', {})
    assert list(runs) == ['a/1', 'b', 'c'] and runs['b'][1]['pretrain_sites'] == ['a/1', 'c', 'd']


def test_options_of_each_run_reach_it(tmp_path, capsys, monkeypatch):
    folder, calls = str(with_sites('a', 'b', 'c').save(tmp_path / 'cohort')), []
    options = dict(cohort=folder, out=str(tmp_path / 'runs'), transfer_sites='each', fractions='1', seeds='1')
    rnn_transfer_paper(**options, only='split-0/pretrain', dry_run=True)
    said = capsys.readouterr().out
    assert said.count('split-0/pretrain') == 3 and said.count('3 of 3 steps to do') == 3 and 'fraction-1' not in said
    monkeypatch.setattr('rnn_transfer.experiment.each_site.run_experiment', lambda *_, **given: calls.append(given))
    rnn_transfer_paper(**options, only='data', scheduler='tcp://127.0.0.1:9', dashboard=True)
    asked = dict(only='data', scheduler='tcp://127.0.0.1:9', dashboard=True)
    assert [{name: call[name] for name in asked} for call in calls] == [asked] * 3
    assert 'data: done at 3 sites' in capsys.readouterr().out and calls[0]['command'].startswith('rnn_transfer_paper ')


# ---- sites that fail, and sites with other tasks


def write_run(run, value, target, exploratory='', inconclusive='', **more):
    "What the summary reads of an evaluated run: MN-LR-2 on phenotypes and on mortality."
    cohort = dict(source='invented', synthetic=True)
    steps = {'split-0/pretrain': 'key'}
    manifest = dict(profile='quick', changed=[], cohort=cohort, exploratory_reason=exploratory, steps=steps, options={})
    manifest |= more
    (run / 'tables').mkdir(parents=True)
    (run / 'split-0' / 'pretrain').mkdir(parents=True)
    (run / 'manifest.json').write_text(json.dumps(manifest))
    split = dict(split=0, source=['Z'], target=target)
    (run / 'split-0' / 'pretrain' / 'split.json').write_text(json.dumps(split))
    rows = pd.DataFrame(dict(task_kind=['phenotype', 'mortality'], model='MN-LR-2', fraction=1.0, value=value))
    rows.assign(inconclusive=inconclusive).to_csv(run / 'tables' / 'hospitals_systems.csv', index=False)


@pytest.fixture
def each(tmp_path, monkeypatch):
    "Call leave_one_site_out on three sites with invented runs; the sites that ran."
    ran = []

    def call(targets, fails=(), **options):
        def run_one(cohort, run, **asked):
            site = asked['transfer_sites'][0]
            ran.append(site)
            if site in fails:
                raise BadInput(f'1 of 5 steps failed at {site}')
            roles = dict(pretrain=asked.get('pretrain_sites') or [], transfer=[site])
            write_run(run, [0.5 + 0.1 * len(ran), 0.9], targets[site], sites=roles)

        monkeypatch.setattr('rnn_transfer.experiment.each_site.run_experiment', run_one)
        numbers = dict(splits=1, n_held_out=2, low=0.0, high=1.0, min_test_positives=1, fractions=[1.0], seeds=[1])
        return leave_one_site_out(tmp_path / 'cohort', tmp_path / 'runs', **numbers | options)

    with_sites('a', 'b', 'c').save(tmp_path / 'cohort')
    return call, ran


def test_a_site_that_fails_stops_no_other(tmp_path, each):
    call, ran = each
    with pytest.raises(BadInput, match='^a: 1 of 5 steps failed at a\nc: 1 of 5 steps failed at c$'):
        call({site: ['X'] for site in 'abc'}, fails='ac')
    assert ran == ['a', 'b', 'c'] and set(pd.read_csv(tmp_path / 'runs' / 'sites.csv')['site']) == {'b'}
    text = (tmp_path / 'runs' / 'sites.md').read_text()
    assert 'Without a, which did not finish: 1 of 5 steps failed at a' in text and '| b | mean |' in text


def test_all_sites_are_checked_before_the_first_run(tmp_path, each, capsys):
    call, ran = each
    cohort = with_sites('a', 'b', 'c')
    names = [task.name for task in cohort.tasks if task.kind == 'phenotype']
    cohort.stays.loc[(cohort.stays['site'] == 'c') & (cohort.stays['partition'] == 'test'), names] = 0
    cohort.save(tmp_path / 'cohort')
    with pytest.raises(BadInput, match='^1 of 3 sites cannot run\na:\n(.*\n)+b:\n(.*\n)+c:\ncannot run: 2 held-out'):
        call({}, dry_run=True)
    assert not ran
    with pytest.raises(BadInput, match='^c: 2 held-out phenotypes, but only 0 of'):
        call({site: ['X'] for site in 'ab'})
    assert ran == ['a', 'b'] and 'note: c cannot run' in capsys.readouterr().err
    with pytest.raises(BadInput, match='^parameter n_held_out=0: expected a number above 0$'):
        call({}, n_held_out=0)
    with pytest.raises(BadInput, match='^a: 99 held-out .*\nb: 99 held-out .*\nc: 99 held-out'):
        call({}, n_held_out=99)
    assert ran == ['a', 'b']


def test_a_site_that_cannot_be_the_new_one_is_named(tmp_path, each, capsys):
    call, ran = each
    cohort = with_sites('a', 'b', 'c')
    cohort.stays.loc[(cohort.stays['site'] == 'c') & (cohort.stays['partition'] == 'test'), 'partition'] = 'train'
    cohort.save(tmp_path / 'cohort')
    words = 'Not tested, for a new site needs stays in train, val and test: c (no stay in test).'
    assert words in call({}, dry_run=True)
    assert words in call({site: ['X'] for site in 'ab'}) and ran == ['a', 'b']
    assert f'note: {words}' in capsys.readouterr().err
    assert words in (tmp_path / 'runs' / 'sites.md').read_text()


def test_there_is_no_mean_over_sites_that_hold_out_other_phenotypes(tmp_path, each):
    call, _ = each
    text = call(dict(a=['X', 'Y'], b=['X', 'Y'], c=['X', 'W']))
    assert 'a: X, Y; b: X, Y; c: W, X' in text and 'no mean over sites' in text
    assert 'Synthetic data' in text and 'quick profile' in text and 'Exploratory' not in text
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if 'MN-LR-2' in line]
    assert rows[0] == ['phenotype', 'MN-LR-2', '1', '0.600', '0.700', '0.800', '–', '0.600', '0.800', '3']
    assert rows[1] == ['mortality', 'MN-LR-2', '1', '0.900', '0.900', '0.900', '0.900', '0.900', '0.900', '3']


def test_the_mean_over_sites_with_the_same_phenotypes_is_theirs(each):
    call, _ = each
    text = call({site: ['X', 'Y'] for site in 'abc'})
    assert 'no mean over sites' not in text and '| 0.800 | 0.700 | 0.600 | 0.800 |' in text


@pytest.fixture
def network(tmp_path):
    "A network for the columns of the toy cohort, which has learned one phenotype."
    cohort, place = toy_cohort(240), tmp_path / 'net.safetensors'
    grid = cohort.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in cohort.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale, tasks=['Phenotype A'])
    return save_checkpoint(init_network(len(grid.columns), 4, 1, seed=0), place, **meta)


def test_a_given_network_is_tested_at_every_site(tmp_path, network, capsys):
    folder = str(with_sites('a', 'b').save(tmp_path / 'cohort'))
    options = dict(cohort=folder, out=str(tmp_path / 'runs'), transfer_sites='each', pretrained=str(network))
    options |= dict(fractions='1', seeds='1')
    rnn_transfer_paper(**options, profile='paper', dry_run=True)
    said = capsys.readouterr().out
    assert said.count('networks: 1\n') == 2 and said.count('exploratory: ') == 2 and '1 of 3 networks' in said
    with pytest.raises(SystemExit):
        rnn_transfer_paper(**options, pretrain_sites='a')
    assert 'leave out --pretrain-sites' in capsys.readouterr().err and not (tmp_path / 'runs').exists()
    with in_this_process():
        rnn_transfer_paper(**options, workers=1, set="replicates=20; variants=[]; models=['LR', 'MN-LR-2']")
    assert 'by the network that was given' in capsys.readouterr().out
    for site in 'ab':
        manifest = json.loads((tmp_path / 'runs' / f'site-{site}' / 'manifest.json').read_text())
        assert manifest['sites'] == dict(pretrain=[], transfer=[site], same_tasks=False)
        assert manifest['exploratory'] is True and '1 of 3 networks' in manifest['exploratory_reason']
    with_sites('a').save(tmp_path / 'alone')
    assert list(site_runs(tmp_path / 'alone', tmp_path, dict(pretrained=str(network)))) == ['a']


@pytest.mark.parametrize(
    ('asked', 'is_half'), [(['FROM=B'], True), (['TO=B'], True), (['FROM=', 'TO=each'], False), ([], False)]
)
def test_make_paper_needs_both_roles(asked, is_half):
    env = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'ARGS', 'FROM', 'TO')}
    command = ['make', '-n', 'paper', 'SOURCE=physionet2019', *asked]
    ran = subprocess.run(command, cwd=Path(__file__).parents[1], env=env, capture_output=True, text=True)
    assert (ran.returncode != 0) == is_half and ran.stderr.count('\n') == is_half
    assert (
        'FROM (sites of pre-training) and TO (sites of labels and tests) are needed together' in ran.stderr
    ) == is_half
