"Metrics against scikit-learn, the bootstrap against plain resampling, and a whole evaluation of simulated predictions."

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr, ttest_1samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from rnn_transfer import evaluate as E
from rnn_transfer.learning.systems import SYSTEMS
from rnn_transfer.data import run_data
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.seeds import seeded_rng
from rnn_transfer.testing import toy_cohort
from rnn_transfer.evaluation import checks as C
from rnn_transfer.evaluation import measures as M
from rnn_transfer.evaluation import sparsity as P
from rnn_transfer.evaluation.comparisons import delong

# ---------------------------------------------------------------- metrics


@st.composite
def scored(draw):
    "Labels with both classes, scores with many ties, weights with zeros that leave both classes."
    n = draw(st.integers(2, 40))
    y = np.array([0, 1] + draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2)), float)
    p = np.array(
        draw(st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 0.5, 0.9, 1]) | st.floats(0, 1), min_size=n, max_size=n))
    )
    w = np.array([1, 1] + draw(st.lists(st.integers(0, 4), min_size=n - 2, max_size=n - 2)), float)
    return y, p, w


@settings(deadline=None, max_examples=50)  # other work on the machine must not fail a test
@given(scored())
def test_metrics_equal_sklearn(data):
    y, p, w = data
    assert E.auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert E.auprc(y, p) == pytest.approx(average_precision_score(y, p), abs=1e-12)
    assert E.brier(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert E.auroc(y, p, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert E.auprc(y, p, w) == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)
    assert E.brier(y, p, w) == pytest.approx(brier_score_loss(y, p, sample_weight=w), abs=1e-12)


@settings(deadline=None)
@given(scored())
def test_auroc_counts_pairs(data):
    y, p, _ = data
    diff = p[y == 1][:, None] - p[y == 0][None]
    assert E.auroc(y, p) == pytest.approx(((diff > 0) + (diff == 0) / 2).mean(), abs=1e-12)


@settings(deadline=None)
@given(scored(), st.integers(0, 10))
def test_null_labels_do_not_count(data, n):
    y, p, _ = data
    Y, P = np.r_[np.full(n, np.nan), y], np.r_[np.full(n, np.nan), p]
    assert [f(Y, P) for f in (E.auroc, E.auprc, E.brier)] == pytest.approx(
        [f(y, p) for f in (E.auroc, E.auprc, E.brier)]
    )


@settings(deadline=None)
@given(scored())
def test_equal_predictions_give_exactly_one_half(data):
    y, p, w = data
    assert E.auroc(y, np.full(len(y), 0.3), w) == 0.5
    values = E.Bootstrap(np.arange(len(y)), 30, 1).measure(y, np.full(len(y), 0.3))['auroc']
    assert set(values[np.isfinite(values)]) == {0.5}


def test_calibration_equals_unpenalised_logistic_regression():
    r = seeded_rng('calibration')
    x = r.normal(size=2000)
    y = (r.random(2000) < 1 / (1 + np.exp(-(0.3 + 0.6 * x)))).astype(float)
    intercept, slope, reason = E.calibration_line(y, 1 / (1 + np.exp(-x)))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], y)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-4) and reason is None
    assert np.mean(1 / (1 + np.exp(-(x + intercept)))) == pytest.approx(y.mean(), abs=1e-6)


@pytest.mark.parametrize(
    'y,p,why',
    [
        ([0, 1, 1], [0.2, 0.2, 0.2], 'all predictions are equal'),
        ([0, 0, 1], [0.1, 0.2, 0.9], 'separate the classes'),
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9], 'separate the classes'),
        ([1, 1, 0, 0], [0.1, 0.5, 0.5, 0.9], 'separate the classes'),
        ([0, 1, 1], [0.2, 0.2, 0.5], 'separate the classes'),
        ([1, 1, 1], [0.1, 0.2, 0.9], 'one class'),
    ],
)
def test_undefined_calibration_says_why(y, p, why):
    _, slope, reason = E.calibration_line(y, p)
    assert np.isnan(slope) and why in reason


def test_calibration_has_a_slope_as_soon_as_the_classes_overlap():
    x = np.array([0.1, 0.5, 0.5, 0.6, 0.9])
    y = np.array([0, 0, 1, 0, 1.0])
    _, slope, reason = E.calibration_line(y, x)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log(x / (1 - x))[:, None], y)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-3) and reason is None


@pytest.mark.parametrize('columns', [1, 2])  # the fit of the intercept alone, and that of the slope
def test_a_calibration_that_did_not_converge_is_null_with_a_reason(monkeypatch, columns):
    search = M.logistic_fit

    def stops(A, y, offset):
        return search(A, y, offset, **(dict(steps=1) if A.shape[1] == columns else {}))

    monkeypatch.setattr(M, 'logistic_fit', stops)
    r = seeded_rng('calibration')
    y = (r.random(200) < 0.3).astype(float)
    intercept, slope, reason = E.calibration_line(y, r.random(200))
    assert np.isnan(slope) and 'did not converge' in reason and np.isnan(intercept) == (columns == 1)


# ---------------------------------------------------------------- bootstrap


def test_replicates_equal_sklearn_on_resampled_stays():
    r = seeded_rng('resample')
    subjects = r.integers(60, size=100)
    y = (r.random(100) < 0.3).astype(float)
    p = np.round(r.random(100), 1)
    boot = E.Bootstrap(subjects, 25, 3)
    values = boot.measure(y, p, block=7)
    for k in range(26):
        again = np.repeat(np.arange(100), boot.weights[k].astype(int))
        assert values['auroc'][k] == pytest.approx(roc_auc_score(y[again], p[again]), abs=1e-12)
        assert values['auprc'][k] == pytest.approx(average_precision_score(y[again], p[again]), abs=1e-12)
        assert values['brier'][k] == pytest.approx(brier_score_loss(y[again], p[again]), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_stays_of_a_subject_stay_together(subjects, seed):
    w = E.Bootstrap(subjects, 12, seed).weights
    s = np.array(subjects)
    assert w.shape == (13, len(s)) and (w[0] == 1).all()
    for k in np.unique(s):
        assert (w[:, s == k] == w[:, s == k][:, :1]).all()
    first = np.unique(s, return_index=True)[1]
    assert (w[:, first].sum(1) == len(first)).all()


def test_draws_depend_on_the_seed_alone():
    a, b, c = (E.Bootstrap(np.arange(50), 20, seed).weights for seed in (0, 0, 1))
    assert (a == b).all() and (a != c).any()


def test_interval_leaves_undefined_replicates_out_and_counts_them():
    values = np.r_[0.5, np.linspace(0, 1, 101), [np.nan] * 40]
    assert E.percentile_interval(values) == pytest.approx((0.025, 0.975, 40))
    low, high, n = E.percentile_interval(np.r_[0.5, 0.4, 0.6, [np.nan] * 3])
    assert np.isnan([low, high]).all() and n == 3


def test_intervals_cover():
    assert 0.93 - 0.035 <= E.simulate_coverage(200) <= 0.985  # three standard errors below 93 %, two above 95 %


# ---------------------------------------------------------------- a run of simulated predictions

TARGETS = {0: ['Phenotype A', 'Phenotype B'], 1: ['Phenotype C', 'Phenotype D']}
SYSTEMS = ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'untrained-LR-2']


def simulated_fit(split, task, model, fraction, seed, y, stay_ids):
    "One fit: its row, its predictions and its weights; a zero model for MN-LR-1 and none for task A, at 5 % and seed 0."
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


def simulated_run(run, n=300, profile='quick', systems=SYSTEMS, seeds={0.05: 2, 1.0: 1}, paths=False):
    "A run folder as the earlier steps leave it, with invented predictions."
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


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    run = simulated_run(tmp_path_factory.mktemp('run'))
    for f in [run / 'data' / 'stays.parquet', *run.rglob('predictions.parquet')]:
        d = pd.read_parquet(f)
        d.assign(stay_id=d['stay_id'] + 7_310_000_000).to_parquet(f, index=False)  # numbers that nothing else has
    return run, E.run_evaluate(run, replicates=60)


def test_results_have_the_columns_of_the_contract(done):
    run, ev = done
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
    w = E.Bootstrap(test['subject_id'], 60).weights[7]
    got = ev.average(ev.defined(task_kind='phenotype', model='LR', fraction=1.0, split=0))[7]
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
    one, two = (ev.average(ev.defined(task_kind='mortality', fraction=1.0, model=m)) for m in ('MN-LR-2', 'RNN-C'))
    assert d['difference'] == one[0] - two[0]
    assert (d['low'], d['high']) == pytest.approx(E.percentile_interval(one - two)[:2])
    same = ev.compare('LR', 'LR')
    assert (same[['difference', 'low', 'high']] == 0).all(axis=None)


def test_differences_use_only_what_both_models_have(done):
    ev = done[1]
    r = ev.results.copy()
    values = {m: v.copy() for m, v in ev.values.items()}
    gone = r['model'].eq('RNN-C') & r['task'].eq('Phenotype B')
    r.loc[gone, ['auroc', 'auprc', 'brier']] = np.nan
    d = (
        E.Evaluation(r, values, ev.positives, ev.about)
        .compare('MN-LR-2', 'RNN-C')
        .query("task_kind == 'phenotype' and fraction == 1")
        .iloc[0]
    )
    assert d['n_pairs'] == 3
    r.loc[r['model'].eq('RNN-C'), 'auroc'] = np.nan
    d = E.Evaluation(r, values, ev.positives, ev.about).compare('MN-LR-2', 'RNN-C').iloc[0]
    assert np.isnan(d['difference']) and 'both' in d['reason']


def test_unknown_model_is_refused(done):
    with pytest.raises(BadInput, match="no model 'GPT'"):
        done[1].compare('GPT', 'LR')


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


@pytest.fixture(scope='module')
def page(done):
    return (done[0] / 'report.html').read_text(encoding='utf-8')


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
    assert len(p.images) == 9 and all(i['role'] == 'img' and len(i['aria-label']) > 40 for i in p.images)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', page)) <= set(ids)


def test_every_caption_names_the_data_and_the_profile(done, page):
    captions = re.findall(r'<figcaption>(.*?)</figcaption>', page, flags=re.S)
    notes = [p.read_text() for p in (done[0] / 'tables').glob('*.md')] + [E.headline_text(done[0])]
    assert len(captions) >= 12
    for text in captions + notes:
        assert 'Synthetic data' in text and 'toy' in text and 'quick profile' in text and 'test stays' in text


@pytest.mark.parametrize(
    'told,said',
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
def test_captions_say_what_was_changed_of_a_profile(done, told, said):
    run, ev = done
    (run / 'manifest.json').write_text(json.dumps(told))
    about = E.run_info(run, E.PreparedCohort.load(run)) | dict(replicates=60)
    (run / 'manifest.json').write_text(json.dumps(dict(profile='quick')))
    again = E.Evaluation(ev.results, ev.values, ev.positives, about, ev.known)
    assert said in E.data_caption(again) and 'fewer splits' not in E.data_caption(again)
    assert (', changed' in E.figure_2(again)._suptitle.get_text()) == bool(told.get('changed'))


def test_missing_fits_are_counted_under_the_headline(done, page):
    run, ev = done
    last = E.headline_frame(ev, 'phenotype').iloc[
        -1
    ]  # task A has no fit at 5 % and seed 0: 5 systems, of 4 tasks x 2 seeds x 5
    assert list(last) == ['fits missing', '5 of 40', '0 of 20'] and 'fits missing' in E.headline_text(run)
    assert 'fits missing' not in set(E.headline_frame(ev, 'mortality')['Model'])
    notes = {s.name: s.note for s in E.headline_sheets(ev)}
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
        return set(E.flow_sheets(ev, run)[1].frame['split'])

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
    assert E.network_sheets(run) == []
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
        (sheet,) = E.network_sheets(run)
        d = sheet.frame
        assert (
            d['split'].tolist() == [0] * 3 + [1] * 3
            and d['network'].tolist() == ['mimic-net', 'mimic-net', 'masks-only'] * 2
            and d['stopped'].tolist() == ['patience', 'max_updates', 'max_updates'] * 2
        )
        assert (
            d['chosen'].tolist() == [False, True, True] * 2
            and '4 of 6 trainings ended at the cap' in sheet.note
            and sheet.shown['Stopped by'].tolist()[:2] == ['patience', 'the cap on updates']
        )
    finally:
        (run / 'manifest.json').write_text(before)
        for s in (0, 1, 2):
            shutil.rmtree(run / f'split-{s}' / 'pretrain')
        (run / 'split-2').rmdir()


@pytest.mark.parametrize(
    'profile,source,changed,said',
    [
        ('open', 'PhysioNet/CinC Challenge 2012', [], True),
        ('open', 'PhysioNet/CinC Challenge 2012', ['hidden'], False),
        ('open', 'own data', [], False),
        ('paper', 'PhysioNet/CinC Challenge 2012', [], False),
    ],
)
def test_how_the_settings_of_the_open_profile_were_found_is_said_where_they_were_found(
    done, profile, source, changed, said
):
    ev = done[1]
    about = ev.about | dict(profile=profile, source=source, changed=changed)
    found = [
        x for x in E.describe_limits(E.Evaluation(ev.results, ev.values, ev.positives, about)) if 'reaches .80' in x
    ]
    assert len(found) == said and all(x.startswith('The open profile') for x in found)


def test_the_weights_of_multi_task_are_told_where_it_was_run(done, crowd):
    def told(ev):
        return sum(x.startswith('Multi-task gives every known pair') for x in E.describe_limits(ev))

    assert 'multi-task' in crowd[1].models and (told(done[1]), told(crowd[1])) == (0, 1)


def test_the_size_of_rnn_c_is_a_limit_where_it_was_not_its_own_choice(done):
    ev = done[1]

    def sizes(e):
        return [x for x in E.describe_limits(e) if 'RNN-C has the size MIMIC-Net chose' in x]

    assert len(sizes(ev)) == 1 and 'split 0: 8; split 1: 8' in sizes(ev)[0]
    own = ev.results.assign(hidden=ev.results['hidden'].mask(ev.results['model'].eq('RNN-C'), 16))
    assert sizes(E.Evaluation(own, ev.values, ev.positives, ev.about)) == []
    assert sizes(E.Evaluation(ev.results, ev.values, ev.positives, ev.about | dict(rnnc_hidden=[8, 16]))) == []


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
    E.run_evaluate(run, replicates=60)
    assert [f for f in files if (run / f).read_bytes() != before[f]] == []


def test_table_1_and_share_of_all_zero_models(done):
    ev = done[1]
    t = E.sparsity_sheet(ev)
    r = ev.results.query("fraction == 1 and model == 'LR' and task_kind == 'phenotype'")
    assert t.frame.query("model == 'LR' and task_kind == 'phenotype'")['mean'].iloc[0] == pytest.approx(
        (r['n_near_zero'] / r['n_features']).astype(float).mean()
    )
    assert '.974 ± .011' in t.shown.iloc[0]['MN-LR-2']
    assert '714' in t.note and 'same in all splits' in t.note and 'left out' not in t.note
    dropped = E.Evaluation(ev.results.assign(n_dropped=3), ev.values, ev.positives, ev.about)
    assert 'for LR 20, with 3 that do not vary left out' in E.sparsity_sheet(dropped).note
    zero = E.all_zero_sheet(ev).shown.set_index('Model')
    assert (
        zero.loc['MN-LR-1', '5 %'] == '5 of 11' and 'RNN-C' not in zero.index
    )  # 12 fits, one of which could not be made


def test_figure_3_counts_used_features(done):
    run, ev = done
    for split, w in E.used_features(run).items():
        raw = pd.read_parquet(run / f'split-{split}' / 'fraction-1' / 'seed-0' / 'weights.parquet').query(
            "model == 'MN-LR-1'"
        )
        assert w.shape == (3, 8) and (w >= 0.001).any().sum() == raw[raw['weight'].abs() >= 0.001]['feature'].nunique()


# ---------------------------------------------------------------- calibration curves


def test_reliability_equals_plain_resampling():
    r = seeded_rng('reliability')
    subjects = r.integers(50, size=90)
    y = [(r.random(90) < 0.4).astype(float) for _ in range(2)]
    y[1][:20] = np.nan
    p = [r.random(90), r.random(90)]
    boot = E.Bootstrap(subjects, 40, 5)
    got = E.reliability_curve(list(zip(y, p)), boot.weights, bins=4)
    Y, P, who = np.concatenate(y), np.concatenate(p), np.tile(np.arange(90), 2)
    keep = ~np.isnan(Y)
    Y, P, who = Y[keep], P[keep], who[keep]
    bin = pd.qcut(P, 4, labels=False)
    for b in range(4):
        at = bin == b
        shares = [np.repeat(Y[at], boot.weights[k][who[at]].astype(int)).mean() for k in range(1, 41)]
        assert (
            got.loc[b, ['said', 'seen', 'low', 'high']].tolist()
            == pytest.approx([P[at].mean(), Y[at].mean(), *np.quantile(shares, [0.025, 0.975])])
            and got['n'][b] == at.sum()
        )


@pytest.mark.parametrize('k,n', [(0, 7), (3, 9), (9, 9), (50, 1000)])
def test_wilson_equals_scipy(k, n):
    assert M.wilson_interval(k, n) == pytest.approx(tuple(binomtest(k, n).proportion_ci(method='wilson')))


def test_a_bin_without_a_positive_has_an_interval():
    y, p = np.r_[np.zeros(30), np.tile([0.0, 1.0], 15)], np.r_[np.full(30, 0.1), np.full(30, 0.8)]
    got = E.reliability_curve([(y, p)], E.Bootstrap(np.arange(60), 50).weights, bins=2)
    assert (
        got['seen'].tolist() == [0, 0.5]
        and got['low'][0] == 0
        and got['high'][0] == pytest.approx(binomtest(0, 30).proportion_ci(method='wilson').high)
    )


def test_reliability_of_equal_predictions_is_one_point():
    got = E.reliability_curve([(np.array([0, 1, 1.0]), np.full(3, 0.2))], E.Bootstrap(np.arange(3), 20).weights)
    assert len(got) == 1 and got.iloc[0][['said', 'seen', 'n']].tolist() == pytest.approx([0.2, 2 / 3, 3])


# ---------------------------------------------------------------- task by task, tests of a difference


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
    run, ev = done
    d = ev.compare_tasks('MN-LR-2', 'RNN-C', 0.05).query("task == 'Phenotype B'").iloc[0]
    y = ev.labels['Phenotype B']
    P = {
        (m, s): ev.predicted(ev.defined(model=m, task='Phenotype B', fraction=0.05, seed=s))[0]
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


def test_influence_is_the_slope_of_the_auroc():
    r = seeded_rng('influence')
    y = (r.random(40) < 0.3).astype(float)
    p = np.round(r.random(40), 1)
    got = C.auroc_influence(y, p)
    eps = 1e-6
    for i in range(40):
        assert got[i] == pytest.approx(
            (roc_auc_score(y, p, sample_weight=1 + eps * (np.arange(40) == i)) - roc_auc_score(y, p)) / eps, abs=1e-5
        )
    assert C.auroc_influence(np.r_[y, np.nan], np.r_[p, 0.4])[-1] == 0


def test_delong_of_an_average_equals_the_jackknife_over_subjects(done):
    run, ev = done
    cell = dict(task_kind='phenotype', fraction=1.0)
    got = C.delong_average(ev, 'MN-LR-2', 'LR', **cell)
    subject = ev.bootstrap.subjects
    n = subject.max() + 1
    w = {t: v[0] for t, v in ev.positives.items()}
    P = {(m, k): ev.predicted([k])[0] for m in ('MN-LR-2', 'LR') for k in ev.defined(model=m, **cell)}

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
        got['difference']
        == pytest.approx(average(subject >= 0))
        == pytest.approx(
            ev.compare('MN-LR-2', 'LR').query("task_kind == 'phenotype' and fraction == 1")['difference'].iloc[0]
        )
    )
    assert got['se'] == pytest.approx(se, rel=0.08) and got['high'] - got['low'] == pytest.approx(
        2 * 1.959964 * got['se']
    )


def test_delong_of_one_task_is_delong():
    ev = E.toy_evaluation(kinds=dict(Shock='phenotype'))
    got = C.delong_average(ev, 'MN-LR-2', 'LR', fraction=1.0)
    P = ev.predicted([ev.defined(model=m, fraction=1.0)[0] for m in ('MN-LR-2', 'LR')])
    _, cov = delong(ev.labels['Shock'], P)
    assert got['se'] == pytest.approx(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))


def test_bootstrap_and_delong_agree(done):
    d = C.agreement_frame(done[1])
    assert len(d) == 2 * (6 + 11) and d['se_ratio'].median() == pytest.approx(1, abs=0.12) and d['ends'].median() < 0.15


# ---------------------------------------------------------------- thirty systems

EVERY = [
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


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    run = simulated_run(tmp_path_factory.mktemp('crowd'), n=220, systems=EVERY, seeds={0.05: 2, 1.0: 2}, paths=True)
    return run, E.run_evaluate(run, replicates=30)


def test_names_are_taken_apart_and_put_in_order():
    assert (
        E.parse('MN-LR-2:cv@12') == ('MN-LR-2', 'cv', 12)
        and E.parse('MN+statistics-LR') == ('MN+statistics-LR', '', 0)
        and E.parse('of my own@home')[2] == 0
    )
    assert [E.display_group(m) for m in ('LR', 'GBT', 'no-removal-LR-1', 'last-LR', 'LR:cv', 'LR@1', 'of my own')] == [
        "The paper's",
        'Further',
        'Without leakage removal',
        'Controls',
        'Variants',
        'Initialisations',
        'Others',
    ]
    assert (
        E.sort_systems(seeded_rng('order').permutation(EVERY))
        == E.sort_systems(EVERY)
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


def test_every_system_is_explained_tabled_and_drawn(crowd):
    run, ev = crowd
    legend = E.system_sheet(ev).shown
    shown = E.headline_frame(ev, 'phenotype')['Model'].tolist()
    assert set(legend['System']) == set(EVERY) and (legend['What'] != 'not described').sum() == len(EVERY) - 1
    assert (
        shown[:4] == ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2']
        and not [m for m in shown if ':' in m or '@' in m]
        and set(SYSTEMS) <= set(shown)
    )
    drawn = [m for names in E.PANELS.values() for m in names]
    assert set(SYSTEMS) <= set(drawn) and max(map(len, E.PANELS.values())) <= 8
    for names in E.PANELS.values():
        assert len({E.line_style(m) for m in names}) == len(names)
    assert list(E.panels(EVERY)) == list(E.PANELS)[1:] and E.panels(['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2']) == {}
    v = E.variant_sheets(ev)[0].shown['Model'].tolist()
    assert v == [
        'LR',
        'LR:cv',
        'RNN-C',
        'RNN-C:full-val',
        'MN-LR-2',
        'MN-LR-2:literal',
        'MN-LR-2:cv',
        'MN-LR-2:full-val',
    ]


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


def test_controls_are_averages_and_paired_differences(crowd):
    ev = crowd[1]
    d = C.control_frame(ev).query("task_kind == 'phenotype' and fraction == 1 and versus == 'masks-LR'").iloc[0]
    own = ev.averages().query("task_kind == 'phenotype' and fraction == 1 and model == 'masks-LR'").iloc[0]
    pair = ev.compare('MN-LR-2', 'masks-LR').query("task_kind == 'phenotype' and fraction == 1").iloc[0]
    assert (d['value'], d['low_own'], d['difference'], d['low']) == (
        own['value'],
        own['low'],
        pair['difference'],
        pair['low'],
    )
    assert d['verdict'] == ('ahead' if pair['low'] > 0 else 'behind' if pair['high'] < 0 else 'not to be told apart')


def test_shuffled_labels_are_judged_over_permutations(crowd):
    ev = crowd[1]
    r = ev.results.query("model == 'shuffled-MN-LR-2' and auroc.notna()")
    d = C.shuffled_frame(ev)
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
    honest = C.shuffled_frame(
        E.Evaluation(r.reset_index(drop=True), {m: v[r.index] for m, v in ev.values.items()}, ev.positives, ev.about)
    )
    assert honest.iloc[-1]['verdict'] == '.5 is within error'


def test_sources_of_variance_are_standard_deviations(crowd):
    ev = crowd[1]
    d = C.variance_frame(ev, ['MN-LR-2']).query("task_kind == 'phenotype' and fraction == 1").iloc[0]
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
    models = set(C.variance_frame(crowd[1])['model'])
    assert models == {'MN-LR-2', 'RNN-C', 'LR', 'untrained-LR-2'}
    for note in (C.variance_sheets(crowd[1])[0].note, C.tests_sheet(crowd[1]).note):
        assert 'copies are not independent evidence' in note


def test_a_missing_fit_is_no_variance(crowd):
    ev = crowd[1]
    few = (
        C.variance_frame(ev, ['LR']).query("task_kind == 'phenotype' and fraction < .1").iloc[0]
    )  # task A has no fit at seed 0
    r = ev.results.query("task_kind == 'phenotype' and fraction < .1 and model == 'LR' and task != 'Phenotype A'")
    w = {t: v[0] for t, v in ev.positives.items()}

    def one(g):
        return np.mean([np.average(s['auroc'], weights=s['task'].map(w)) for _, s in g.groupby('split')])

    assert few['labels'] == pytest.approx(np.std([one(g) for _, g in r.groupby('seed')], ddof=1))


# ---------------------------------------------------------------- the path, and what features respond to


def test_path_is_counted_from_the_fits(crowd):
    run, ev = crowd
    path = E.read_paths(run, ev)
    d = E.path_frame(path).set_index(['model', 'fraction', 'lambda'])
    r = ev.results.query("model == 'LR' and fraction == 1")
    assert (
        d.loc[('LR', 1.0, 0.1), 'chosen'] == 1
        and d.loc[('LR', 1.0, 0.1), 'n_fits'] == len(r) == 12
        and d.loc[('LR', 1.0, 0.1), 'gain_median'] == pytest.approx(-0.2)
    )
    assert (
        d.loc[('LR', 1.0, 0.1), 'kept_median']
        == pytest.approx(np.median(1 - (r['n_near_zero'] / r['n_features']).astype(float)))
        and (d.loc[('LR', 1.0, 1e4), ['kept_high', 'gain_high']] == 0).all()
    )


def test_the_literal_rule_is_read_from_the_path_where_it_was_not_run(crowd):
    run, ev = crowd
    path = E.read_paths(run, ev)
    zero = E.all_zero_sheet(ev, path).frame.set_index(['model', 'fraction'])
    own = path.query("model == 'LR' and fraction == .05 and `lambda` == 1.")
    assert (
        zero.loc[('LR:literal', 0.05), 'n_all_zero'] == (own['n_near_zero'] == own['n_features']).sum()
        and zero.loc[('LR:literal', 0.05), 'n_fits'] == 11
    )
    ran = ev.results.query("model == 'MN-LR-2:literal' and fraction == .05 and n_features > 0")
    assert zero.loc[('MN-LR-2:literal', 0.05), 'n_fits'] == len(ran)


def test_old_runs_without_paths_have_no_path(done):
    run, ev = done
    assert (
        not len(E.read_paths(run, ev))
        and not (run / 'figures' / 'path.svg').exists()
        and not (run / 'tables' / 'controls_other.csv').exists()
        and not (run / 'tables' / 'shuffled.csv').exists()
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_rank_correlation_equals_scipy(seed):
    r = np.random.default_rng(seed)
    Z, S = np.round(r.normal(size=(60, 3)), 1), np.round(r.normal(size=(60, 5)), 1)
    S[r.random((60, 5)) < 0.2] = np.nan
    S[:, 4] = np.where(np.isnan(S[:, 3]), np.nan, S[:, 4])
    S[:, 1] = 2.0
    got = P.rank_correlation(Z, S, least=20)
    for i, s in enumerate(S.T):
        known = ~np.isnan(s)
        for k in range(3):
            assert (
                got[i, k] == pytest.approx(spearmanr(Z[known, k], s[known])[0], nan_ok=True)
                if i != 1
                else np.isnan(got[i, k])
            )


def test_features_respond_to_what_they_were_made_of(done, monkeypatch):
    run, ev = done
    data = E.PreparedCohort.load(run)
    column = next(
        c for c in data.statistics if data.statistics[c].notna().mean() > 0.9 and data.statistics[c].nunique() > 50
    )
    F = np.random.default_rng(0).normal(size=(len(data.stays), 16))
    F[:, 3] = -data.statistics[column].fillna(0).to_numpy()
    monkeypatch.setattr(P, 'network_path', lambda *a: run)
    monkeypatch.setattr(P, 'network_features', lambda *a: (F, [f'z2[{i}]' for i in range(16)]))
    first = P.responses(run, {0: ['z2[3]', 'z2[1]']}).query("feature == 'z2[3]' and rank == 1").iloc[0]
    train = data.rows('train')
    known = data.statistics[column].iloc[train].notna().to_numpy()
    assert first['channel'] == column.split('|')[0] and first['rho'] == pytest.approx(
        spearmanr(F[train, 3][known], data.statistics[first['statistic']].iloc[train].to_numpy()[known])[0], abs=1e-9
    )
    sheets = {s.name: s for s in P.response_sheets(ev, run)}
    used = E.used_features(run)[0]
    counts = (used >= 0.001).sum()
    top = sheets['responses_MN-LR-1'].frame.query('split == 0').iloc[0]
    assert top['n_tasks'] == counts.max() and (sheets['responses_MN-LR-1'].shown['Split'].value_counts() <= 4).all()


# ---------------------------------------------------------------- what a user can get wrong


def test_missing_files_and_foreign_predictions_are_named(tmp_path):
    run = simulated_run(tmp_path / 'run', n=200)
    f = run / 'split-0' / 'fraction-1' / 'seed-0' / 'predictions.parquet'
    good = pd.read_parquet(f)

    def broken(q, what):
        q.to_parquet(f, index=False)
        with pytest.raises(BadInput, match=what):
            E.evaluate_run(run, 5)

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
        E.evaluate_run(run, 5)
    with pytest.raises(BadInput, match='run 03_transfer for this run first'):
        E.prediction_folders(tmp_path)
    with pytest.raises(BadInput, match='run 04_evaluate for this run first'):
        E.headline_text(tmp_path)
    assert not (run / 'report.html').exists() and not (run / 'results.parquet').exists()
