"Table 1, null models, the path of lambda, and the features that tasks share."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from simulated import *

from rnn_transfer.data import PreparedCohort
from rnn_transfer.evaluation import features
from rnn_transfer.evaluation.features import rank_correlation, used_features
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.sparsity import null_model_table, path_frame, read_paths, sparsity_table
from rnn_transfer.learning import networks


def test_table_1_and_share_of_all_zero_models(done):
    ev = done[1]
    t = sparsity_table(ev)
    r = ev.results.query("fraction == 1 and model == 'LR' and task_kind == 'phenotype'")
    assert t.frame.query("model == 'LR' and task_kind == 'phenotype'")['mean'].iloc[0] == pytest.approx(
        (r['n_near_zero'] / r['n_features']).astype(float).mean()
    )
    assert '.974 ± .011' in t.shown.iloc[0]['MN-LR-2']
    assert '714' in t.note and 'same in all splits' in t.note and 'left out' not in t.note
    dropped = Evaluation(ev.results.assign(n_dropped=3), ev.values, ev.positives, ev.info)
    assert 'for LR 20, with 3 that do not vary left out' in sparsity_table(dropped).note
    zero = null_model_table(ev).shown.set_index('Model')
    assert (
        zero.loc['MN-LR-1', '5 %'] == '5 of 11' and 'RNN-C' not in zero.index
    )  # 12 fits, one of which could not be made


def test_path_is_counted_from_the_fits(crowd):
    run, ev = crowd
    path = read_paths(run, ev)
    d = path_frame(path).set_index(['model', 'fraction', 'lambda'])
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
    path = read_paths(run, ev)
    zero = null_model_table(ev, path).frame.set_index(['model', 'fraction'])
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
        not len(read_paths(run, ev))
        and not (run / 'figures' / 'path.svg').exists()
        and not (run / 'tables' / 'controls_other.csv').exists()
        and not (run / 'tables' / 'shuffled.csv').exists()
    )


def test_figure_3_counts_used_features(done):
    run, _ev = done
    for split, w in used_features(run).items():
        raw = pd.read_parquet(run / f'split-{split}' / 'fraction-1' / 'seed-0' / 'weights.parquet').query(
            "model == 'MN-LR-1'"
        )
        assert w.shape == (3, 8) and (w >= 0.001).any().sum() == raw[raw['weight'].abs() >= 0.001]['feature'].nunique()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_rank_correlation_equals_scipy(seed):
    r = np.random.default_rng(seed)
    Z, S = np.round(r.normal(size=(60, 3)), 1), np.round(r.normal(size=(60, 5)), 1)
    S[r.random((60, 5)) < 0.2] = np.nan
    S[:, 4] = np.where(np.isnan(S[:, 3]), np.nan, S[:, 4])
    S[:, 1] = 2.0
    got = rank_correlation(Z, S, least=20)
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
    data = PreparedCohort.load(run)
    column = next(
        c for c in data.statistics if data.statistics[c].notna().mean() > 0.9 and data.statistics[c].nunique() > 50
    )
    F = np.random.default_rng(0).normal(size=(len(data.stays), 16))
    F[:, 3] = -data.statistics[column].fillna(0).to_numpy()
    monkeypatch.setattr(networks, 'network_path', lambda *a: run)
    monkeypatch.setattr(networks, 'network_features', lambda *a: (F, [f'z2[{i}]' for i in range(16)]))
    first = features.feature_responses(run, {0: ['z2[3]', 'z2[1]']}).query("feature == 'z2[3]' and rank == 1").iloc[0]
    train = data.rows('train')
    known = data.statistics[column].iloc[train].notna().to_numpy()
    assert first['channel'] == column.split('|')[0] and first['rho'] == pytest.approx(
        spearmanr(F[train, 3][known], data.statistics[first['statistic']].iloc[train].to_numpy()[known])[0], abs=1e-9
    )
    found = features.section(replace(ev, folder=run))
    used = used_features(run)[0]
    counts = (used >= 0.001).sum()
    top = found['responses_MN-LR-1'].frame.query('split == 0').iloc[0]
    assert top['n_tasks'] == counts.max() and (found['responses_MN-LR-1'].shown['Split'].value_counts() <= 4).all()
