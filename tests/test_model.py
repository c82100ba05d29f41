"The network against formulas written out a second time, and its files against damage."

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.cohorts.hourly import value_and_mask_columns
from rnn_transfer.data import run_data
from rnn_transfer.learning.autoencoder import Autoencoder, observed_values, reconstruction_loss
from rnn_transfer.learning.training import resolve_device, torch_threads
from rnn_transfer.model import (
    MIMICNet,
    count_parameters,
    extract_features,
    feature_names,
    grid_metadata,
    init_network,
    iter_batch_outputs,
    load_checkpoint,
    multilabel_loss,
    read_checkpoint,
    restrict_inputs,
    run_model,
    save_checkpoint,
)
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import hash_description
from rnn_transfer.utilities.errors import BadInput


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_paths(rnn, x, start=None):
    "States of all layers at all hours for one stay x (T, n), in float64, gate by gate, from zero or from start (L, h)."
    w = {k: v.detach().numpy().astype(float) for k, v in rnn.named_parameters()}
    out, h = [], rnn.hidden_size
    for layer in range(rnn.num_layers):
        W, U, b, c = (w[f'{k}_l{layer}'] for k in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'))
        z, path = np.zeros(h) if start is None else start[layer], []
        for xt in x:
            i, s = W @ xt + b, U @ z + c
            r, u = sigmoid(i[:h] + s[:h]), sigmoid(i[h : 2 * h] + s[h : 2 * h])
            z = (1 - u) * np.tanh(i[2 * h :] + r * s[2 * h :]) + u * z
            path.append(z)
        x = np.array(path)
        out.append(x)
    return out


def gru_states(net, x):
    return np.concatenate([path[-1] for path in gru_paths(net.rnn, x)])


def grid(n, T, c, seed=0):
    return np.random.default_rng(seed).normal(size=(n, T, c)).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 4),
    T=st.integers(1, 7),
    c=st.integers(1, 4),
    h=st.integers(1, 5),
    layers=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_features_are_the_final_states_of_every_layer(n, T, c, h, layers, seed):
    net, X = init_network(c, h, 2, seed, n_layers=layers), grid(n, T, c, seed)
    Z = extract_features(net, X, batch=2)
    assert Z.shape == (n, layers * h) and Z.dtype == np.float32 and len(feature_names(h, layers)) == layers * h
    np.testing.assert_allclose(Z, [gru_states(net, x) for x in X.astype(float)], atol=1e-5)


def test_classifier_sees_the_top_layer_alone():
    net, X = init_network(3, 4, 2, seed=1).eval(), grid(5, 6, 3)
    z = extract_features(net, X)[:, 4:]
    want = z @ net.head.weight.detach().numpy().T + net.head.bias.detach().numpy()
    np.testing.assert_allclose(net(torch.from_numpy(X)).detach().numpy(), want, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_lengths_equal_truncation(lengths, seed):
    net, X = init_network(2, 3, 1, seed), grid(len(lengths), 6, 2, seed)
    Z = extract_features(net, X, lengths=np.array(lengths), batch=2)
    for z, x, n in zip(Z, X, lengths):
        np.testing.assert_allclose(z, extract_features(net, x[None, :n])[0], atol=1e-6)


def test_lengths_are_clipped_to_the_grid():
    net, X = init_network(2, 3, 1), grid(2, 4, 2)
    np.testing.assert_allclose(
        extract_features(net, X, lengths=[0, 99]), extract_features(net, X, lengths=[1, 4]), atol=0
    )


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 6), k=st.integers(1, 4), null=st.floats(0, 0.9), seed=st.integers(0, 999))
def test_loss_is_eq_1_over_known_labels(n, k, null, seed):
    r = np.random.default_rng(seed)
    a, y = r.normal(size=(n, k)) * 4, (r.random((n, k)) < 0.4).astype(float)
    y[r.random((n, k)) < null] = np.nan
    terms = [
        -np.log(sigmoid(a[i, j]) if y[i, j] == 1 else 1 - sigmoid(a[i, j]))
        for i in range(n)
        for j in range(k)
        if y[i, j] == y[i, j]
    ]
    got = multilabel_loss(torch.tensor(a), torch.tensor(y)).item()
    assert got == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-9)


def test_loss_of_null_labels_has_no_gradient():
    a = torch.randn(3, 2, requires_grad=True)
    y = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [0.0, 1.0]])
    multilabel_loss(a, y).backward()
    assert a.grad.isfinite().all() and (a.grad[torch.isnan(y)] == 0).all() and (a.grad[~torch.isnan(y)] != 0).all()
    multilabel_loss(a, y * torch.nan).backward()
    assert a.grad.isfinite().all()


FIVE = ['a', 'b->x', 'b->y', 'mask->a', 'mask->b']


def test_unread_columns_have_no_say_even_where_they_are_missing():
    net, X = restrict_inputs(init_network(5, 3, 2, seed=1), FIVE, ['a', 'mask->b']), grid(4, 6, 5)
    other = X.copy()
    other[..., [1, 2, 3]] = np.nan
    zeroed = X.copy()
    zeroed[..., [1, 2, 3]] = 0
    want = extract_features(init_network(5, 3, 2, seed=1), zeroed)
    for x in (X, other, zeroed):
        np.testing.assert_array_equal(extract_features(net, x), want)
    net.train()
    net(torch.from_numpy(X)).sum().backward()
    assert not net.rnn.weight_ih_l0.grad[:, [1, 2, 3]].any() and net.rnn.weight_ih_l0.grad[:, [0, 4]].any()


def test_a_checkpoint_says_which_columns_it_reads(tmp_path):
    net, X = restrict_inputs(init_network(5, 3, 2, seed=1), FIVE, ['a']), grid(4, 6, 5)
    save_checkpoint(net, tmp_path / 'net.safetensors', columns=FIVE)
    back = load_checkpoint(tmp_path / 'net.safetensors')
    assert back.meta['reads'] == ['a'] and json.loads((tmp_path / 'net.json').read_text())['reads'] == ['a']
    np.testing.assert_array_equal(extract_features(back, X), extract_features(net, X))
    save_checkpoint(back, tmp_path / 'again.safetensors')
    assert (tmp_path / 'again.json').read_text() == (tmp_path / 'net.json').read_text()
    save_checkpoint(init_network(5, 3, 2), tmp_path / 'all.safetensors', columns=FIVE)
    assert (
        'reads' not in json.loads((tmp_path / 'all.json').read_text())
        and load_checkpoint(tmp_path / 'all.safetensors').input_mask is None
    )


def test_reading_columns_that_are_not_there_is_rejected(tmp_path):
    for kept in (['c'], []):
        with pytest.raises(BadInput, match='one or more of its columns'):
            restrict_inputs(init_network(5, 3, 2), FIVE, kept)
    with pytest.raises(BadInput, match='of 4 columns, where the network has 5'):
        restrict_inputs(init_network(5, 3, 2), FIVE[:4], ['a'])
    save_checkpoint(init_network(5, 3, 2), tmp_path / 'net.safetensors', columns=FIVE, reads=['z'])
    with pytest.raises(BadInput, match="'z'"):
        load_checkpoint(tmp_path / 'net.safetensors')


def test_each_value_column_finds_its_mask():
    assert value_and_mask_columns(FIVE) == ([0, 1, 2], [3, 4, 4])
    assert value_and_mask_columns(['p->q', 'p', 'mask->p', 'p->q->r', 'mask->p->q']) == ([0, 1, 3], [4, 2, 4])
    assert value_and_mask_columns(['a', 'b->x']) == ([0, 1], [None, None])


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 4), T=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_is_to_be_written_is_what_was_observed(n, T, seed):
    X = grid(n, T, 5, seed)
    X[..., 3:] = X[..., 3:] > 0
    y = observed_values(X, FIVE).reshape(n, T, 3)
    for i in range(n):
        for t in range(T):
            for k, mask in enumerate((3, 4, 4)):
                assert y[i, t, k] == X[i, t, k] if X[i, t, mask] else np.isnan(y[i, t, k])
    assert not np.isnan(observed_values(X[..., :3], FIVE[:3])).any()
    written, known = grid(n, 3 * T, 1, seed + 1)[..., 0], ~np.isnan(y.reshape(n, -1))
    want = ((written - y.reshape(n, -1))[known] ** 2).mean() if known.any() else 0
    assert reconstruction_loss(torch.from_numpy(written), torch.from_numpy(y.reshape(n, -1))).item() == pytest.approx(
        want, rel=1e-5, abs=1e-7
    )


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_decoder_starts_from_the_final_states_and_writes_backwards(lengths, seed):
    auto, X = Autoencoder(init_network(5, 3, 2, seed), seed).eval(), grid(len(lengths), 5, 5, seed)
    got = auto(torch.from_numpy(X), lengths).detach().numpy().reshape(len(X), 5, 2)
    W, b = (v.detach().numpy().astype(float) for v in auto.net.head.parameters())
    for x, n, y in zip(X.astype(float), lengths, got):
        start = gru_states(auto.net, x[:n]).reshape(2, 3)
        want = gru_paths(auto.decoder, np.zeros((n, 1)), start)[-1] @ W.T + b
        np.testing.assert_allclose(y[:n], want[::-1], atol=1e-5)
    full = [5] * len(X)
    np.testing.assert_array_equal(auto(torch.from_numpy(X), full).detach(), auto(torch.from_numpy(X)).detach())


def test_the_decoders_weights_depend_on_its_seed_alone():
    torch.manual_seed(1)
    a = Autoencoder(init_network(5, 3, 2), 7).decoder.state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(v, a[k]) for k, v in Autoencoder(init_network(5, 3, 4), 7).decoder.state_dict().items())
    assert not torch.equal(a['weight_hh_l0'], Autoencoder(init_network(5, 3, 2), 8).decoder.weight_hh_l0)


def test_extreme_logits_stay_finite():
    loss = multilabel_loss(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 0.0]]))
    assert loss.item() == pytest.approx(5e3)


def test_initial_weights_depend_on_the_seed_and_not_on_the_tasks():
    a, b, c = init_network(3, 5, 20, seed=4), init_network(3, 5, 1, seed=4), init_network(3, 5, 1, seed=5)
    for name, w in a.rnn.state_dict().items():
        assert torch.equal(w, b.rnn.state_dict()[name]) and not torch.equal(w, c.rnn.state_dict()[name])
        assert w.abs().max() <= 5**-0.5


def test_init_network_leaves_torchs_generator_alone():
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    init_network(2, 2, 2, seed=9)
    assert torch.equal(torch.rand(3), want)


def test_dropout_acts_in_training_between_layers_and_before_the_classifier_only():
    x = torch.from_numpy(grid(64, 5, 3))
    net = init_network(3, 8, 1, dropout=0.5).train()
    torch.manual_seed(0)
    one, two = net.states(x), net.states(x)
    assert torch.equal(one[:, 0], two[:, 0]) and not torch.equal(one[:, 1], two[:, 1])
    single = init_network(3, 8, 1, n_layers=1, dropout=0.5).train()
    assert torch.equal(single.states(x), single.states(x)) and not torch.equal(single(x), single(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_features_leave_the_mode_and_the_grid_alone():
    net, X = init_network(2, 3, 1).train(), grid(4, 5, 2)
    X.flags.writeable = False
    extract_features(net, X)
    assert net.training


def test_features_reject_what_they_cannot_read():
    net, X = init_network(2, 3, 1), grid(4, 5, 2)
    with pytest.raises(BadInput, match='reads 2 columns'):
        extract_features(net, X[..., :1])
    X[3, 2, 1] = np.nan
    with pytest.raises(BadInput, match=r'rows \[3\]'):
        extract_features(net, X, batch=2)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 7), batch=st.integers(1, 8), as_tensor=st.booleans(), with_lengths=st.booleans())
def test_batches_cover_every_stay_once_and_equal_one_pass(n, batch, as_tensor, with_lengths):
    net, X = init_network(3, 4, 2, seed=1).eval(), grid(n, 5, 3)
    lengths = np.arange(n) % 5 + 1 if with_lengths else None
    x = torch.from_numpy(X)
    found = list(iter_batch_outputs(net, x if as_tensor else X, lengths, batch))
    assert np.concatenate([np.arange(n)[rows] for rows, _ in found]).tolist() == list(range(n))
    want = net(x, lengths).detach().numpy()
    np.testing.assert_allclose(torch.cat([out for _, out in found]).numpy(), want, atol=1e-6)


def test_batches_have_no_gradient_and_leave_the_mode_alone():
    net, X = init_network(3, 4, 2).train(), grid(4, 5, 3)
    for _, logits in iter_batch_outputs(net, X, batch=3):
        assert not net.training and not logits.requires_grad and torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert net.training
    for _ in iter_batch_outputs(net, X, batch=1):
        break
    assert net.training
    with pytest.raises(ZeroDivisionError):
        list(iter_batch_outputs(net, X, compute=lambda x, lengths: 1 / 0))
    assert net.training


def test_number_of_weights():
    for n, h, k, layers in ((76, 100, 20, 2), (5, 3, 1, 3)):
        assert count_parameters(MIMICNet(n, h, k, layers)) == 3 * h * (n + h + 2) + (layers - 1) * 3 * h * (
            2 * h + 2
        ) + k * (h + 1)


def test_device_and_threads():
    assert resolve_device('cpu').type == 'cpu'
    with pytest.raises(BadInput, match='unknown'):
        resolve_device('gpu')
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(1):
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before


@pytest.fixture
def saved(tmp_path):
    net = init_network(3, 4, 2, seed=1)
    return net, save_checkpoint(net, tmp_path / 'new' / 'net.safetensors', columns=list('abc'), tasks=['t', 'ü'])


def test_checkpoint_round_trip(saved):
    net, path = saved
    back = load_checkpoint(path, columns=list('abc'), tasks=['t', 'ü'])
    assert back.config == net.config and not back.training and back.meta == dict(columns=list('abc'), tasks=['t', 'ü'])
    for name, w in net.state_dict().items():
        assert torch.equal(w, back.state_dict()[name])
    assert sorted(p.name for p in path.parent.iterdir()) == ['net.json', 'net.safetensors']
    assert {'rnn_transfer', 'torch'} <= set(json.loads(path.with_suffix('.json').read_text())['versions'])
    again = save_checkpoint(back, path.with_name('again.safetensors'))
    assert (
        again.read_bytes() == path.read_bytes()
        and again.with_suffix('.json').read_text() == path.with_suffix('.json').read_text()
    )


@pytest.mark.parametrize('at', [0, 9, 200, -1])
def test_a_flipped_bit_is_found(saved, at):
    path = saved[1]
    blob = bytearray(path.read_bytes())
    blob[at] ^= 1
    path.write_bytes(blob)
    with pytest.raises(BadInput, match='hash differs'):
        load_checkpoint(path)


def redescribe(path, **changes):
    "Edit a description and give it the hash that then is right; None takes a key out."
    about = json.loads(path.with_suffix('.json').read_text()) | changes
    about = {k: v for k, v in about.items() if v is not None}
    path.with_suffix('.json').write_text(json.dumps(about | dict(description_sha256=hash_description(about))))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(hidden=5), 'do not fit the sizes'),
        (dict(n_layers=3), 'do not fit the sizes'),
        (dict(n_layers=10**19), 'n_layers: '),
        (dict(hidden=10**9), 'hidden: '),
        (dict(n_tasks='two'), 'n_tasks: '),
        (dict(hidden=None), 'hidden: field required'),
        (dict(sha256=None), 'sha256: field required'),
        (dict(format='other'), 'format: '),
        (dict(sha256='0' * 64), 'hash differs'),
        (dict(hours='48'), 'hours: '),
        (dict(masks=1), 'masks: '),
        (dict(scale={'a': [0, -1]}), "standard deviation of 'a' is not above 0"),
    ],
)
def test_a_wrong_description_is_rejected(saved, changes, message):
    redescribe(saved[1], **changes)
    with pytest.raises(BadInput, match=message) as e:
        load_checkpoint(saved[1])
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('text', ['', '{', '[]', '"x"', 'null', '\x80'])
def test_a_description_that_is_none(saved, text):
    saved[1].with_suffix('.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(BadInput, match='not the description'):
        load_checkpoint(saved[1])


def test_an_edited_description_is_found_out(saved):
    file = saved[1].with_suffix('.json')
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | dict(dropout=0.4)))
    with pytest.raises(BadInput, match='was edited after it was written'):
        load_checkpoint(saved[1])


def test_weights_that_are_no_safetensors_are_rejected_even_with_the_right_hash(saved):
    import hashlib
    import pickle

    path = saved[1]
    path.write_bytes(pickle.dumps({'a': 1}))
    redescribe(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(BadInput, match='do not fit'):
        load_checkpoint(path)


def test_weights_that_are_not_finite_are_rejected(tmp_path):
    net = init_network(2, 2, 1)
    net.head.bias.data[0] = torch.nan
    with pytest.raises(BadInput, match='not finite'):
        load_checkpoint(save_checkpoint(net, tmp_path / 'net.safetensors'))


def test_a_read_checkpoint_says_what_it_is(saved):
    checkpoint = read_checkpoint(saved[1])
    assert checkpoint.description['tasks'] == ['t', 'ü'] and checkpoint.weights == saved[1].read_bytes()


@pytest.mark.parametrize('gone', ['.safetensors', '.json'])
def test_a_missing_half_is_named(saved, gone):
    saved[1].with_suffix(gone).unlink()
    with pytest.raises(BadInput, match=f'net{gone}: no such file'):
        load_checkpoint(saved[1])


def test_a_checkpoint_for_other_columns_or_tasks_is_rejected(saved):
    with pytest.raises(BadInput, match='3 columns'):
        load_checkpoint(saved[1], columns=list('acb'))
    with pytest.raises(BadInput, match='2 tasks'):
        load_checkpoint(saved[1], tasks=['t'])


def test_run_model_writes_the_untrained_networks(tmp_path):
    data = run_data(toy_cohort(60), tmp_path)
    table = run_model(tmp_path, [2, 3], seed=5)
    assert list(table.h) == [2, 3] and sorted(p.name for p in (tmp_path / 'model').iterdir()) == [
        'h-2.json',
        'h-2.safetensors',
        'h-3.json',
        'h-3.safetensors',
    ]
    net = load_checkpoint(tmp_path / 'model' / 'h-3.safetensors', columns=data.columns, tasks=data.phenotypes)
    for name, w in init_network(len(data.columns), 3, 1, seed=5).rnn.state_dict().items():
        assert torch.equal(w, net.rnn.state_dict()[name])
    assert (
        net.meta['trained'] is False
        and grid_metadata(data).items() <= net.meta.items()
        and count_parameters(net) == table.weights[1]
    )
    first = (tmp_path / 'model' / 'h-3.safetensors').read_bytes()
    run_model(tmp_path, [3], seed=5)
    assert first == (tmp_path / 'model' / 'h-3.safetensors').read_bytes()


def test_run_model_rejects_sizes_that_are_none(tmp_path):
    for hidden in ([], [0], [2.5]):
        with pytest.raises(BadInput, match='hidden'):
            run_model(tmp_path, hidden)
    with pytest.raises(BadInput, match='data step'):
        run_model(tmp_path, [2])
