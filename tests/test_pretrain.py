"Splits, leakage removal and training against brute force."

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer import pretrain
from rnn_transfer.cohorts.channels import Task
from rnn_transfer.data import PreparedCohort, run_data
from rnn_transfer.learning.autoencoder import reconstruction_loss
from rnn_transfer.learning.networks import network_features, network_path
from rnn_transfer.learning.splits import check_enough_left, count_prevalences, draw_splits, remove_leakage
from rnn_transfer.learning.systems import ABLATION_NETWORKS
from rnn_transfer.learning.training import (
    Diverged,
    TrainSettings,
    choose_hidden,
    evaluate_loss,
    fit_with_monitors,
    iter_batches,
    predict_batches,
    train_network,
)
from rnn_transfer.model import extract_features, init_network, load_checkpoint, replace_head, run_model
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

TASKS = [Task(f'P{i}') for i in range(12)] + [Task('death', 'mortality')]
SHARE = {f'P{i}': i / 20 for i in range(12)} | dict(death=0.1)


@settings(max_examples=40, deadline=None)
@given(n_splits=st.integers(1, 3), n_held_out=st.integers(1, 3), seed=st.integers(0, 999))
def test_splits_are_disjoint_complete_and_in_range(n_splits, n_held_out, seed):
    splits = draw_splits(TASKS, SHARE, n_splits, n_held_out, low=0.05, high=0.5, seed=seed)
    assert splits == draw_splits(TASKS, SHARE, n_splits, n_held_out, low=0.05, high=0.5, seed=seed)
    held = [t for s in splits for t in s.target]
    assert len(held) == len(set(held)) == n_splits * n_held_out and all(0.05 <= SHARE[t] <= 0.5 for t in held)
    for i, s in enumerate(splits):
        assert s.number == i and sorted(s.source + s.target) == sorted(f'P{k}' for k in range(12))
    assert splits[:1] == draw_splits(TASKS, SHARE, 1, n_held_out, low=0.05, high=0.5, seed=seed)


@settings(max_examples=60, deadline=None)
@given(n_splits=st.integers(1, 30), n_held_out=st.integers(1, 7), seed=st.integers(0, 999))
def test_any_number_of_splits(n_splits, n_held_out, seed):
    n_splits = min(n_splits, comb(12, n_held_out))
    splits = draw_splits(TASKS, SHARE, n_splits, n_held_out, seed=seed)
    first = 12 // n_held_out
    assert (
        [s.number for s in splits] == list(range(n_splits))
        and len({frozenset(s.target) for s in splits}) == n_splits
        and all(len(s.target) == n_held_out for s in splits)
    )
    held = [t for s in splits[:first] for t in s.target]
    assert len(held) == len(set(held)) and splits[:1] == draw_splits(TASKS, SHARE, 1, n_held_out, seed=seed)
    assert splits[:-1] == draw_splits(TASKS, SHARE, max(n_splits - 1, 1), n_held_out, seed=seed)[: n_splits - 1]


def test_other_seeds_hold_out_others():
    assert len({tuple(draw_splits(TASKS, SHARE, 1, 3, seed=s)[0].target) for s in range(20)}) > 10


@pytest.mark.parametrize(
    'kw, message',
    [
        (dict(n_splits=1, n_held_out=13), '13 held-out phenotypes, but only 12 of 12'),
        (
            dict(low=0.2, high=0.3, n_splits=4, n_held_out=2),
            r'2 of 3 phenotypes can be held out in only 3 ways: draw fewer or let more take part than those with a '
            r'prevalence in \[0.2, 0.3\]',
        ),
        (dict(n_splits=1, n_held_out=12), 'hold out fewer'),
        (dict(n_splits=0), 'at least one'),
        (dict(n_held_out=0), 'at least one'),
    ],
)
def test_too_few_phenotypes(kw, message):
    with pytest.raises(BadInput, match=message):
        draw_splits(TASKS, SHARE, **kw)


def test_prevalence_is_not_taken_from_the_test_set():
    stays = pd.DataFrame(dict(partition=['train', 'val', 'val', 'test'], A=[1, 0, np.nan, 1.0]))
    assert count_prevalences(stays, ['A'])['A'] == 0.5


cohorts = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 0.0, 1.0])),
    min_size=1,
    max_size=30,
)


def cohort(rows):
    return pd.DataFrame(
        dict(
            subject_id=[s for s, *_ in rows],
            partition=[('train', 'train', 'val', 'test')[s % 4] for s, *_ in rows],
            A=[a for _, a, _ in rows],
            B=[b for *_, b in rows],
            C=1.0,
        )
    )


@settings(max_examples=150, deadline=None)
@given(cohorts)
def test_removal_against_a_loop(rows):
    stays = cohort(rows)
    keep, flow = remove_leakage(stays, ['A', 'B'])
    bad, own = set(), {'A': set(), 'B': set()}
    for s, a, b in rows:
        if a == 1:
            own['A'].add(s)
        if b == 1:
            own['B'].add(s)
    bad = own['A'] | own['B']
    want = [p == 'test' or s not in bad for s, p in zip(stays.subject_id, stays.partition)]
    assert keep.tolist() == want
    left = stays[keep & (stays.partition != 'test')]
    assert not (left[['A', 'B']] == 1).any(axis=None) and not set(left.subject_id) & bad
    count = {(r.partition, r.step): (r.stays, r.subjects) for r in flow.itertuples()}
    for part in ('train', 'val', 'test'):
        ids = [s for s, p in zip(stays.subject_id, stays.partition) if p == part]
        gone = [s for s in ids if s in bad and part != 'test']
        assert count[part, 'all'] == (len(ids), len(set(ids)))
        assert count[part, 'leaves for any of these'] == (len(gone), len(set(gone)))
        assert count[part, 'left'] == (len(ids) - len(gone), len(set(ids) - set(gone)))
        for t in 'AB':
            if part != 'test':
                assert count[part, f'leaves for {t}'] == (sum(s in own[t] for s in ids), len(set(ids) & own[t]))


def test_removal_that_leaves_nothing_names_the_numbers():
    stays = pd.DataFrame(
        dict(subject_id=[1, 1, 2, 3], partition=['train', 'train', 'val', 'test'], A=[0, 1, 0, 0.0], B=[0, 0, 1, 0.0])
    )
    with pytest.raises(BadInput, match='train: removing subjects with A leaves 0 of 2 stays'):
        check_enough_left(remove_leakage(stays, ['A']).flow, ['A'])
    with pytest.raises(BadInput, match='val: removing subjects with B leaves 0 of 1 stays'):
        check_enough_left(remove_leakage(stays, ['B']).flow, ['B'])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 99))
def test_each_epoch_visits_every_stay_once(n, size, seed):
    r = iter_batches(n, size, seed)
    for _ in range(2):
        epoch = [next(r) for _ in range(-(-n // size))]
        assert sorted(torch.cat(epoch).tolist()) == list(range(n)) and all(len(b) == size for b in epoch[:-1])


def problem(n=40, k=2, seed=0):
    r = np.random.default_rng(seed)
    X = r.normal(size=(n, 5, 3)).astype(np.float32)
    y = (X.mean(1)[:, :k] > 0).astype(np.float32)
    y[r.random((n, k)) < 0.2] = np.nan
    return X, y


FAST = TrainSettings(lr=0.02, batch=16, max_updates=30, eval_every=3, patience=3, device='cpu')


def train(seed=0, data=None, net=None, **changes):
    net = net or init_network(3, 4, 2, seed=1)
    X, y = data or problem()
    return net, train_network(net, X, y, *problem(20, seed=9), replace(FAST, **changes), seed=seed)


def same(a, b):
    return all(torch.equal(w, b.state_dict()[k]) for k, w in a.state_dict().items())


def test_same_seed_same_weights_bit_for_bit():
    torch.manual_seed(3)
    a, one = train()
    torch.manual_seed(4)
    b, two = train()
    assert same(a, b) and one.curve.equals(two.curve)
    assert not same(a, train(seed=1)[0])


def test_fit_leaves_torchs_generator_alone():
    torch.manual_seed(1)
    want = torch.rand(2)
    torch.manual_seed(1)
    train()
    assert torch.equal(torch.rand(2), want)


def test_best_weights_are_restored():
    net, h = train(lr=0.3, max_updates=60)
    X, y = (torch.from_numpy(a) for a in problem(20, seed=9))
    assert h.stopped == 'patience' and h.best_update < h.updates
    assert evaluate_loss(net, X, y) == h.best_val == h.curve.val.min() and not net.training
    assert (h.curve.val.to_numpy()[-FAST.patience :] >= h.best_val).all() and h.curve['update'][
        h.curve.val.idxmin()
    ] == h.best_update == h.updates - 3 * FAST.patience


def test_training_that_only_harms_returns_the_start():
    X, _ = problem()
    net = init_network(3, 4, 2, seed=1)
    with torch.no_grad():
        X_val, y_val = X[:8], (net.eval()(torch.from_numpy(X[:8])) > 0).float().numpy()
    h = train_network(net, X, 1 - np.resize(y_val, (40, 2)), X_val, y_val, replace(FAST, lr=0.5))
    assert h.best_update == 0 and same(net, init_network(3, 4, 2, seed=1))


def test_validation_checks_are_an_epoch_or_eval_every_apart():
    assert train(eval_every=2, patience=99)[1].curve['update'].tolist()[:4] == [0, 3, 6, 9]
    h = train(eval_every=7, patience=99)[1]
    assert h.curve['update'].tolist() == [0, 7, 14, 21, 28, 30] and h.stopped == 'max_updates'
    assert np.isnan(h.curve.train[0]) and h.curve.train[1:].notna().all()


def test_one_update_is_adam_on_the_loss_of_eq_1():
    X, y = problem()
    net, h = train(net=init_network(3, 4, 2, seed=1, dropout=0.0), batch=64, max_updates=1, eval_every=1, patience=9)
    want = init_network(3, 4, 2, seed=1, dropout=0.0)
    p, known = torch.sigmoid(want(torch.from_numpy(X))), ~np.isnan(y)
    loss = -torch.log(torch.where(torch.from_numpy(y == 1), p, 1 - p))[torch.from_numpy(known)].mean()
    loss.backward()
    assert h.curve.train[1] == pytest.approx(loss.item(), rel=1e-5) and h.best_update == 1
    # the first step of Adam is lr times the sign of the gradient
    for a, b in zip(net.parameters(), want.parameters()):
        torch.testing.assert_close(
            a.detach(), (b - 0.02 * b.grad / (b.grad.abs() + 1e-8)).detach(), atol=2e-5, rtol=1e-4
        )


def test_stays_without_labels_change_nothing():
    X, y = problem()
    more = (
        np.concatenate([X[:20], np.full((7, 5, 3), np.nan, np.float32), X[20:]]),
        np.concatenate([y[:20], np.full((7, 2), np.nan, np.float32), y[20:]]),
    )
    known = ~np.isnan(y).all(1)
    assert same(train(data=(X[known], y[known]))[0], train(data=more)[0])


def test_one_labelled_validation_stay_and_one_task_are_enough():
    X, y = problem(k=1)
    net = init_network(3, 4, 1)
    h = train_network(net, X[:3], y[:3, 0], X[5:9], np.array([np.nan, 1, np.nan, np.nan]), FAST)
    assert np.isfinite(h.best_val) and 0 < h.updates <= 30


def test_monitors_do_not_know_of_each_other():
    X, y = problem()
    vals = [(*problem(20, seed=9), None), (*problem(6, seed=5), None), (*problem(11, seed=7), None)]
    long = replace(FAST, lr=0.2, max_updates=90)
    together = fit_with_monitors(init_network(3, 4, 2, seed=1), X, y, vals, long)
    assert len({w.history.updates for w in together}) > 1  # they stop at different moments
    for val, w in zip(vals, together):
        net = init_network(3, 4, 2, seed=1)
        h = train_network(net, X, y, *val[:2], long)
        assert h.curve.equals(w.history.curve) and (h.best_update, h.best_val, h.stopped) == (
            w.best_update,
            w.best_val,
            w.stopped,
        )
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in w.state.items())


def test_another_loss_is_minimised():
    X, _ = problem()
    net, y = init_network(3, 4, 2, seed=1), X.mean(1)[:, :2] * 3
    y[::3, 0] = np.nan
    h = train_network(
        net, X, y, X[:20], y[:20], replace(FAST, lr=0.05, max_updates=150, patience=50), loss=reconstruction_loss
    )
    with torch.no_grad():
        got = net(torch.from_numpy(X[:20])).numpy()
    assert h.best_val == pytest.approx(np.nanmean((got - y[:20]) ** 2), rel=1e-4) and h.best_val < 0.3 * np.nanvar(
        y[:20]
    )


def test_lengths_are_used_in_training():
    X, y = problem()
    lengths = np.arange(40) % 5 + 1
    noise = X.copy()
    for i, n in enumerate(lengths):
        noise[i, n:] = 99
    X_val, y_val = problem(20, seed=9)
    nets = [init_network(3, 4, 2) for _ in range(2)]
    h = [
        train_network(net, x, y, X_val, y_val, FAST, lengths=lengths, lengths_val=np.full(20, 5)).best_val
        for net, x in zip(nets, (X, noise))
    ]
    assert same(*nets) and h[0] == h[1]


def test_read_only_grids_are_not_touched(tmp_path):
    X, y = problem()
    np.save(tmp_path / 'grid.npy', X)
    memory = np.load(tmp_path / 'grid.npy', mmap_mode='r')
    y = np.nan_to_num(y)
    assert same(train(data=(memory, y))[0], train(data=(X, y))[0])


@pytest.mark.filterwarnings('error')
def test_clear_errors_of_fit():
    X, y = problem()
    with pytest.raises(BadInput, match='not finite after'):
        train(data=(X * np.float32('inf'), y))
    with pytest.raises(BadInput, match='training: none of the 40'):
        train(data=(X, y * np.nan))
    with pytest.raises(BadInput, match='training: none of the 0'):
        train(data=(X[:0], y[:0]))
    with pytest.raises(BadInput, match='validation: none of the 3'):
        train_network(init_network(3, 4, 2), X, y, X[:3], y[:3] * np.nan, FAST)
    with pytest.raises(BadInput, match='40 stays and 39 rows'):
        train(data=(X, y[1:]))
    for bad in (dict(lr=0), dict(batch=0), dict(patience=0), dict(max_updates=0), dict(eval_every=0)):
        with pytest.raises(BadInput, match='must be positive'):
            train(**bad)


def test_validation_loss_does_not_depend_on_batches():
    net, (X, y) = init_network(3, 4, 2).eval(), problem()
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    assert evaluate_loss(net, X, y, batch=7) == pytest.approx(evaluate_loss(net, X, y), rel=1e-6)


def test_outputs_do_not_depend_on_batches_and_read_arrays_as_tensors():
    net, (X, _) = init_network(3, 4, 2), problem()
    lengths = np.arange(40) % 5 + 1
    whole = torch.cat([outputs for _, outputs in predict_batches(net, torch.from_numpy(X), torch.from_numpy(lengths))])
    parts = list(predict_batches(net, X, lengths, batch=16))
    assert [len(X[at]) for at, _ in parts] == [16, 16, 8] and not whole.requires_grad and not net.training
    torch.testing.assert_close(torch.cat([outputs for _, outputs in parts]), whole)


def test_choose_hidden():
    assert choose_hidden({300: 0.2, 100: 0.2, 200: 0.3}) == 100
    with pytest.raises(BadInput, match='empty'):
        choose_hidden({})


def test_another_head_keeps_the_recurrent_weights():
    start = init_network(3, 4, 7, seed=2)
    net = replace_head(start, 2, seed=5)
    assert same(net.rnn, start.rnn) and net.head.out_features == 2
    assert net.rnn.weight_hh_l0.data_ptr() != start.rnn.weight_hh_l0.data_ptr()


SETTINGS = TrainSettings(lr=0.02, max_updates=6, eval_every=2, patience=2, device='cpu')
SMALL = dict(n_held_out=2, hidden=[2, 3], settings=SETTINGS, seed=3)
NETWORKS = ['mimic-net', *ABLATION_NETWORKS, 'mimic-net@1', 'untrained@1']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    run_data(toy_cohort(120), folder)
    run_model(folder, [2, 3], seed=3)
    return folder


@pytest.fixture(scope='module')
def done(run):
    return run_pretrain(run, 1, **SMALL, inits=1)


def test_artefacts_of_a_run(run, done):
    out = run / 'split-1' / 'pretrain'
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ['curves.csv', 'flow.csv', 'split.json'] + [f'{n}.{e}' for n in NETWORKS for e in ('json', 'safetensors')]
    )
    assert json.loads((out / 'split.json').read_text()) == done
    data, curves, flow = PreparedCohort.load(run), pd.read_csv(out / 'curves.csv'), pd.read_csv(out / 'flow.csv')
    want = draw_splits(data.tasks, count_prevalences(data.stays, data.phenotypes), 2, 2, 0.05, 0.3, seed=3)[1]
    assert (done['source'], done['target']) == (want.source, want.target) and flow.equals(
        remove_leakage(data.stays, want.target).flow
    )
    for name in ('mimic-net', 'no-removal'):
        best = curves[curves.network == name].groupby('hidden').val.min()
        net = load_checkpoint(out / f'{name}.safetensors', columns=data.columns, tasks=want.source)
        assert net.config['hidden'] == done[name]['hidden'] == best.idxmin() and net.meta['target'] == want.target
        assert {n['hidden']: n['val_loss'] for n in done[name]['networks']} == pytest.approx(best.to_dict())
    assert done['hidden'] == done['mimic-net']['hidden']


def test_networks_of_a_run_are_fit_on_the_stays_that_remain(run, done):
    data = PreparedCohort.load(run)
    part = data.stays.partition.to_numpy()
    sick = set(data.stays.subject_id[(data.stays[done['target']] == 1).any(axis=1)])
    left = ~data.stays.subject_id.isin(sick).to_numpy()
    for name, rows in (('mimic-net', left), ('no-removal', left | True)):
        (a, b), h = (np.flatnonzero(rows & (part == p)) for p in ('train', 'val')), done[name]['hidden']
        net = replace_head(load_checkpoint(run / 'model' / f'h-{h}.safetensors'), len(done['source']), 3)
        train_network(
            net,
            data.X[a],
            data.labels(done['source'])[a],
            data.X[b],
            data.labels(done['source'])[b],
            SETTINGS,
            seed=3,
        )
        assert same(net, load_checkpoint(run / 'split-1' / 'pretrain' / f'{name}.safetensors'))


# The other networks


def changed(run, to, stays=None, X=None):
    "A copy of a run up to its model step, with other labels or another grid."
    for d in ('data', 'model'):
        shutil.copytree(run / d, to / d)
    if stays is not None:
        table = pd.read_parquet(to / 'data/stays.parquet')
        stays(table)
        table.to_parquet(to / 'data/stays.parquet', index=False)
    if X is not None:
        np.save(to / 'data/grid.npy', X)
    return to


def weights(run, name, split=1):
    return load_checkpoint(run / f'split-{split}' / 'pretrain' / f'{name}.safetensors')


ONE = SMALL | dict(hidden=[3])


@pytest.fixture(scope='module')
def one(run, tmp_path_factory):
    "As `done`, with one h, so that nothing depends on which is chosen."
    to = changed(run, tmp_path_factory.mktemp('one') / 'run')
    run_pretrain(to, 1, **ONE, inits=1)
    return to


@pytest.mark.parametrize('name, unread', [('masks-only', False), ('values-only', True)])
def test_networks_of_some_columns_do_not_depend_on_the_others(run, one, tmp_path, name, unread):
    data = PreparedCohort.load(run)
    mask, X = np.array([c.startswith('mask->') for c in data.columns]), np.array(data.X)
    X[..., mask == unread] = np.random.default_rng(0).normal(size=X[..., mask == unread].shape)
    other = changed(run, tmp_path / 'run', X=X)
    run_pretrain(other, 1, **ONE, variants=[name])
    assert same(weights(one, name), weights(other, name)) and not same(
        weights(one, 'mimic-net'), weights(other, 'mimic-net')
    )
    assert weights(one, name).meta['reads'] == [c for c, m in zip(data.columns, mask) if m != unread]
    a, b = (network_features(r, 1, name, PreparedCohort.load(r))[0] for r in (one, other))
    np.testing.assert_array_equal(a, b)


def test_the_autoencoder_needs_no_label_and_no_split(run, one, tmp_path):
    other = changed(
        run,
        tmp_path / 'run',
        lambda t: t.update(
            pd.DataFrame({c: t[c].sample(frac=1, random_state=1).to_numpy() for c in t if c.startswith('Pheno')})
        ),
    )
    run_pretrain(other, 0, **ONE | dict(low=0, high=1), variants=['autoencoder'])
    assert same(weights(one, 'autoencoder'), weights(other, 'autoencoder', 0)) and not same(
        weights(one, 'autoencoder').rnn, load_checkpoint(run / 'model/h-3.safetensors').rnn
    )
    values = [c for c in PreparedCohort.load(run).columns if not c.startswith('mask->')]
    assert json.loads((one / 'split-1/pretrain/autoencoder.json').read_text())['tasks'] == values


def test_the_autoencoder_learns_from_all_train_stays(run, tmp_path):
    data = PreparedCohort.load(run)
    starts = []
    for partition in ('train', 'test'):
        X = np.array(data.X)
        X[data.rows(partition)[-3:]] += 1
        other = changed(run, tmp_path / partition, X=X)
        run_pretrain(other, 1, **ONE, variants=['autoencoder'])
        starts.append(weights(other, 'autoencoder'))
    assert not same(*starts)


def test_damaged_features_are_computed_again(one, tmp_path):
    import shutil

    run = shutil.copytree(one, tmp_path / 'run')
    data = PreparedCohort.load(run)
    whole, _ = network_features(run, 1, 'mimic-net', data)
    for cache in (run / 'split-1' / 'features').glob('mimic-net-*.npy'):
        cache.write_bytes(cache.read_bytes()[:50])
    np.testing.assert_array_equal(network_features(run, 1, 'mimic-net', data)[0], whole)
    for cache in (run / 'split-1' / 'features').glob('mimic-net-*.npy'):
        assert np.load(cache).shape == whole.shape


def test_the_autoencoder_has_a_cap_of_its_own(run, tmp_path):
    about = run_pretrain(
        changed(run, tmp_path / 'run'),
        1,
        **ONE | dict(settings=replace(SETTINGS, patience=99)),
        variants=['autoencoder'],
        autoencoder_updates=10,
    )
    assert about['mimic-net']['networks'][0]['updates'] == 6 and about['autoencoder']['networks'][0]['updates'] == 10


def test_other_initial_weights(run, one):
    data, about = PreparedCohort.load(run), json.loads((one / 'split-1/pretrain/split.json').read_text())
    left = remove_leakage(data.stays, about['target']).keep
    (a, b), y = (
        (np.flatnonzero(left & (data.stays.partition == p).to_numpy()) for p in ('train', 'val')),
        data.labels(about['source']),
    )
    net = init_network(len(data.columns), 3, len(about['source']), 4)
    np.testing.assert_array_equal(network_features(one, 1, 'untrained@1', data)[0], extract_features(net, data.X))
    train_network(
        net,
        data.X[a],
        y[a],
        data.X[b],
        y[b],
        SETTINGS,
        seed=4,
    )
    assert same(net, weights(one, 'mimic-net@1')) and about['inits'] == 1


def test_a_network_does_not_depend_on_which_others_are_trained(run, done, tmp_path):
    other = changed(run, tmp_path / 'run')
    about = run_pretrain(other, 1, **SMALL, variants=['values-only'], inits=2)
    assert about['variants'] == ['values-only'] and not network_path(other, 1, 'no-removal').exists()
    for name in ('mimic-net', 'values-only', 'mimic-net@1'):
        assert same(weights(other, name), weights(run, name))
    assert not same(weights(other, 'mimic-net@1'), weights(other, 'mimic-net@2'))


def test_features_are_there_when_pretraining_ends(run, done):
    data, cache = PreparedCohort.load(run), run / 'split-1' / 'features'
    before = {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}
    assert {n.rsplit('-', 1)[0] for n in before} == {'untrained', *NETWORKS}
    for name in ('untrained', *NETWORKS):
        z, names = network_features(run, 1, name, data)
        np.testing.assert_array_equal(z, extract_features(load_checkpoint(network_path(run, 1, name)), data.X))
        assert len(names) == z.shape[1]
    assert before == {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}
    for p in cache.iterdir():
        p.unlink()
    np.testing.assert_array_equal(
        network_features(run, 1, 'mimic-net', data)[0],
        extract_features(load_checkpoint(network_path(run, 1, 'mimic-net')), data.X),
    )
    run_pretrain(run, 1, **SMALL, inits=1)


def test_features_for_other_stays_respect_which_columns_a_network_reads(one):
    from rnn_transfer.estimators.extraction import extract_cohort_features

    data = PreparedCohort.load(one)
    for name in ('masks-only', 'values-only', 'autoencoder', 'mimic-net@1'):
        z = extract_cohort_features(toy_cohort(120), network_path(one, 1, name))
        np.testing.assert_allclose(z, network_features(one, 1, name, data)[0], atol=1e-6)


def test_a_grid_without_masks_has_no_network_of_masks(tmp_path):
    run_data(toy_cohort(120), tmp_path, masks=False)
    run_model(tmp_path, [2])
    about = run_pretrain(tmp_path, 0, **SMALL | dict(hidden=[2]))
    assert about['variants'] == ['no-removal', 'autoencoder'] and about['left_out'] == dict.fromkeys(
        ['masks-only', 'values-only'], 'the grid has no masks'
    )


@pytest.fixture
def blow_up(monkeypatch):
    "Trainings for which a test asks end in a loss that is no number."

    def of(which):
        def changed(net, X, *a, **k):
            if which(net, X):
                raise Diverged('the loss is not finite after 1 updates')
            return train_network(net, X, *a, **k)

        monkeypatch.setattr(pretrain, 'train_network', changed)

    return of


def test_a_size_that_diverges_loses_to_the_others(tmp_path, blow_up):
    run_data(toy_cohort(120), tmp_path)
    run_model(tmp_path, [2, 3])
    blow_up(lambda net, X: getattr(net, 'config', {}).get('hidden') == 3)
    about = run_pretrain(tmp_path, 0, **SMALL | dict(hidden=[2, 3]))
    assert (
        about['hidden'] == 2
        and about['mimic-net']['networks'][1]
        == dict(hidden=3, val_loss=None, best_update=None, updates=None, stopped='diverged')
        and about['left_out'] == {}
    )
    assert set(pd.read_csv(tmp_path / 'split-0/pretrain/curves.csv')['hidden']) == {2}
    blow_up(lambda net, X: True)
    with pytest.raises(Diverged, match='loss is not finite'):
        run_pretrain(tmp_path, 0, **SMALL | dict(hidden=[2, 3]))
    assert not (tmp_path / 'split-0/pretrain/split.json').exists()


def test_a_variant_that_diverges_is_left_out_with_the_reason(tmp_path, blow_up):
    run_data(toy_cohort(120), tmp_path)
    run_model(tmp_path, [2])
    data = PreparedCohort.load(tmp_path)
    blow_up(
        lambda net, X: len(X) == (data.stays['partition'] == 'train').sum()
    )  # those that learn from all train stays
    about = run_pretrain(tmp_path, 0, **SMALL | dict(hidden=[2]))
    assert about['variants'] == ['masks-only', 'values-only'] and about['left_out'] == dict.fromkeys(
        ['no-removal', 'autoencoder'], 'the loss is not finite after 1 updates'
    )
    fits = run_transfer(
        tmp_path,
        models=['LR', 'MN-LR-2', 'no-removal-LR-2', 'AE-LR-2'],
        settings=TrainSettings(lr=0.02, max_updates=5, eval_every=5, device='cpu'),
    )
    left = fits['model'].isin(['no-removal-LR-2', 'AE-LR-2'])
    assert (fits.loc[left, 'reason'] == 'the loss is not finite after 1 updates').all() and fits.loc[
        ~left, 'reason'
    ].isna().all()


def test_short_stays_of_true_length_go_through_every_network(tmp_path):
    cohort = toy_cohort(120)
    cohort.stays['los_hours'] = np.arange(120) % 50 + 1.0
    run_data(cohort, tmp_path, short_stays='length')
    run_model(tmp_path, [2])
    assert np.isfinite(
        run_pretrain(tmp_path, 0, **SMALL | dict(hidden=[2]), inits=1)['autoencoder']['networks'][0]['val_loss']
    )


def test_a_second_run_writes_the_same_bytes(run, done):
    out = run / 'split-1' / 'pretrain'
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    run_pretrain(run, 1, **SMALL, inits=1)
    assert first == {p.name: p.read_bytes() for p in out.iterdir()}


def test_untrained_control_is_the_start_of_pretraining(run, monkeypatch):
    import rnn_transfer.pretrain as m

    starts = {}

    def no_training(net, *a, **k):
        starts.setdefault(net.config['hidden'], net)
        raise BadInput('stop')

    monkeypatch.setattr(m, 'train_network', no_training)
    for h in (2, 3):
        with pytest.raises(BadInput, match='stop'):
            m.run_pretrain(run, 0, **SMALL | dict(hidden=[h]))
        X = PreparedCohort.load(run).X[:9]
        np.testing.assert_array_equal(
            extract_features(starts[h], X), extract_features(load_checkpoint(run / 'model' / f'h-{h}.safetensors'), X)
        )


def test_clear_errors_of_a_run(run, tmp_path):
    for kw, message in (
        (dict(split=2), 'counted from 0'),
        (dict(hidden=[]), 'empty'),
        (dict(hidden=[5]), 'h-5.safetensors: no such file'),
        (dict(n_held_out=8), 'one must be left to train on'),
        (dict(low=0.5, high=0.6), 'only 0 of 8'),
        (dict(variants=['masks']), 'no-removal, masks-only'),
        (dict(inits=-1), 'inits -1'),
    ):
        with pytest.raises(BadInput, match=message):
            run_pretrain(run, **dict(split=0) | SMALL | kw)
    assert not (run / 'split-0' / 'pretrain' / 'split.json').exists()
    with pytest.raises(BadInput, match='data step'):
        run_pretrain(tmp_path, **SMALL)


def test_removal_that_starves_a_run(tmp_path):
    cohort = toy_cohort(60)
    cohort.stays.loc[cohort.stays.partition != 'test', [t.name for t in cohort.tasks]] = 1.0
    cohort.stays.loc[cohort.stays.partition != 'train', 'Phenotype A'] = 0.0
    run_data(cohort, tmp_path)
    run_model(tmp_path, [2])
    with pytest.raises(BadInput, match=r'train: removing subjects with .* leaves 0 of \d+ stays'):
        run_pretrain(tmp_path, 0, **SMALL | dict(low=0, high=1, hidden=[2]))


# Imports


@pytest.mark.parametrize('module', ['systems', 'splits'])
def test_names_and_splits_can_be_checked_without_torch(module):
    code = f'import sys, rnn_transfer.learning.{module}; print(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {'torch', 'sklearn', 'matplotlib', 'scipy'} | ({'pandas'} if module == 'systems' else set())
    assert not heavy & set(loaded)


def test_trees_linear_algebra_and_figures_are_imported_where_they_are_used():
    code = 'import sys, rnn_transfer.transfer, rnn_transfer.pretrain; print(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert not {'sklearn', 'scipy.linalg', 'scipy.stats', 'matplotlib'} & set(loaded)
