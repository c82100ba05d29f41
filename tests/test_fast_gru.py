"Our gradient of a GRU against PyTorch's, for all sizes, and where it is used."

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence
from toy_run import make_toy_run

from rnn_transfer import transfer
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.learning import fast_gru
from rnn_transfer.learning.fast_gru import FastGRU, use_fast_gru
from rnn_transfer.learning.training import TrainSettings, train_network
from rnn_transfer.model import init_network
from rnn_transfer.transfer import run_transfer

QUICK = TrainSettings(lr=0.05, max_updates=6, eval_every=3, device='cpu')


def twins(n, h, layers, dtype=torch.float64, dropout=0.0):
    "The same weights in our layer and in PyTorch's."
    torch.manual_seed(n + 10 * h + 100 * layers)
    ours = FastGRU(n, h, layers, batch_first=True, dropout=dropout, dtype=dtype)
    theirs = torch.nn.GRU(n, h, layers, batch_first=True, dropout=dropout, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(layer, x, of_outputs, of_last):
    "Outputs, final states, and the gradients of the input and of every weight."
    x = x.clone().requires_grad_()
    outputs, last = layer(x)
    loss = (outputs * of_outputs).sum() if of_outputs is not None else 0
    loss = loss + (last * of_last).sum() if of_last is not None else loss
    return outputs, last, *torch.autograd.grad(loss, [x, *layer.parameters()])


sizes = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(
    n=sizes, h=sizes, layers=st.integers(1, 3), batch=sizes, hours=sizes, which=st.sampled_from(['all', 'last', 'both'])
)
def test_outputs_and_gradients_are_those_of_pytorch(n, h, layers, batch, hours, which):
    ours, theirs = twins(n, h, layers)
    x = torch.randn(batch, hours, n, dtype=torch.float64)
    of_outputs = None if which == 'last' else torch.randn(batch, hours, h, dtype=torch.float64)
    of_last = None if which == 'all' else torch.randn(layers, batch, h, dtype=torch.float64)
    for got, wanted in zip(*(gradients(layer, x, of_outputs, of_last) for layer in (ours, theirs)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('scale', [1e-4, 1.0, 1e4])
def test_single_precision_of_small_and_large_inputs(scale):
    ours, theirs = twins(4, 8, 2, torch.float32)
    with torch.no_grad():
        for layer in (ours, theirs):
            for name, weight in layer.named_parameters():
                weight.mul_(0 if 'bias' in name else 1)  # states as small as the inputs
    x, upstream = scale * torch.randn(6, 10, 4), torch.randn(2, 6, 8)
    found = [gradients(layer, x, None, upstream) for layer in (ours, theirs)]
    for got, wanted in zip(*found, strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6 * wanted.abs().max().item())


@pytest.mark.filterwarnings('ignore:dropout option adds dropout')
@pytest.mark.parametrize('layers, dropout', [(1, 0.3), (2, 0.0), (2, 0.3), (3, 0.5), (2, 1.0)])
def test_the_seed_draws_the_dropout_that_it_draws_for_pytorch(layers, dropout):
    ours, theirs = twins(3, 4, layers, dropout=dropout)
    x, upstream, found = torch.randn(5, 6, 3, dtype=torch.float64), torch.randn(5, 6, 4, dtype=torch.float64), []
    for layer in (ours, theirs):
        torch.manual_seed(1)
        found.append(gradients(layer, x, upstream, None) + (torch.rand(1),))  # and leaves the generator as it does
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def test_dropout_has_the_gradient_of_its_own_mask():
    ours, _ = twins(3, 4, 2, dropout=0.5)
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)

    def same_mask(x):
        torch.manual_seed(1)
        return ours(x)[1]

    assert torch.autograd.gradcheck(same_mask, x)


def test_what_is_left_to_pytorch_is_the_same_bit_for_bit(monkeypatch):
    ours, theirs = twins(3, 4, 2, torch.float32)
    x = torch.randn(5, 6, 3)
    monkeypatch.setattr(fast_gru, '_run_layer', None)  # would raise
    packed = pack_padded_sequence(x, torch.tensor([6, 2, 3, 1, 6]), batch_first=True, enforce_sorted=False)
    assert torch.equal(ours(packed)[1], theirs(packed)[1])
    start = torch.randn(2, 5, 4)
    assert torch.equal(ours(x, start)[1], theirs(x, start)[1])
    assert torch.equal(ours(x[0])[1], theirs(x[0])[1])
    assert torch.equal(ours.eval()(x)[0], theirs.eval()(x)[0])
    monkeypatch.setattr(fast_gru, '_MOST_UNITS', 5 * 4 - 1)
    assert torch.equal(ours.train()(x)[0], theirs.train()(x)[0])
    for other in (dict(bidirectional=True), dict(bias=False), dict(batch_first=False)):
        assert FastGRU(3, 4, **(dict(batch_first=True) | other))(x)[0].shape[:2] == (5, 6)


@pytest.mark.parametrize('x, message', [(torch.ones(2, 3, 5), 'input_size'), (torch.ones(2, 0, 3), 'sequence length')])
def test_a_wrong_input_has_the_message_of_pytorch(x, message):
    with pytest.raises(RuntimeError, match=message):
        FastGRU(3, 4, batch_first=True)(x)


def test_a_second_derivative_is_an_error():
    ours, _ = twins(3, 4, 1)
    loss = ours(torch.randn(2, 3, 3, dtype=torch.float64))[1].square().sum()
    (first, *_) = torch.autograd.grad(loss, ours.parameters(), create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        first.sum().backward()


def test_a_network_predicts_and_stores_as_before():
    net, x = init_network(3, 4, 2).eval(), torch.randn(5, 6, 3)
    net.rnn.weight_ih_l0.requires_grad_(False)
    before, weights, generator = net(x), dict(net.named_parameters()), torch.get_rng_state()
    assert use_fast_gru(net) is net and isinstance(net.rnn, FastGRU) and not net.rnn.training
    assert torch.equal(net(x), before) and torch.equal(torch.get_rng_state(), generator)
    assert all(weight is weights[name] for name, weight in net.named_parameters())
    net.train()(x).sum().backward()
    assert net.rnn.weight_ih_l0.grad is None and net.rnn.weight_hh_l0.grad is not None
    assert isinstance(copy.deepcopy(net).rnn, FastGRU)


def test_a_graph_that_is_kept_gives_the_same_gradient_twice():
    "The gradient writes over its own factors, and over nothing that the graph holds."
    layer, _ = twins(3, 5, 2)
    x = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    loss = layer(x)[0].square().sum()
    gradients = [torch.autograd.grad(loss, [x, *layer.parameters()], retain_graph=True) for _ in range(2)]
    for once, again in zip(*gradients):
        torch.testing.assert_close(once, again, rtol=0, atol=0)


def test_training_goes_where_it_goes_with_pytorch():
    "With two layers and dropout the trainings differ by rounding alone, also after some updates."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6, 3)).astype(np.float32)
    y = (X[:, -1, 0] > 0).astype(float)
    found = []
    for prepare in (use_fast_gru, lambda net: net):
        net = prepare(init_network(3, 4, 1))
        history = train_network(net, X[:30], y[:30], X[30:], y[30:], QUICK)
        found.append((history, net.state_dict()))
    (ours, our_weights), (theirs, their_weights) = found
    assert ours.best_update == theirs.best_update
    np.testing.assert_allclose(ours.curve, theirs.curve, rtol=1e-4)
    for name, weight in our_weights.items():
        torch.testing.assert_close(weight, their_weights[name], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope='module')
def toy_run(tmp_path_factory):
    return make_toy_run(tmp_path_factory.mktemp('run'), 4, QUICK)


@pytest.mark.parametrize('fast', [True, False])
def test_a_step_trains_with_the_layer_it_is_asked_for(toy_run, monkeypatch, fast):
    calls, run_layer = [], fast_gru._run_layer

    def counted(*args):
        calls.append(1)
        return run_layer(*args)

    monkeypatch.setattr(fast_gru, '_run_layer', counted)
    models = ['RNN-C', 'MN-FT', 'multi-task']
    fits = [run_transfer(toy_run, models=[model], settings=QUICK, fast_gru=fast) for model in models]
    assert all(fit['reason'].isna().all() for fit in fits)
    assert bool(calls) == fast
    # two layers for each update; one training for each task, one in all for multi-task
    *of_each_task, of_all = [fit['updates'] for fit in fits]
    n_updates = sum(updates.sum() for updates in of_each_task) + of_all.iloc[0]
    assert len(calls) == (2 * n_updates if fast else 0)


@pytest.mark.parametrize('fast', [True, False])
def test_the_notebook_gives_its_parameter_to_the_step(root, monkeypatch, fast):
    cells = json.loads((root / 'nbs/03_transfer.ipynb').read_text())['cells']
    (cell,) = [source for c in cells if 'fits = run_transfer(run, ' in (source := ''.join(c['source']))]
    asked = {}
    monkeypatch.setattr(transfer, 'run_transfer', lambda *args, **options: asked.update(options))
    given = dict.fromkeys(['run', 'split', 'fraction', 'seed', 'models', 'lambdas', 'choose', 'rnnc_hidden'])
    given |= dict(lr=1, batch=1, max_updates=1, eval_every=1, patience=1, device='cpu', fast_gru=fast)
    lines = [line for line in cell.splitlines() if line.startswith(('settings', 'fits = '))]
    exec('\n'.join(lines), vars(transfer) | given)
    assert asked['fast_gru'] is fast and PROFILES['quick']['fast_gru'] is True


def test_linear_systems_never_see_the_layer(toy_run, monkeypatch):
    monkeypatch.setattr(transfer, 'use_fast_gru', None)
    assert run_transfer(toy_run, models=['LR', 'MN-LR-2'], settings=QUICK)['reason'].isna().all()
