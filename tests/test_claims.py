"Claims: the rule at its boundaries, simultaneous intervals, every test against plain arithmetic, and whole tables of results made to fit."

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.utilities.seeds import seeded_rng
from rnn_transfer.evaluation import claims as K
from rnn_transfer.evaluation.measures import percentile_interval
from rnn_transfer.evaluation.results import Evaluation, toy_evaluation

RELATIONS = 'ahead', 'equal', 'at least', 'above', 'below'


def results_made(
    mean,
    models=('LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'untrained-LR-2', 'MN-FT'),
    fractions=(0.01, 0.1, 0.5, 1.0),
    seeds=2,
    sd=0.002,
    replicates=200,
    tasks=None,
    share=lambda model, kind: 0.5,
):
    "An evaluation whose AUROCs are given: mean(model, kind, fraction), and replicates around it."
    tasks = tasks or {'A': 'phenotype', 'B': 'phenotype', 'C': 'phenotype', 'Death': 'mortality'}
    rows, values = [], []
    for task, kind in tasks.items():
        for m in models:
            for f in fractions:
                for s in range(seeds):
                    n = 300 if m != 'MN-LR-2' else 600
                    near = int(n * share(m, kind)) + s
                    rows.append(
                        dict(
                            split=0,
                            task=task,
                            task_kind=kind,
                            model=m,
                            fraction=f,
                            seed=s,
                            n_train=1000 * f,
                            n_test=500,
                            n_features=n,
                            n_near_zero=near,
                            auroc=mean(m, kind, f),
                        )
                    )
                    values.append(
                        np.r_[
                            mean(m, kind, f),
                            mean(m, kind, f) + seeded_rng('made', task, m, f, s).normal(0, sd, replicates),
                        ]
                    )
    values = np.array(values)
    return Evaluation(
        pd.DataFrame(rows), dict(auroc=values), {t: np.ones(replicates + 1) for t in tasks}, dict(synthetic=True)
    )


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    'low,high,relation,verdict',
    [
        (1e-9, 0.5, 'ahead', 'supported'),
        (0, 0.5, 'ahead', 'undecided'),
        (-0.5, 0.01, 'ahead', 'undecided'),
        (-0.5, 0.0099, 'ahead', 'not supported'),
        (0.001, 0.005, 'ahead', 'supported'),
        (-0.0099, 0.0099, 'equal', 'supported'),
        (-0.01, 0.0099, 'equal', 'undecided'),
        (0.002, 0.005, 'equal', 'supported'),
        (0.01, 0.02, 'equal', 'not supported'),
        (-0.02, -0.01, 'equal', 'not supported'),
        (0.0099, 0.02, 'equal', 'undecided'),
        (-0.0099, 0.1, 'at least', 'supported'),
        (-0.01, 0.1, 'at least', 'undecided'),
        (-0.1, -0.01, 'at least', 'not supported'),
        (-0.1, -0.0099, 'at least', 'undecided'),
    ],
)
def test_verdicts_at_the_boundaries(low, high, relation, verdict):
    assert K.decide(pd.DataFrame([dict(low=low, high=high, low_all=low, high_all=high)]), relation)[0] == verdict


@pytest.mark.parametrize(
    'low,high,relation,verdict',
    [
        (0.951, 0.99, 'above', 'supported'),
        (0.95, 0.99, 'above', 'undecided'),
        (0.9, 0.95, 'above', 'not supported'),
        (0, 0.949, 'below', 'supported'),
        (0.95, np.inf, 'below', 'not supported'),
        (0, np.inf, 'below', 'undecided'),
    ],
)
def test_stated_values_have_no_margin(low, high, relation, verdict):
    assert K.decide(pd.DataFrame([dict(low=low, high=high, low_all=low, high_all=high)]), relation, 0.95)[0] == verdict


ends = st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)).map(sorted)


@given(ends, st.sampled_from(RELATIONS), st.floats(0, 0.03))
def test_a_narrower_interval_never_turns_a_verdict_round(i, relation, shrink):
    low, high = i
    inner = (low + min(shrink, (high - low) / 2), high - min(shrink, (high - low) / 2))
    if K.supports(low, high, relation):
        assert K.supports(*inner, relation)
    if K.contradicts(low, high, relation):
        assert K.contradicts(*inner, relation)


@given(ends)
def test_relations_agree_with_each_other(i):
    if K.supports(*i, 'ahead') or K.supports(*i, 'equal'):
        assert K.supports(*i, 'at least')
    assert not (K.supports(*i, 'equal') and K.contradicts(*i, 'equal')) and not (
        K.supports(*i, 'at least') and K.contradicts(*i, 'at least')
    )
    if K.supports(*i, 'ahead'):
        assert not K.supports(-i[1], -i[0], 'ahead')
    assert K.supports(*i, 'equal') == K.supports(-i[1], -i[0], 'equal')


@given(st.lists(ends, min_size=1, max_size=6), st.sampled_from(RELATIONS))
def test_all_parts_must_hold_and_one_is_enough_to_refute(found, relation):
    low, high = np.array(found).T
    verdict, k, n = K.decide(pd.DataFrame(dict(low=low, high=high, low_all=low - 0.01, high_all=high + 0.01)), relation)
    each = [bool(K.supports(a, b, relation)) for a, b in found]
    against = [bool(K.contradicts(a - 0.01, b + 0.01, relation)) and not ok for (a, b), ok in zip(found, each)]
    assert (
        verdict == ('supported' if all(each) else 'not supported' if any(against) else 'undecided')
        and n == sum(each)
        and 0 <= k < len(found)
    )
    if verdict == 'not supported':
        assert against[k]
    elif verdict == 'undecided':
        assert not each[k]


@pytest.mark.parametrize('relation', RELATIONS)
def test_no_interval_is_never_a_verdict(relation):
    none = pd.DataFrame([dict(low=np.nan, high=np.nan, low_all=np.nan, high_all=np.nan)])
    assert K.decide(none, relation) == ('undecided', 0, 0)


# ---------------------------------------------------------------- simultaneous intervals


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.floats(0, 0.99), st.integers(0, 99))
def test_simultaneous_intervals_hold_all_parts_and_contain_the_separate_ones(k, shared, seed):
    r = seeded_rng('simultaneous', k, seed)
    v = shared * r.normal(size=400) + r.normal(size=(k, 400))
    low, high = K.simultaneous(np.c_[v.mean(1), v])
    one = np.array([percentile_interval(np.r_[0, x])[:2] for x in v]).T
    assert (
        ((low <= v.T) & (high >= v.T)).all(1).mean() >= 0.945
        and (low <= one[0] + 0.02).all()
        and (high >= one[1] - 0.02).all()
    )
    if k == 1:
        assert low == pytest.approx(one[0]) and high == pytest.approx(one[1])


def test_simultaneous_intervals_leave_undefined_draws_out():
    v = seeded_rng('gaps').normal(size=(2, 301))
    v[0, 5:25] = np.nan
    low, high = K.simultaneous(v)
    assert np.isfinite([low, high]).all()
    v[1, 20:290] = np.nan
    low, high = K.simultaneous(v)
    assert np.isnan([low[1], high[1]]).all() and (low[0], high[0]) == pytest.approx(
        percentile_interval(v[0])[:2]
    )  # a part without an interval leaves the other its own
    v[0, 20:290] = np.nan
    assert np.isnan(K.simultaneous(v)).all()


def test_draws_in_which_the_parts_do_not_meet_leave_no_band():
    v = seeded_rng('apart').normal(size=(2, 301))
    v[0, 1:150] = v[1, 150:290] = np.nan
    assert np.isnan(K.simultaneous(v)).all()


@pytest.mark.parametrize('undefined', [[np.nan] * 301, [np.nan, *[0.1] * 300], [0.1] * 50 + [np.nan] * 251])
def test_an_undefined_part_hides_no_refutation(undefined):
    r = seeded_rng('parts')
    v = np.stack([np.r_[m, r.normal(m, 0.01, 300)] for m in (-0.1, 0.1)])
    parts = K.measured([(n, x, {}) for n, x in zip('abc', [*v, np.array(undefined)])])
    assert (
        K.decide(parts, 'ahead')[0]
        == K.decide(K.measured([(n, x, {}) for n, x in zip('ab', v)]), 'ahead')[0]
        == 'not supported'
    )
    assert (
        np.isnan(parts.loc[2, ['low_all', 'high_all']].to_numpy(float)).all()
        and K.decide(parts.iloc[1:].reset_index(drop=True), 'ahead')[0] == 'undecided'
    )


# ---------------------------------------------------------------- the list


def test_quotes_are_the_papers_words(shared):
    def flat(s):
        return re.sub(r'[^a-z0-9%><]+', '', s.replace('\\approx', '').lower())

    paper = flat((shared / 'paper.md').read_text(encoding='utf-8'))
    for c in K.CLAIMS:
        assert flat(c.quote) in paper, c.quote


def test_every_claim_has_a_name_a_rule_and_a_word_on_what_is_compared():
    t = K.register()
    assert t['claim'].is_unique and t.notna().all().all() and (t.map(len) > 0).all().all()
    assert {c.relation for c in K.CLAIMS} == set(RELATIONS) and len(t) == 25


# ---------------------------------------------------------------- tests against plain arithmetic

SKILL = {'LR': 0.70, 'RNN-C': 0.72, 'MN-LR-1': 0.73, 'MN-LR-2': 0.74, 'untrained-LR-2': 0.68, 'MN-FT': 0.71}
LOSS = {'RNN-C': 0.05, 'MN-LR-2': 0.03}


def linear(model, kind, f):
    return SKILL[model] + (0.05 if kind == 'mortality' else 0) + LOSS.get(model, 0.04) * np.log10(f) / 2


def test_gaps_and_growth_are_differences_of_means():
    ev = results_made(linear)
    t = K.difference_test([('MN-LR-2', 'RNN-C')], 'every')(ev)
    assert len(t) == 8 and t['estimate'].to_numpy() == pytest.approx(
        [linear('MN-LR-2', k, f) - linear('RNN-C', k, f) for k in K.BOTH for f in ev.fractions]
    )
    assert (
        (t['low'] < t['estimate']).all()
        and (t['low_all'] <= t['low']).all()
        and t['n_ahead'].tolist() == [3] * 4 + [1] * 4
    )
    assert K.lead_growth_test('MN-LR-2', 'RNN-C', 'smallest', 'full')(ev)['estimate'].to_numpy() == pytest.approx(
        [0.02, 0.02]
    )
    assert K.lead_growth_test('MN-LR-2', 'RNN-C', 'small', 'large')(ev, ('phenotype',))[
        'estimate'
    ].item() == pytest.approx(0.015 - 0.02 * -np.log10(0.5) / 4)
    assert len(K.lead_growth_test('MN-LR-2', 'RNN-C', 'reduced', 'full', each=True)(ev)) == 6
    assert K.degradation_test(['RNN-C', 'MN-LR-2'])(ev, ('phenotype',))['estimate'].to_numpy() == pytest.approx(
        [0.05, 0.03]
    )
    assert K.mean_difference_test([('MN-LR-2', 'LR')])(ev, ('mortality',))['estimate'].item() == pytest.approx(
        np.mean([linear('MN-LR-2', '', f) - linear('LR', '', f) for f in ev.fractions])
    )


def test_labels_needed_are_read_off_the_line():
    ev = results_made(linear, sd=1e-6)
    found = K.labels_needed('MN-LR-2', 'RNN-C')(ev)  # .74 + .015 log10 f = .72
    assert found['estimate'].to_numpy() == pytest.approx([10 ** (-0.02 / 0.015)] * 2, rel=0.02)


def test_shape_claims_keep_to_tasks_present_at_both_ends():
    ev = results_made(lambda m, k, f: linear(m, k, f))
    ev.results.loc[
        (ev.results['task'] == 'A') & (ev.results['fraction'] == 0.01) & (ev.results['model'] == 'RNN-C'), 'auroc'
    ] = np.nan
    ev.values['auroc'][(ev.results['task'] == 'A') & (ev.results['fraction'] == 1)] += (
        0.1
        * (ev.results['model'] == 'RNN-C').to_numpy()[(ev.results['task'] == 'A') & (ev.results['fraction'] == 1)][
            :, None
        ]
    )
    assert K.lead_growth_test('MN-LR-2', 'RNN-C', 'smallest', 'full')(ev, ('phenotype',))[
        'estimate'
    ].item() == pytest.approx(0.02)


def test_sparsity_counts_tasks():
    ev = results_made(linear, share=lambda m, kind: 0.96 if kind == 'phenotype' else 0.8)
    t = K.share_used(['MN-LR-1'], zero=True)(ev, ('phenotype',))
    assert (
        t['n_tasks'].item() == 3
        and t['estimate'].item() == pytest.approx((288 + 289) / 600)
        and t['low'].item() == pytest.approx(t['high'].item())
    )
    assert K.more_for_mortality(['MN-LR-1'])(ev)['estimate'].item() == pytest.approx(0.16)
    few = K.share_used(['LR'])(ev, ('mortality',))
    assert np.isnan(few['low'].item())


def test_the_same_task_in_several_splits_counts_once():
    ev = results_made(linear, share=lambda m, kind: 0.9)
    ev.results.loc[ev.results['task'] == 'A', 'n_near_zero'] = 150
    twice = Evaluation(
        pd.concat([ev.results, ev.results.assign(split=1)], ignore_index=True), ev.values, ev.positives, ev.about
    )
    test = K.share_used(['MN-LR-1'])
    pd.testing.assert_frame_equal(test(twice), test(ev))
    assert test(twice)['n_tasks'].item() == 4


def emptied(ev, model, kind, most):
    "The same results, where the first fits of a model have every weight near zero."
    r = ev.results
    at = r.index[(r['model'] == model) & (r['task_kind'] == kind) & (r['fraction'] == 1)][:most]
    r.loc[at, 'n_near_zero'] = r.loc[at, 'n_features']
    return ev


SPARSE = 'few features', '95 % near zero', 'more features for mortality'


def test_models_without_a_weight_support_nothing():
    def made():
        return results_made(linear, share=lambda m, kind: 0.5 if kind == 'phenotype' else 0.6)

    plain = K.share_used(['MN-LR-1'])(made(), ('phenotype',))
    few = K.share_used(['MN-LR-1'])(emptied(made(), 'MN-LR-1', 'phenotype', 2), ('phenotype',)).iloc[
        0
    ]  # both seeds of task A
    assert (
        few['n_tasks'] == 2
        and few['estimate'] == pytest.approx(plain['estimate'].item())
        and few['remark'] == '2 of 6 phenotype fits of MN-LR-1 left out: every weight near zero'
    )
    ev = emptied(made(), 'MN-LR-1', 'phenotype', 1)
    t = K.claims_table(ev).set_index('claim')
    assert (
        '1 of 6 phenotype fits of MN-LR-1 left out' in t.loc['95 % near zero', 'reason']
        and t.loc['95 % near zero', 'verdict'] == 'not supported'
    )
    proof = K.gather_evidence(ev).query("claim in @SPARSE and part.str.startswith('MN-LR-1')", engine='python')
    assert (
        len(proof) == 3
        and proof['reason'].str.contains('1 of 8 phenotype and mortality fits|1 of 6 phenotype fits').all()
    )


@pytest.mark.parametrize('most,verdict', [(3, 'not supported'), (4, 'not run'), (6, 'not run')])
def test_where_most_models_have_no_weight_sparsity_is_not_tested(most, verdict):
    t = (
        K.claims_table(emptied(results_made(linear, share=lambda m, kind: 0.5), 'MN-LR-1', 'phenotype', most))
        .set_index('claim')
        .loc['95 % near zero']
    )
    assert t['verdict'] == verdict and (
        verdict != 'not run' or t['reason'] == f'{most} of 6 phenotype fits of MN-LR-1 have every weight near zero'
    )


@pytest.mark.parametrize('empty,verdict', [(1, 'supported'), (2, 'supported'), (3, 'not run'), (4, 'not run')])
def test_tasks_without_a_weight_do_not_make_features_few(empty, verdict):
    w = np.zeros((4, 10))
    w[empty:, :3] = 1
    t = K.claims_table(results_made(linear), {0: pd.DataFrame(w)}).set_index('claim')
    row = t.loc['130 of 300']
    said = f'{empty} of 4 models of MN-LR-1 in split 0 '
    assert row['verdict'] == verdict and row['reason'] == (
        f'{K.NO_INTERVAL}; {said}left out: every weight near zero'
        if verdict == 'supported'
        else f'{said}have every weight near zero'
    )
    assert (t.loc['several generic features', 'verdict'] == 'not run') == (verdict == 'not run')


def test_a_count_says_that_it_has_no_interval():
    used = {s: pd.DataFrame(np.eye(4, 10)) for s in (0, 1)}
    t = K.claims_table(results_made(linear), used).set_index('claim').loc['130 of 300']
    assert (
        t['reason'] == 'descriptive: no interval; 2 of 2 parts hold'
        and t['low'] == t['estimate'] == t['high']
        and 'without an interval' in t['compared']
    )
    assert set(K.gather_evidence(results_made(linear), used).query("claim == '130 of 300'")['reason']) == {
        'descriptive: no interval'
    }


def test_shared_features_are_held_against_chance():
    r = seeded_rng('chance')
    random = pd.DataFrame((r.random((11, 300)) < 0.05).astype(float))
    same = pd.DataFrame(np.tile(r.random(300) < 0.05, (11, 1)).astype(float))
    both = K.shared_features({0: random, 1: same})
    assert both['low'][0] < 0 < both['high'][0] and not K.supports(both['low'][0], both['high'][0], 'above')
    alone = (pd.DataFrame(np.eye(11, 300)), pd.DataFrame(np.eye(11, 300) + np.eye(1, 300, 0)))
    assert K.shared_features({0: alone[0]})['estimate'].item() < K.shared_features({0: alone[1]})['estimate'].item()
    assert K.used_by_any_task({0: same})['estimate'].item() == pytest.approx(same.iloc[0].mean())


# ---------------------------------------------------------------- whole tables


def verdicts(ev, used=None):
    return K.claims_table(ev, used).set_index('claim')['verdict']


def test_results_as_in_the_papers_figure_support_its_claims():
    def paper(m, kind, f):
        few = -np.log10(f) / 2  # 0 at 100 %, 1 at 1 %
        return {
            'LR': 0.72 - 0.05 * few,
            'RNN-C': 0.745 - 0.12 * few,
            'MN-LR-1': 0.745 - 0.02 * few,
            'MN-LR-2': 0.745 - 0.02 * few + (0.02 if kind == 'mortality' else 0),
            'untrained-LR-2': 0.70 - 0.05 * few,
            'MN-FT': 0.745 - 0.06 * few,
        }[m]

    used = {0: pd.DataFrame(np.r_[[np.r_[np.ones(40), np.zeros(260)]] * 4])}
    ev = results_made(paper, sd=0.0005, share=lambda m, kind: 0.85 if kind == 'mortality' else 0.975)
    found = verdicts(ev, used)
    assert (found == 'supported').sum() >= 22 and not (found == 'not run').any()
    assert (
        found['fewer labels'] in ('supported', 'undecided')
        and found['equal with all labels'] == 'supported'
        and found['LR better on small sets'] == 'supported'
    )


def test_results_against_the_paper_refute_its_claims():
    ev = results_made(
        lambda m, kind, f: (
            {'LR': 0.80, 'RNN-C': 0.78, 'untrained-LR-2': 0.75, 'MN-FT': 0.77, 'MN-LR-1': 0.70, 'MN-LR-2': 0.70}[m]
            + 0.02 * np.log10(f)
        ),
        sd=0.0005,
        share=lambda m, kind: 0.3,
    )
    found = verdicts(ev)
    refuted = found[found == 'not supported'].index
    assert {
        'worst case',
        'better than statistics',
        'generic',
        'fine-tuning',
        'small data',
        'equal with all labels',
        'as effective',
        'consistently ahead',
        'fewer labels',
        'mortality',
        'few features',
        '95 % near zero',
        'more gracefully',
    } <= set(refuted)
    assert (
        found['LR better on small sets'] == 'supported'
        and found['130 of 300'] == 'not run'
        and found['both degrade'] == 'supported'
    )


def test_noise_leaves_claims_undecided():
    ev = results_made(lambda m, kind, f: 0.7, sd=0.1)
    found = verdicts(ev)
    assert not (
        found[['worst case', 'better than statistics', 'equal with all labels', 'consistently ahead']] != 'undecided'
    ).any()


def test_claims_without_their_systems_are_not_run_and_say_why():
    ev = toy_evaluation({'LR': 0.4, 'MN-LR-2': 0.9})
    t = K.claims_table(ev)
    t = t.set_index('claim')
    assert t.loc['worst case', 'verdict'] == 'not run' and t.loc['worst case', 'reason'] == 'RNN-C: not run'
    assert (
        t.loc['mortality', 'reason'] == 'RNN-C: not run'
        and t.loc['better than statistics', 'reason'].endswith('no mortality task in this run')
        and t['synthetic'].all()
    )
    assert (
        t.loc['130 of 300', 'reason'] == 'MN-LR-1: no weights at hand'
        and t.loc['95 % near zero', 'verdict'] == 'not run'
        and 'not run' in K.count_verdicts(t)
    )
    ev = toy_evaluation({m: 0.4 for m in ('LR', 'RNN-C', 'MN-LR-2')}, fractions=(0.2, 0.5))
    t = K.claims_table(ev).set_index('claim')
    assert (
        t.loc['small data', 'reason'].startswith('MN-LR-1')
        and t.loc['LR better on small sets', 'reason'] == 'a fraction of at most 10 % was not run'
        and t.loc['equal with all labels', 'reason'] == '100 % of the labels was not run'
    )


def test_without_replicates_nothing_is_decided():
    ev = toy_evaluation({m: 0.4 for m in ('LR', 'RNN-C', 'MN-LR-2')}, replicates=0)
    t = K.claims_table(ev).set_index('claim')
    assert (
        t.loc['equal with all labels', 'verdict'] == 'undecided'
        and t.loc['equal with all labels', 'reason'] == 'no interval'
        and t.loc['equal with all labels', 'estimate']
        == pytest.approx(ev.compare('MN-LR-2', 'RNN-C').iloc[-1]['difference'])
    )


def test_the_evidence_holds_every_part():
    ev = results_made(linear)
    proof = K.gather_evidence(ev)
    t = K.claims_table(ev).set_index('claim')
    counted = proof[proof['part'].notna()].groupby('claim').size()
    for claim, n in counted.items():
        assert t.loc[claim, 'n_parts'] == n
    assert set(proof['claim']) == {c.name for c in K.CLAIMS}
