"The sections of the report: headline, differences and their tests, controls, variance, provenance."

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from simulated import *
from sklearn.metrics import roc_auc_score

from rnn_transfer.evaluation import claims, controls, labels_saved, learning_curves, provenance, variance
from rnn_transfer.evaluation.controls import control_frame, shuffled_frame
from rnn_transfer.evaluation.difference_tests import agreement_frame, auroc_influence, delong_average, four_tests_table
from rnn_transfer.evaluation.formats import SYSTEM_GROUPS, format_estimate
from rnn_transfer.evaluation.learning_curves import PANELS, curve_points, figure_2, headline_frame, select_panels
from rnn_transfer.evaluation.plotting import line_style
from rnn_transfer.evaluation.report import headline_text
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.source_tables import describe_sources
from rnn_transfer.evaluation.stability import shuffled_intervals
from rnn_transfer.evaluation.three_sources import system_rows, three_source_differences, three_source_frame
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.evaluation.variance import variance_frame
from rnn_transfer.learning.systems import SCORE_SYSTEMS, SYSTEMS
from rnn_transfer.utilities.ranking import delong
from rnn_transfer.utilities.seeds import seeded_rng


def test_missing_fits_are_counted_under_the_headline(done, page):
    run, ev = done
    last = headline_frame(ev, 'phenotype').iloc[
        -1
    ]  # task A has no fit at 5 % and seed 0: 5 systems, of 4 tasks x 2 seeds x 5
    assert list(last) == ['fits missing', '5 of 40', '0 of 20'] and 'fits missing' in headline_text(run)
    assert 'fits missing' not in set(headline_frame(ev, 'mortality')['Model'])
    curves = learning_curves.section(ev)
    notes = {name: curves[name].note for name in curves.names}
    assert (
        'Fits are missing at 5 % of the labels' in notes['headline_phenotype']
        and 'missing' not in notes['headline_mortality']
    )
    assert page.count('Fits are missing at 5 % of the labels') == 3  # the table, Figure 2(a) and the controls


def test_leakage_table_holds_planned_splits_only(done):
    run, ev = done
    plan = dict(steps={f'split-{s}/pretrain': '' for s in (0, 1)})
    for s in (0, 1, 2):
        (run / f'split-{s}' / 'pretrain').mkdir(parents=True)
        pd.DataFrame(dict(step=['all'], stays=[9])).to_csv(run / f'split-{s}' / 'pretrain' / 'flow.csv', index=False)
    before = (run / 'manifest.json').read_text()

    def splits():
        return set(provenance.section(replace(ev, folder=run))['leakage'].frame['split'])

    try:
        assert splits() == {0, 1, 2}
        (run / 'manifest.json').write_text(json.dumps(plan))
        assert splits() == {0, 1}
    finally:
        (run / 'manifest.json').write_text(before)
        for s in (0, 1, 2):
            shutil.rmtree(run / f'split-{s}' / 'pretrain')
        (run / 'split-2').rmdir()


def test_each_network_of_a_split_says_why_its_training_ended(done):
    run, ev = done
    before = (run / 'manifest.json').read_text()
    assert 'networks' not in provenance.section(replace(ev, folder=run)).names
    one = dict(val_loss=0.3, best_update=10, updates=20)
    nets = [one | dict(hidden=32, stopped='patience'), one | dict(hidden=64, stopped='max_updates', val_loss=0.2)]
    for s in (0, 1, 2):
        (run / f'split-{s}' / 'pretrain').mkdir(parents=True)
        (run / f'split-{s}' / 'pretrain' / 'split.json').write_text(
            json.dumps(
                {
                    'split': s,
                    'prevalence': {'A': 0.1},
                    'settings': {'lr': 1e-3},
                    'mimic-net': dict(hidden=64, networks=nets),
                    'masks-only': dict(hidden=64, networks=nets[1:]),
                }
            )
        )
    try:
        (run / 'manifest.json').write_text(json.dumps(dict(steps={f'split-{s}/pretrain': '' for s in (0, 1)})))
        table = provenance.section(replace(ev, folder=run))['networks']
        d = table.frame
        assert (
            d['split'].tolist() == [0] * 3 + [1] * 3
            and d['network'].tolist() == ['mimic-net', 'mimic-net', 'masks-only'] * 2
            and d['stopped'].tolist() == ['patience', 'max_updates', 'max_updates'] * 2
        )
        assert (
            d['chosen'].tolist() == [False, True, True] * 2
            and '4 of 6 trainings ended at the cap' in table.note
            and table.shown['Stopped by'].tolist()[:2] == ['patience', 'the cap on updates']
        )
    finally:
        (run / 'manifest.json').write_text(before)
        for s in (0, 1, 2):
            shutil.rmtree(run / f'split-{s}' / 'pretrain')
        (run / 'split-2').rmdir()


def test_core_hours_are_the_sums_of_the_steps_times(done, tmp_path):
    _, ev = done
    seconds = {'data': 36, 'split-0/pretrain': 7200, 'split-1/pretrain': 3600, 'split-0/fraction-0.05/seed-0': 1800}
    seconds |= {'split-0/fraction-0.05/seed-1': None, 'split-1/fraction-1/seed-0': 5400, 'evaluate': 999}
    for name, value in seconds.items():
        (tmp_path / name).mkdir(parents=True)
        record = dict(key='k', parts={}, outputs={}, seen={}) | ({} if value is None else dict(seconds=value))
        (tmp_path / name / 'done.json').write_text(json.dumps(record))
    plan = [*seconds, 'split-1/fraction-1/seed-1']  # the last is not finished
    (tmp_path / 'manifest.json').write_text(json.dumps(dict(steps=dict.fromkeys(plan, 'k'))))
    table = provenance.section(replace(ev, folder=tmp_path))['time']
    d = table.frame.set_index('kind')
    assert d['hours'].to_dict() == {'data': 0.01, 'pre-training': 3.0, 'transfer': 2.0, 'all': 5.01}
    assert d['steps'].to_dict() == {'data': 1, 'pre-training': 2, 'transfer': 4, 'all': 7}
    assert d['timed'].to_dict() == {'data': 1, 'pre-training': 2, 'transfer': 2, 'all': 5}
    assert d['longest_minutes'].to_dict() == {'data': 0.6, 'pre-training': 120, 'transfer': 90, 'all': 120}
    assert table.shown['Core hours'].tolist() == ['0.01', '3.00', '2.00', '5.01']
    for file in tmp_path.rglob('done.json'):
        file.write_text(json.dumps(dict(key='k', parts={}, outputs={}, seen={})))
    assert 'time' not in provenance.section(replace(ev, folder=tmp_path)).names


def test_every_system_is_explained_tabled_and_drawn(crowd):
    run, ev = crowd
    legend = provenance.section(replace(ev, folder=run))['systems'].shown
    shown = [m for m in headline_frame(ev, 'phenotype')['Model'] if not m.endswith(', given fitted models')]
    assert (
        set(legend['System']) == set(ALL_SYSTEMS) and (legend['What'] != 'not described').sum() == len(ALL_SYSTEMS) - 1
    )
    assert (
        shown[:4] == ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2']
        and not [m for m in shown if ':' in m or '@' in m]
        and set(SYSTEMS) - set(SCORE_SYSTEMS) == set(SYSTEMS) & set(shown)
    )
    assert set(SCORE_SYSTEMS) <= set(headline_frame(ev, 'mortality')['Model'])
    drawn = [*SYSTEM_GROUPS["The paper's"], *(m for names in PANELS.values() for m in names)]
    assert set(SYSTEMS) <= set(drawn) and max(map(len, PANELS.values())) <= 8
    for names in PANELS.values():
        assert len({line_style(m) for m in names}) == len(names)
    assert (
        list(select_panels(ALL_SYSTEMS)) == list(PANELS) and select_panels(['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2']) == {}
    )
    v = controls.section(ev)['variants_phenotype'].shown['Model'].tolist()
    assert v[1:3] == ['LR, given fitted models', 'LR, null models']
    assert v[::3] == [
        'LR',
        'LR:cv',
        'RNN-C',
        'RNN-C:full-val',
        'MN-LR-2',
        'MN-LR-2:literal',
        'MN-LR-2:cv',
        'MN-LR-2:full-val',
    ]


@pytest.fixture(scope='module')
def enough():
    "Six draws of three networks of MN-LR-2; MN-LR-1 has one network."
    skills = {'LR': 0.4, 'RNN-C': 0.3, 'MN-LR-1': 0.6, 'MN-LR-2': 0.5, 'MN-LR-2@1': 1.5, 'MN-LR-2@2': 1.6}
    return toy_evaluation(skills, seeds=6, n=200, kinds=dict(Shock='phenotype', Death='mortality'))


def test_figures_draw_all_networks_and_three_sources_where_the_run_has_them(enough):
    for kind in enough.kinds:
        points = curve_points(enough, kind).set_index(['model', 'fraction'])
        wanted = three_source_frame(enough, kind).set_index(['model', 'fraction'])
        headline = enough.averages().query('task_kind == @kind').set_index(['model', 'fraction'])
        for model in ('LR', 'RNN-C', 'MN-LR-2'):
            found = points.loc[(model, 0.1), ['value', 'low', 'high']].tolist()
            assert found == wanted.loc[(model, 0.1), ['estimate', 'low', 'high']].tolist()
        found = points.loc[('MN-LR-1', 0.1), ['value', 'low', 'high']].tolist()
        assert found == headline.loc[('MN-LR-1', 0.1), ['value', 'low', 'high']].tolist()
        assert points.query('patients_alone').index.tolist() == [('MN-LR-1', 0.1), ('MN-LR-1', 1.0)]
        first = headline.loc[('MN-LR-2', 0.1), 'value']
        assert points.loc[('MN-LR-2', 0.1), 'value'] > first + 0.05
        drawn = [line.get_ydata()[0] for line in figure_2(enough, kind).axes[0].lines]
        assert points.loc[('MN-LR-2', 0.1), 'value'] in drawn and first not in drawn


def test_the_table_over_three_sources_comes_first_and_captions_say_what_intervals_know(enough):
    section = learning_curves.section(enough)
    assert section.names == [
        *('sources_phenotype', 'figure_2a', 'headline_phenotype'),
        *('sources_mortality', 'figure_2b', 'headline_mortality'),
    ]
    assert section['headline_mortality'].title == 'In-hospital mortality, AUROC: first network, patients alone'
    assert section['headline_mortality'].note.startswith('First network, patients alone: intervals are over test')
    note = section['figure_2b'].note
    assert 'Bands are intervals over patients, draws of the labels and networks; over test patients alone' in note
    assert 'first network, where there are fewer than 5 draws or 3 networks (MN-LR-1 at 10 %, 100 %)' in note
    point = curve_points(enough, 'mortality').set_index(['model', 'fraction']).loc[('MN-LR-2', 1.0), 'value']
    assert f'MN-LR-2 {format_estimate(point)}' in section['figure_2b'].alt
    lines = headline_text(enough).splitlines()
    assert lines[0] == 'Held-out phenotypes, weighted AUROC: first network, patients alone'
    assert any('tables/sources_*.md' in line for line in lines)


def test_the_table_of_labels_saved_has_the_answer_of_the_claim_to_the_other_question():
    skills = {'LR': 0.4, 'RNN-C': 0.5, 'MN-LR-2': 0.7, 'MN-LR-2@1': 0.9, 'MN-LR-2@2': 0.8}
    ev = toy_evaluation(skills, (0.05, 0.2, 1.0), seeds=6, n=200)
    claim = claims.claims_table(ev).set_index('claim').loc['fewer labels']
    note = labels_saved.section(ev)['efficiency'].note
    assert 'asks another question' in note and 'interval over patients alone' in note
    assert f'patients, draws and networks: {claim["shown"]} ({claim["part"]}; λ: primary).' in note
    few = labels_saved.section(toy_evaluation(skills, (0.05, 1.0), seeds=4, n=200))['efficiency'].note
    assert '; λ: primary, too few draws or networks for a verdict).' in few
    learned = replace(ev, info=ev.info | dict(same_tasks=True))  # no claim is judged
    assert labels_saved.section(learned)['efficiency'].note.endswith('of 5 to 50 % of the labels.')
    without = toy_evaluation({'LR': 0.4, 'MN-LR-2': 0.7}, seeds=5)  # RNN-C was not run
    assert labels_saved.section(without)['efficiency'].note.endswith('of 5 to 50 % of the labels.')


def test_controls_are_averages_and_paired_differences(crowd):
    ev = crowd[1]
    cell = "task_kind == 'phenotype' and fraction == 1 and versus == 'masks-LR'"
    d = control_frame(ev).query(cell).iloc[0]
    own = three_source_frame(ev).query("task_kind == 'phenotype' and fraction == 1 and model == 'masks-LR'").iloc[0]
    pair = three_source_differences(ev, [('MN-LR-2', 'masks-LR')]).query(cell).iloc[0]
    assert (d['value'], d['estimate']) == (pytest.approx(own['estimate']), pair['estimate'])
    assert d['verdict'] == describe_sources(pair['low'], pair['high'], pair['inconclusive'])


def test_levels_and_differences_of_controls_agree_over_all_networks():
    """The first networks differ by less than the others: levels of the first alone would not fit the difference."""
    skills = {'MN-LR-2': 0.5, 'MN-LR-2@1': 1.5, 'MN-LR-2@2': 1.6, 'masks-LR': 0.2}
    skills |= {'untrained-LR-2': 0.4, 'untrained-LR-2@1': 0.1, 'untrained-LR-2@2': 0.1, 'masks-MN-LR-2': 0.3}
    ev = toy_evaluation(skills, seeds=6, n=200)
    d = control_frame(ev).set_index(['versus', 'fraction'])
    assert (d['model_value'] - d['value']).to_numpy() == pytest.approx(d['estimate'].to_numpy())
    row, r = d.loc[('untrained-LR-2', 0.1)], ev.results.query('fraction == .1')
    positives = {task: ev.positives[task][0] for task in r['task'].unique()}
    for column, name in (('model_value', 'MN-LR-2'), ('value', 'untrained-LR-2')):
        of_task = r[r['model'].str.startswith(name)].groupby('task')['auroc'].mean()
        assert row[column] == pytest.approx(np.average(of_task, weights=[positives[task] for task in of_task.index]))
    own = three_source_frame(ev).set_index(['model', 'fraction']).loc[('untrained-LR-2', 0.1)]
    assert (row['low_own'], row['high_own'], row['fitted']) == (own['low'], own['high'], own['fitted'])
    assert np.isnan(d.loc[('masks-MN-LR-2', 0.1), 'low_own'])  # one network: no interval
    of_first = ev.results.query("fraction == .1 and model == 'MN-LR-2'").groupby('task')['auroc'].mean()
    first = np.average(of_first, weights=[positives[task] for task in of_first.index])
    assert d.loc[('masks-MN-LR-2', 0.1), 'model_value'] == pytest.approx(first)  # the network that both have
    shown = controls.section(ev)['controls_phenotype'].shown.set_index('Control')
    (level,) = [c for c in shown if c.startswith('MN-LR-2, ') and '10 %' in c]
    (control,) = [c for c in shown if c.startswith('AUROC, ') and '10 %' in c]
    assert shown.loc['untrained-LR-2', level] == format_estimate(row['model_value'])
    assert shown.loc['untrained-LR-2', control] == format_estimate(*row[['value', 'low_own', 'high_own']])


def test_shuffled_labels_are_judged_over_permutations(crowd):
    ev = crowd[1]
    r = ev.results.query("model == 'shuffled-MN-LR-2' and auroc.notna()")
    d = shuffled_frame(ev)
    last = d.iloc[-1]
    units = r.groupby(['task', 'seed'])['auroc'].mean()
    oracle = ttest_1samp(units, 0.5).confidence_interval()
    assert (
        last['value'] == pytest.approx(units.mean())
        and (last['low'], last['high']) == pytest.approx(tuple(oracle))
        and last['n_permutations'] == 10
    )
    assert last['verdict'].startswith('above .5')  # these invented predictions know the labels
    r = r.assign(auroc=np.resize([0.48, 0.52], len(r)))
    honest = shuffled_frame(
        Evaluation(r.reset_index(drop=True), {m: v[r.index] for m, v in ev.values.items()}, ev.positives, ev.info)
    )
    assert honest.iloc[-1]['verdict'] == '.5 is within error'


def test_a_network_that_favours_one_side_is_chance_where_others_favour_the_other():
    skills = {'shuffled-MN-LR-2': 0.25, 'shuffled-MN-LR-2@1': -0.35, 'shuffled-MN-LR-2@2': -0.05}
    one, two, three = (
        toy_evaluation(dict(list(skills.items())[:n]), fractions=(0.05,), seeds=5, n=1000) for n in (1, 2, 3)
    )
    alone, pair, all_three = (shuffled_intervals(ev).iloc[0] for ev in (one, two, three))
    assert alone['low'] > 0.5 and all_three['low'] < 0.5 < all_three['high']
    assert pair['high'] - pair['low'] < 0.5 * (all_three['high'] - all_three['low'])  # two are too few to vary
    for ev, found in ((one, alone), (two, pair), (three, all_three)):
        assert found['value'] == pytest.approx(ev.average(np.arange(len(ev.results)))[0])
    oracle = three.results['auroc'].groupby([three.results['task'], three.results['seed']]).mean()
    assert shuffled_frame(three).iloc[0]['value'] == pytest.approx(oracle.mean())
    assert shuffled_frame(three).iloc[0]['n_permutations'] == len(oracle) == 10


def test_a_run_without_a_complete_task_has_intervals_of_shuffled_labels_over_draws():
    skills = {'shuffled-MN-LR-2': 0.2, 'shuffled-MN-LR-2@1': -0.3, 'shuffled-MN-LR-2@2': -0.05}
    ev = toy_evaluation(skills, fractions=(0.05,), seeds=5)
    r = ev.results
    lost = (r['model'] == 'shuffled-MN-LR-2@2') & (r['seed'] == (r['task'] == 'Shock').astype(int))
    r = r.assign(auroc=r['auroc'].where(~lost))
    d = shuffled_intervals(replace(ev, results=r))
    assert lost.sum() == 2 and len(d) == 1 and np.isfinite(d[['low', 'high']].to_numpy()).all()


def test_shuffled_labels_with_few_positives_have_no_interval_over_patients():
    ev = toy_evaluation({'shuffled-MN-LR-2': -0.05}, fractions=(0.05,), seeds=5, n=9)
    assert ev.has_few_positives(np.arange(len(ev.results)))
    assert shuffled_intervals(ev)[['patients_low', 'patients_high']].isna().all(axis=None)
    assert shuffled_frame(ev)[['patients_low', 'patients_high']].isna().all(axis=None)


def test_one_network_of_shuffled_labels_can_be_asked_for_alone():
    ev = toy_evaluation({'shuffled-MN-LR-2': 0.25, 'shuffled-MN-LR-2@1': -0.35}, fractions=(0.05,), seeds=5)
    rows = ev.rows_with(model='shuffled-MN-LR-2@1')
    assert system_rows(ev, 'shuffled-MN-LR-2@1').tolist() == rows.tolist()
    assert len(system_rows(ev, 'shuffled-MN-LR-2')) == 2 * len(rows)
    assert shuffled_intervals(ev, 'shuffled-MN-LR-2@1')['value'].item() == pytest.approx(ev.average(rows)[0])
    assert shuffled_frame(ev, 'shuffled-MN-LR-2@1').iloc[0]['n_fits'] == len(rows)


def test_sources_of_variance_are_standard_deviations(crowd):
    ev = crowd[1]
    d = variance_frame(ev, ['MN-LR-2']).query("task_kind == 'phenotype' and fraction == 1").iloc[0]
    w = {t: v[0] for t, v in ev.positives.items()}
    r = ev.results.query("task_kind == 'phenotype' and fraction == 1")

    def weighted(g):
        return np.mean(
            [
                np.average(s.groupby('task')['auroc'].mean(), weights=[w[t] for t in sorted(set(s['task']))])
                for _, s in g.groupby('split')
            ]
        )

    mine = r[r['model'] == 'MN-LR-2']

    def std(groups):
        return np.std([weighted(g) for _, g in groups], ddof=1)

    assert (
        d['labels'] == pytest.approx(std(mine.groupby('seed')))
        and d['splits'] == pytest.approx(std(mine.groupby('split')))
        and (d['n_labels'], d['n_weights'], d['n_splits']) == (2, 3, 2)
    )
    assert d['weights'] == pytest.approx(
        std(r[r['model'].isin(['MN-LR-2', 'MN-LR-2@1', 'MN-LR-2@2'])].groupby('model'))
    ) and d['value'] == pytest.approx(weighted(mine))
    assert d['patients'] == pytest.approx(np.std(ev.average(mine.index)[1:], ddof=1))


def test_the_untrained_network_is_among_the_sources_of_variance(crowd):
    models = set(variance_frame(crowd[1])['model'])
    assert models == {'MN-LR-2', 'RNN-C', 'LR', 'untrained-LR-2'}
    for note in (variance.section(crowd[1]).sentences, four_tests_table(crowd[1]).note):
        assert 'copies are not independent evidence' in note


def test_a_missing_fit_is_no_variance(crowd):
    ev = crowd[1]
    few = (
        variance_frame(ev, ['LR']).query("task_kind == 'phenotype' and fraction < .1").iloc[0]
    )  # task A has no fit at seed 0
    r = ev.results.query("task_kind == 'phenotype' and fraction < .1 and model == 'LR' and task != 'Phenotype A'")
    w = {t: v[0] for t, v in ev.positives.items()}

    def one(g):
        return np.mean([np.average(s['auroc'], weights=s['task'].map(w)) for _, s in g.groupby('split')])

    assert few['labels'] == pytest.approx(np.std([one(g) for _, g in r.groupby('seed')], ddof=1))


def test_influence_is_the_slope_of_the_auroc():
    r = seeded_rng('influence')
    y = (r.random(40) < 0.3).astype(float)
    p = np.round(r.random(40), 1)
    got = auroc_influence(y, p)
    eps = 1e-6
    for i in range(40):
        assert got[i] == pytest.approx(
            (roc_auc_score(y, p, sample_weight=1 + eps * (np.arange(40) == i)) - roc_auc_score(y, p)) / eps, abs=1e-5
        )
    assert auroc_influence(np.r_[y, np.nan], np.r_[p, 0.4])[-1] == 0


def test_delong_of_an_average_equals_the_jackknife_over_subjects(done):
    _run, ev = done
    cell = dict(task_kind='phenotype', fraction=1.0)
    got = delong_average(ev, 'MN-LR-2', 'LR', **cell)
    subject = ev.bootstrap.subjects
    n = subject.max() + 1
    w = {t: v[0] for t, v in ev.positives.items()}
    P = {(m, k): ev.predicted([k])[0] for m in ('MN-LR-2', 'LR') for k in ev.rows_with(model=m, **cell)}

    def average(keep):
        parts = {s: [] for s in TARGETS}
        for (m, k), p in P.items():
            r = ev.results.iloc[k]
            total = sum(w[t] for t in TARGETS[r['split']])
            parts[r['split']].append(
                (1 if m == 'MN-LR-2' else -1)
                * w[r['task']]
                / total
                * roc_auc_score(ev.labels[r['task']][keep], p[keep])
            )
        return np.mean([sum(v) for v in parts.values()])

    left = np.array([average(subject != k) for k in range(n)])
    se = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    assert (
        got.difference
        == pytest.approx(average(subject >= 0))
        == pytest.approx(
            ev.compare('MN-LR-2', 'LR').query("task_kind == 'phenotype' and fraction == 1")['difference'].iloc[0]
        )
    )
    assert got.se == pytest.approx(se, rel=0.08) and got.interval.high - got.interval.low == pytest.approx(
        2 * 1.959964 * got.se
    )


def test_delong_of_one_task_is_delong():
    ev = toy_evaluation(kinds=dict(Shock='phenotype'))
    got = delong_average(ev, 'MN-LR-2', 'LR', fraction=1.0)
    P = ev.predicted([ev.rows_with(model=m, fraction=1.0)[0] for m in ('MN-LR-2', 'LR')])
    _, cov = delong(ev.labels['Shock'], P)
    assert got.se == pytest.approx(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))


def test_bootstrap_and_delong_agree(done):
    d = agreement_frame(done[1])
    assert len(d) == 2 * (6 + 11) and d['se_ratio'].median() == pytest.approx(1, abs=0.12) and d['ends'].median() < 0.15
