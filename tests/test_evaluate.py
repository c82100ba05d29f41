"A whole evaluation of simulated predictions: results, report, captions, and what a user can get wrong."

import json
import os
import re
import signal
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from simulated import *
from sklearn.metrics import brier_score_loss, roc_auc_score

from rnn_transfer.data import PreparedCohort
from rnn_transfer.evaluate import run_evaluate
from rnn_transfer.evaluation import (
    calibration,
    claims,
    decision_curves,
    differences,
    learning_curves,
    provenance,
    scoring,
    stability,
)
from rnn_transfer.evaluation.captions import data_caption, run_info
from rnn_transfer.evaluation.checklist_facts import result_facts
from rnn_transfer.evaluation.formats import display_group, sort_systems
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.learning_curves import figure_2
from rnn_transfer.evaluation.limits import _PROFILES, describe_limits
from rnn_transfer.evaluation.measures import Bootstrap
from rnn_transfer.evaluation.report import headline_text
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.run_folder import prediction_folders
from rnn_transfer.evaluation.scoring import evaluate_run
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.learning.systems import SYSTEMS, SystemId, parse_model
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.seeds import seeded_rng

# ---------------------------------------------------------------- tables, figures, report


class Page(HTMLParser):
    "Every reference a page would load, and whether its tags close."

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.loads += [
            v
            for k, v in a.items()
            if k in ('src', 'href', 'xlink:href', 'data', 'action') and not v.startswith(('#', 'data:'))
        ]
        if tag == 'svg':
            self.images.append(a)
        if tag not in ('meta', 'br', 'link', 'img', 'path', 'use'):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open and self.open[-1] == tag and self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_results_have_the_columns_of_the_contract(done):
    run, _ev = done
    r = pd.read_parquet(run / 'results.parquet')
    assert list(r)[:20] == [
        'split',
        'task',
        'task_kind',
        'model',
        'fraction',
        'seed',
        'n_train',
        'n_positive',
        'auroc',
        'auroc_low',
        'auroc_high',
        'auprc',
        'auprc_low',
        'auprc_high',
        'brier',
        'lambda',
        'hidden',
        'n_features',
        'n_near_zero',
        'seconds',
    ]
    assert list(r)[20] == 'reason' and {
        'n_val',
        'n_val_positive',
        'lambda_literal',
        'n_test',
        'n_test_positive',
        'prevalence',
        'calibration_slope',
        'calibration_intercept',
    } <= set(r)
    assert len(r) == 2 * 3 * 3 * 5 and not r.duplicated(['split', 'task', 'model', 'fraction', 'seed']).any()
    pd.testing.assert_frame_equal(r, pd.read_csv(run / 'results.csv'), check_dtype=False)


def test_results_equal_sklearn_on_the_predictions(done):
    run, ev = done
    for _, row in ev.results[ev.results['auroc'].notna()].iterrows():
        q = pd.read_parquet(
            run / f'split-{row.split}' / f'fraction-{row.fraction:g}' / f'seed-{row.seed}' / 'predictions.parquet'
        ).query('task == @row.task and model == @row.model')
        assert row.auroc == pytest.approx(roc_auc_score(q.y, q.p)) and row.brier == pytest.approx(
            brier_score_loss(q.y, q.p)
        )
        assert row.auroc_low <= row.auroc <= row.auroc_high and row.auprc_low <= row.auprc <= row.auprc_high


def test_undefined_metrics_are_null_with_a_reason(done):
    r = done[1].results
    failed = r[r['task'].eq('Phenotype A') & r['fraction'].lt(0.1) & r['seed'].eq(0)]
    assert (
        len(failed) == 5
        and failed['auroc'].isna().all()
        and failed['reason'].str.contains('one class in the subset').all()
    )
    zero = r[r['model'].eq('MN-LR-1') & r['fraction'].lt(0.1) & r['seed'].eq(0) & r['task'].ne('Phenotype A')]
    assert (
        (zero[['auroc', 'auroc_low', 'auroc_high']] == 0.5).all(axis=None)
        and zero['calibration_slope'].isna().all()
        and zero['reason'].str.contains('all predictions are equal').all()
    )
    assert r.loc[r[['auroc', 'auprc', 'brier', 'calibration_slope']].isna().any(axis=1), 'reason'].notna().all()


def test_weighted_and_macro_averages_equal_sklearn(done):
    run, ev = done
    per_split = {}
    for how in ('weighted', 'macro'):
        for split in (0, 1):
            q = pd.read_parquet(run / f'split-{split}' / 'fraction-1' / 'seed-0' / 'predictions.parquet').query(
                "model == 'MN-LR-2' and task != 'Mortality'"
            )
            wide = q.pivot(index='stay_id', columns='task', values=['y', 'p'])
            per_split[how, split] = roc_auc_score(wide['y'], wide['p'], average=how)
        got = ev.averages(how=how).query("model == 'MN-LR-2' and fraction == 1 and task_kind == 'phenotype'").iloc[0]
        assert got['value'] == pytest.approx((per_split[how, 0] + per_split[how, 1]) / 2)
        assert got['low'] < got['value'] < got['high'] and got['n_tasks'] == 4


def test_a_replicate_of_the_average_is_the_average_of_the_resampled_stays(done):
    run, ev = done
    test = pd.read_parquet(run / 'data' / 'stays.parquet').query("partition == 'test'")
    w = Bootstrap(test['subject_id'], 60).weights[7]
    got = ev.average(ev.rows_with(task_kind='phenotype', model='LR', fraction=1.0, split=0))[7]
    q = (
        pd.read_parquet(run / 'split-0' / 'fraction-1' / 'seed-0' / 'predictions.parquet')
        .query("model == 'LR' and task != 'Mortality'")
        .pivot(index='stay_id', columns='task', values=['y', 'p'])
        .loc[test['stay_id']]
    )
    assert got == pytest.approx(roc_auc_score(q['y'], q['p'], average='weighted', sample_weight=w))
    again = np.repeat(np.arange(len(test)), w.astype(int))
    assert got == pytest.approx(roc_auc_score(q['y'].iloc[again], q['p'].iloc[again], average='weighted'))


def test_paired_differences_are_differences_of_replicates(done):
    ev = done[1]
    d = ev.compare('MN-LR-2', 'RNN-C').query("task_kind == 'mortality' and fraction == 1").iloc[0]
    one, two = (ev.average(ev.rows_with(task_kind='mortality', fraction=1.0, model=m)) for m in ('MN-LR-2', 'RNN-C'))
    assert d['difference'] == one[0] - two[0]
    assert (d['low'], d['high']) == pytest.approx(percentile_interval(one - two)[:2])
    same = ev.compare('LR', 'LR')
    assert (same[['difference', 'low', 'high']] == 0).all(axis=None)


def test_differences_use_only_what_both_models_have(done):
    ev = done[1]
    r = ev.results.copy()
    values = {m: v.copy() for m, v in ev.values.items()}
    gone = r['model'].eq('RNN-C') & r['task'].eq('Phenotype B')
    r.loc[gone, ['auroc', 'auprc', 'brier']] = np.nan
    d = (
        Evaluation(r, values, ev.positives, ev.info)
        .compare('MN-LR-2', 'RNN-C')
        .query("task_kind == 'phenotype' and fraction == 1")
        .iloc[0]
    )
    assert d['n_pairs'] == 3
    r.loc[r['model'].eq('RNN-C'), 'auroc'] = np.nan
    d = Evaluation(r, values, ev.positives, ev.info).compare('MN-LR-2', 'RNN-C').iloc[0]
    assert np.isnan(d['difference']) and 'both' in d['reason']


def test_unknown_model_is_refused(done):
    with pytest.raises(BadInput, match="no model 'GPT'"):
        done[1].compare('GPT', 'LR')


def test_predictions_are_read_again_as_they_were_measured(done):
    run, ev = done
    rows = list(range(len(ev.results)))
    P = ev.predicted(rows)
    test = pd.read_parquet(run / 'data' / 'stays.parquet').query("partition == 'test'")
    for k in rows:
        r = ev.results.iloc[k]
        if r.isna()['auroc']:
            assert np.isnan(P[k]).all()
            continue
        y = ev.labels[r['task']]
        known = ~np.isnan(y)
        assert roc_auc_score(y[known], P[k][known]) == pytest.approx(r['auroc'])
    assert (ev.predicted(rows[::-1])[::-1][~np.isnan(P)] == P[~np.isnan(P)]).all() and P.shape[1] == len(test)


def test_differences_task_by_task_equal_resampled_sklearn(done):
    _run, ev = done
    d = ev.compare_tasks('MN-LR-2', 'RNN-C', 0.05).query("task == 'Phenotype B'").iloc[0]
    y = ev.labels['Phenotype B']
    P = {
        (m, s): ev.predicted(ev.rows_with(model=m, task='Phenotype B', fraction=0.05, seed=s))[0]
        for m in ('MN-LR-2', 'RNN-C')
        for s in (0, 1)
    }

    def difference(w):
        return np.mean(
            [
                roc_auc_score(y, P['MN-LR-2', s], sample_weight=w) - roc_auc_score(y, P['RNN-C', s], sample_weight=w)
                for s in (0, 1)
            ]
        )

    draws = [difference(w) for w in ev.bootstrap.weights]
    assert (d['difference'], d['low'], d['high']) == pytest.approx(
        (draws[0], *np.quantile(draws[1:], [0.025, 0.975]))
    ) and d['n_seeds'] == 2


def test_names_are_taken_apart_and_put_in_order():
    assert (
        parse_model('MN-LR-2:cv@12', check=False) == parse_model('MN-LR-2:cv@12')
        and parse_model('MN+statistics-LR', check=False) == SystemId('MN+statistics-LR', 'MN+statistics-LR', '', 0)
        and parse_model('of my own@home', check=False).init == 0
    )
    assert [display_group(m) for m in ('LR', 'GBT', 'no-removal-LR-1', 'last-LR', 'LR:cv', 'LR@1', 'of my own')] == [
        "The paper's",
        'Further',
        'Without leakage removal',
        'Controls',
        'Selection criteria',
        'Initialisations',
        'Others',
    ]
    assert (
        sort_systems(seeded_rng('order').permutation(ALL_SYSTEMS))
        == sort_systems(ALL_SYSTEMS)
        == [
            *SYSTEMS,
            'of my own',
            'LR:cv',
            'RNN-C:full-val',
            'MN-LR-2:literal',
            'MN-LR-2:cv',
            'MN-LR-2:full-val',
            'MN-LR-2@1',
            'MN-LR-2@2',
        ]
    )


def test_report_is_one_offline_file(page):
    p = Page()
    p.feed(page)
    assert (
        p.loads == []
        and p.open == []
        and '<script' not in page.lower()
        and '@import' not in page
        and not re.search(r'url\((?!#)', page)
    )
    assert len(p.images) == 10 and all(i['role'] == 'img' and len(i['aria-label']) > 40 for i in p.images)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', page)) <= set(ids)


def test_every_caption_names_the_data_and_the_profile(done, page):
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', page, flags=re.S)
    notes = [p.read_text() for p in (done[0] / 'tables').glob('*.md')] + [headline_text(done[0])]
    assert len(captions) >= 12
    for text in captions + notes:
        assert 'Synthetic data' in text and 'toy' in text and 'quick profile' in text and 'test stays' in text


@pytest.mark.parametrize(
    'profile_of_run,said',
    [
        (dict(profile='quick', changed=[]), 'quick profile (small networks, few updates, three fractions);'),
        (
            dict(profile='open', changed=[]),
            'open profile (the protocol sized for open data on two cores: h of 32 or 64, learning rate 0.001);',
        ),
        (dict(profile='paper', changed=['splits', 'max_updates']), 'paper profile, changed: splits, max_updates;'),
        (dict(profile='paper', changed=[]), 'paper profile;'),
        (dict(profile='quick'), 'quick profile;'),
        (dict(), 'profile not given;'),
    ],
)
def test_captions_say_what_was_changed_of_a_profile(done, profile_of_run, said):
    run, ev = done
    (run / 'manifest.json').write_text(json.dumps(profile_of_run))
    about = run_info(run, PreparedCohort.load(run)) | dict(replicates=60)
    (run / 'manifest.json').write_text(json.dumps(dict(profile='quick')))
    again = Evaluation(ev.results, ev.values, ev.positives, about)
    assert said in data_caption(again) and 'fewer splits' not in data_caption(again)
    assert (', changed' in figure_2(again)._suptitle.get_text()) == bool(profile_of_run.get('changed'))


@pytest.mark.parametrize(
    'profile,source,changed,said',
    [
        ('open', 'PhysioNet/CinC Challenge 2012', [], True),
        ('open', 'PhysioNet/CinC Challenge 2012', ['hidden'], False),
        ('open', 'own data', [], False),
        ('repeated', 'PhysioNet/CinC Challenge 2012', ['models', 'seeds'], True),
        ('repeated', 'PhysioNet/CinC Challenge 2012', ['lr'], False),
        ('repeated', 'own data', [], False),
        ('hospitals', 'PhysioNet/CinC Challenge 2019', [], False),
        ('paper', 'PhysioNet/CinC Challenge 2012', [], False),
    ],
)
def test_how_the_settings_of_the_open_profile_were_found_is_said_where_they_were_found(
    done, profile, source, changed, said
):
    ev = done[1]
    about = ev.info | dict(profile=profile, source=source, changed=changed)
    limits = describe_limits(Evaluation(ev.results, ev.values, ev.positives, about))
    found = [x for x in limits if 'reaches .80' in x]
    assert len(found) == said and all(x.startswith(f'The {profile} profile') for x in found)
    inherited = [x for x in limits if 'settled on PhysioNet 2012 when results on its test set were known' in x]
    assert len(inherited) == (profile == 'hospitals')


def test_profiles_with_the_settings_of_open_say_so():
    settled = ('hidden', 'lr', 'max_updates', 'transfer.eval_every')
    same = {name for name, of in PROFILES.items() if all(of.get(o) == PROFILES['open'][o] for o in settled)}
    assert same == {'open', 'repeated', 'hospitals'} <= set(_PROFILES)
    assert PROFILES['repeated']['transfer.patience'] == PROFILES['open']['transfer.patience'] == 15


def test_no_sentence_denies_the_intervals_over_draws_and_networks():
    skills = {'LR': 0.4, 'MN-LR-2': 0.9, 'MN-LR-2@1': 0.8, 'MN-LR-2@2': 0.9}
    ev = toy_evaluation(skills, seeds=5, n=120, kinds=dict(Shock='phenotype', Death='mortality'), replicates=40)
    asked, facts = (claims, learning_curves, differences, stability, calibration, decision_curves), result_facts(ev)
    said = [getattr(x, 'note', x) for question in asked for x in question.section(ev).items]
    said += [*describe_limits(ev), *facts.values()]
    fixed = [text for text in said if re.search('models (are )?(held )?fixed', text)]
    assert len(fixed) >= 5 and all(re.search('draws.* and (of )?networks', text) for text in fixed)
    assert not [text for text in said if 'none is corrected' in text or 'Nothing is corrected' in text]
    limits = ' '.join(describe_limits(ev))
    assert '5 draws of the labels and 3 networks' in limits and "after Holm's adjustment within its family" in limits
    assert 'adjusted by Holm within a family of claims' in facts['comparisons']
    of_learned = replace(ev, info=ev.info | dict(same_tasks=True))  # no claim is judged
    assert 'Holm' not in ' '.join(describe_limits(of_learned)) + result_facts(of_learned)['intervals']
    assert 'claim' not in result_facts(of_learned)['comparisons']


def test_a_caption_says_once_that_nothing_is_corrected():
    ev = toy_evaluation(seeds=5, replicates=40)
    section = differences.section(ev)
    for name in ('differences_phenotype', 'differences_sources_phenotype'):
        caption = f'{section.sentences_for(name)} {section[name].note}'
        assert caption.count('corrected for the number of comparisons') == 1


@pytest.mark.parametrize(
    'models,named',
    [
        (['LR'], ''),
        (['LR', 'LR:cv'], ':cv'),
        (['LR', 'MN-LR-2:ridge', 'LR:fine@1', 'GBT'], ':fine, :ridge'),
        (['LR:literal', 'RNN-C:full-val'], ''),
    ],
)
def test_the_table_of_systems_says_which_are_fitted_to_validation_stays_too(models, named):
    note = provenance._describe_stays(models)
    assert ('are fitted to both' in note) == bool(named) and f'Systems with {named} choose' * bool(named) in note
    assert 'Models are fitted to those of train' in note


def test_the_weights_of_multi_task_are_explained_where_it_was_run(done, crowd):
    def n_sentences(ev):
        return sum(x.startswith('Multi-task gives every known pair') for x in describe_limits(ev))

    assert 'multi-task' in crowd[1].models and (n_sentences(done[1]), n_sentences(crowd[1])) == (0, 1)


def test_the_size_of_rnn_c_is_a_limit_where_it_was_not_its_own_choice(done):
    ev = done[1]

    def sizes(e):
        return [x for x in describe_limits(e) if 'RNN-C has the size MIMIC-Net chose' in x]

    assert len(sizes(ev)) == 1 and 'split 0: 8; split 1: 8' in sizes(ev)[0]
    own = ev.results.assign(hidden=ev.results['hidden'].mask(ev.results['model'].eq('RNN-C'), 16))
    assert sizes(Evaluation(own, ev.values, ev.positives, ev.info)) == []
    assert sizes(Evaluation(ev.results, ev.values, ev.positives, ev.info | dict(rnnc_hidden=[8, 16]))) == []


def test_nothing_written_names_a_stay_or_a_subject(done):
    run, _ = done
    ids = pd.read_parquet(run / 'data' / 'stays.parquet')['stay_id']
    assert (ids > 7_310_000_000).all()
    for f in [run / 'report.html', run / 'results.csv', *(run / 'tables').iterdir(), *(run / 'figures').glob('*.svg')]:
        assert '7310000' not in f.read_text(encoding='utf-8'), f.name


def test_same_run_same_bytes(done):
    run, _ = done
    files = [
        'report.html',
        'results.parquet',
        'results.csv',
        *(f'{d}/{p.name}' for d in ('tables', 'figures') for p in (run / d).iterdir()),
    ]
    before = {f: (run / f).read_bytes() for f in files}
    run_evaluate(run, replicates=60)
    assert [f for f in files if (run / f).read_bytes() != before[f]] == []


def test_letters_keep_their_size(done):
    "Numbers are cut to a hundredth of a point; the scale of a glyph is smaller than that."
    text = (done[0] / 'figures' / 'figure_2a.svg').read_text(encoding='utf-8')
    assert 'scale(0.015625)' in text and not re.search(r'scale\(0\.01[ )]', text)


def test_report_of_a_crowd_holds_its_sections_and_stays_small(crowd):
    page = (crowd[0] / 'report.html').read_text(encoding='utf-8')
    p = Page()
    p.feed(page)
    assert p.open == [] and p.loads == [] and len(page) < 3e6
    at = [page.index(f'<h2 id="section-{k}">') if f'<h2 id="section-{k}">' in page else -1 for k in range(9)]
    assert min(at) > 0 and at[0] < page.index('<h2 id="limits">') < at[1]
    for name in (
        'claims',
        'controls_phenotype',
        'shuffled',
        'variants_mortality',
        'variance_phenotype',
        'tests',
        'agreement',
        'efficiency',
        'all_zero',
        'systems',
    ):
        assert (crowd[0] / 'tables' / f'{name}.csv').exists(), name
    for name in (
        'figure_2a',
        'systems_phenotype',
        'systems_mortality',
        'forest',
        'calibration',
        'efficiency',
        'path',
        'figure_3',
    ):
        assert (crowd[0] / 'figures' / f'{name}.svg').stat().st_size < 4e5, name


# ---------------------------------------------------------------- what a user can get wrong


@pytest.fixture
def two_processes(monkeypatch):
    "Two processes measure, however few the fits and the processors."
    monkeypatch.setattr(scoring, '_count_processes', lambda paths: 2)


def test_processes_measure_what_one_measures(done, two_processes):
    run, ev = done
    again = evaluate_run(run, ev.info['replicates'])
    pd.testing.assert_frame_equal(again.results, ev.results)
    for metric, values in ev.values.items():
        np.testing.assert_array_equal(again.values[metric], values)


def test_blocks_of_replicates_are_those_of_one_process(done, two_processes, monkeypatch):
    "More replicates than a block has; the first 60 are the same, for each is drawn after the other."
    run, ev = done
    again = evaluate_run(run, 600)
    for metric, values in ev.values.items():
        np.testing.assert_allclose(again.values[metric][:, :61], values, rtol=1e-12)


def test_a_process_says_what_is_wrong_in_one_line(tmp_path, two_processes):
    run = simulated_run(tmp_path / 'run', n=200)
    f = run / 'split-0' / 'fraction-1' / 'seed-0' / 'predictions.parquet'
    pd.read_parquet(f).query("model != 'LR'").to_parquet(f, index=False)
    with pytest.raises(BadInput, match='no predictions and no reason'):
        evaluate_run(run, 20)


def test_a_killed_process_is_one_line(done, two_processes, monkeypatch):
    monkeypatch.setattr(scoring, '_measure_folder', kill_this_process)
    with pytest.raises(BadInput, match='one of 2 processes that measure was killed.*LOKY_MAX_CPU_COUNT=1'):
        evaluate_run(done[0], 20)


def kill_this_process(path, test, bootstrap, parent):
    assert os.getpid() != parent
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_number_of_processes_follows_fits_and_memory(done, monkeypatch):
    paths = [folder.path for folder in prediction_folders(done[0])]
    n_fits = sum(len(pd.read_parquet(path / 'fits.parquet')) for path in paths)
    monkeypatch.setattr(scoring, 'affordable_processes', lambda gigabytes: 64 if gigabytes < 0.31 else 1)
    assert scoring._count_processes(paths) == 1
    monkeypatch.setattr(scoring, '_FITS_OF_A_PROCESS', n_fits // 2)
    assert scoring._count_processes(paths) == 2
    monkeypatch.setattr(scoring, '_FITS_OF_A_PROCESS', 1)
    assert scoring._count_processes(paths) == len(paths)
    monkeypatch.setattr(scoring, '_GIGABYTES_OF_A_ROW', 1)
    assert scoring._count_processes(paths) == 1


def test_missing_files_and_foreign_predictions_are_named(tmp_path):
    run = simulated_run(tmp_path / 'run', n=200)
    f = run / 'split-0' / 'fraction-1' / 'seed-0' / 'predictions.parquet'
    good = pd.read_parquet(f)

    def broken(q, what):
        q.to_parquet(f, index=False)
        with pytest.raises(BadInput, match=what):
            evaluate_run(run, 5)

    broken(good.assign(stay_id=good['stay_id'] + 10**6), 'outside the test partition')
    broken(pd.concat([good, good.head(1)]), 'repeat a stay')
    broken(good.iloc[1:], 'have no prediction')
    broken(good.assign(y=1 - good['y']), "label that is not the cohort's")
    broken(good.assign(p=np.nan), 'empty|probability')
    broken(good.assign(p=good['p'] * 3), 'no probability between 0 and 1')
    broken(good.query("model != 'LR'"), 'no predictions and no reason')
    broken(good.assign(model=good['model'].replace('LR', 'LRx')), 'no predictions and no reason')
    broken(good.drop(columns='p'), 'column p is missing')
    f.unlink()
    with pytest.raises(BadInput, match='predictions.parquet: no such file; run 03_transfer'):
        evaluate_run(run, 5)
    with pytest.raises(BadInput, match='run 03_transfer for this run first'):
        prediction_folders(tmp_path)
    with pytest.raises(BadInput, match='run 04_evaluate for this run first'):
        headline_text(tmp_path)
    assert not (run / 'report.html').exists() and not (run / 'results.parquet').exists()
