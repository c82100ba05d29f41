"Estimators: scikit-learn's contract, the same features for the same information, persistence, few labels."

import json
import re
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from rnn_transfer.cohorts.alignment import align_channels, network_channels
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.classifier import TransferClassifier, labelled_stays, labels_of
from rnn_transfer.estimators.features import MIMICNetFeatures, StatisticalFeatures
from rnn_transfer.estimators.label_evaluation import evaluate_label
from rnn_transfer.estimators.linear import FewLabelClassifier, L1LogisticPath
from rnn_transfer.estimators.model_card import describe_network
from rnn_transfer.estimators.persistence import load_classifier, save_classifier
from rnn_transfer.estimators.precision import auroc_standard_error, expected_precision, labels_for_width
from rnn_transfer.estimators.pretraining import channel_dropout, pretrain_network, summarise_channels
from rnn_transfer.estimators.recalibration import cross_fit_logits, fit_recalibration
from rnn_transfer.learning.few_labels import PENALTIES, fit_few_labels, logistic_path, penalty_grid
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.model import init_network, load_checkpoint, read_checkpoint, restrict_inputs, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import hash_description
from rnn_transfer.utilities.errors import BadInput, InputWarning


@pytest.fixture(scope='module')
def toy():
    return toy_cohort(300)


@pytest.fixture(scope='module')
def checkpoint(toy, tmp_path_factory):
    grid = toy.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in toy.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale)
    net = init_network(len(grid.columns), 8, 2)
    return save_checkpoint(net, tmp_path_factory.mktemp('net') / 'net.safetensors', **meta)


def random_task(n=120, m=200, seed=0):
    generator = np.random.default_rng(seed)
    Z = generator.normal(size=(n, m))
    return Z, (Z[:, :10].sum(1) + 2 * generator.normal(size=n) > 1).astype(float)


# ---- linear models for few labels


@pytest.mark.parametrize('l1_ratio', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('shape', [(80, 200), (200, 20)])
def test_penalised_paths_are_those_of_scikit_learn(l1_ratio, shape):
    Z, y = random_task(*shape)
    lam = penalty_grid(Z, y, l1_ratio)[8]
    fit = logistic_path(Z, y, [lam], l1_ratio)[0]
    solver = dict(solver='lbfgs', tol=1e-10) if l1_ratio == 0 else dict(solver='saga', tol=1e-9, l1_ratio=l1_ratio)
    model = LogisticRegression(C=1 / lam, max_iter=50_000, **solver).fit(Z, y)
    assert fit.converged
    np.testing.assert_allclose(fit.coef, model.coef_[0], atol=2e-5)
    np.testing.assert_allclose(fit.intercept, model.intercept_[0], atol=2e-5)


@pytest.mark.parametrize('l1_ratio', [0.5, 1.0])
def test_no_weight_is_left_at_the_largest_lambda(l1_ratio):
    Z, y = random_task()
    path = logistic_path(Z, y, penalty_grid(Z, y, l1_ratio), l1_ratio)
    assert not path[0].coef.any() and path[3].coef.any()


def test_ridge_is_never_constant_with_100_labels():
    for seed in range(20):
        Z, y = random_task(100, 150, seed)
        assert not fit_few_labels(Z, y, penalty='ridge', repeats=1).constant


def test_a_constant_model_is_counted_as_one():
    Z, y = random_task()
    found = fit_few_labels(Z, y, penalty='lasso', lambdas=[1e6])
    assert found.constant and np.allclose(found.predict(Z), y.mean())


@pytest.mark.parametrize('penalty', [*PENALTIES, 0.2])
def test_the_choice_of_lambda_ignores_the_order_of_rows_by_subject(penalty):
    "Folds are by subject: all rows of a subject are held out together."
    Z, y = random_task(60, 30)
    twice = np.repeat(np.arange(60), 2)
    found = fit_few_labels(Z[twice], y[twice], twice, penalty, repeats=1)
    assert found.loss.min() <= found.null_loss * 1.2  # copies of a held-out row in training would give almost 0
    assert found.loss.min() > 0.2


def test_too_few_labels_are_rejected():
    Z, y = random_task(20, 5)
    with pytest.raises(BadInput, match='two subjects of each class'):
        fit_few_labels(Z, np.r_[1.0, np.zeros(19)])
    with pytest.raises(BadInput, match='both 0 and 1 are needed'):
        fit_few_labels(Z, np.zeros(20))
    with pytest.raises(BadInput, match='expected ridge, elastic_net, lasso'):
        fit_few_labels(Z, y, penalty='l3')


@pytest.mark.parametrize(
    'estimator', [FewLabelClassifier(repeats=1), L1LogisticPath(), L1LogisticPath(select='nll')], ids=str
)
def test_linear_estimators_keep_the_contract_of_scikit_learn(estimator):
    check_estimator(estimator)


def test_weights_are_in_the_units_of_the_features():
    Z, y = random_task()
    a, b = FewLabelClassifier().fit(Z, y), FewLabelClassifier().fit(Z * 100 + 7, y)
    np.testing.assert_allclose(a.coef_, b.coef_ * 100, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(a.predict_proba(Z), b.predict_proba(Z * 100 + 7), atol=1e-8)


# ---- features


def test_features_are_those_of_the_network_on_the_normalised_grid(toy, checkpoint):
    net = load_checkpoint(checkpoint)
    grid = toy.grid()
    X = Normalizer(net.meta['scale']).transform(grid.X.copy(), grid.columns)
    from rnn_transfer.model import extract_features

    direct = extract_features(net, X)
    features = MIMICNetFeatures(checkpoint).fit_transform(toy)
    np.testing.assert_array_equal(features.to_numpy(), direct)
    top = MIMICNetFeatures(checkpoint, layers='top').fit_transform(toy)
    np.testing.assert_array_equal(top.to_numpy(), direct[:, -8:])


def shuffled(cohort, seed):
    "The same information: channels and stays in another order."
    generator = np.random.default_rng(seed)
    stays = cohort.stays.iloc[generator.permutation(len(cohort.stays))].reset_index(drop=True)
    channels = [cohort.channels[i] for i in generator.permutation(len(cohort.channels))]
    events = cohort.events.assign(channel=cohort.events['channel'].astype(object))
    return Cohort(events, stays, channels, cohort.tasks)


@pytest.mark.parametrize('seed', range(5))
def test_order_of_rows_and_channels_does_not_matter(toy, checkpoint, seed):
    features = MIMICNetFeatures(checkpoint).fit(toy)
    other = features.transform(shuffled(toy, seed))
    np.testing.assert_allclose(other.loc[toy.stays['stay_id']], features.transform(toy), atol=1e-6)


@pytest.mark.parametrize('n_kept', [1, 2, 3])
def test_a_missing_channel_is_one_that_was_never_measured(toy, checkpoint, n_kept):
    kept = [c.name for c in toy.channels[:n_kept]]
    silent = Cohort(toy.events[toy.events['channel'].isin(kept)], toy.stays, toy.channels, toy.tasks)
    lacking = Cohort(
        silent.events.assign(channel=silent.events['channel'].astype(object)),
        toy.stays,
        toy.channels[:n_kept],
        toy.tasks,
    )
    features = MIMICNetFeatures(checkpoint).fit(lacking)
    assert features.alignment_.missing == [c.name for c in toy.channels[n_kept:]]
    np.testing.assert_array_equal(features.transform(lacking), features.transform(silent))


def test_target_scale_is_that_of_the_train_stays(toy, checkpoint):
    features = MIMICNetFeatures(checkpoint, scale='target').fit(toy)
    train = (toy.stays['partition'] == 'train').to_numpy()
    grid = toy.grid()
    assert features.normalizer_.scale == Normalizer.fit(grid.X[train], grid.columns).scale


def test_transformers_clone_and_name_their_features(toy, checkpoint):
    for transformer in (MIMICNetFeatures(checkpoint, layers='top'), StatisticalFeatures()):
        table = clone(transformer).fit(toy).transform(toy)
        fitted = transformer.fit(toy)
        assert list(fitted.get_feature_names_out()) == list(table.columns)
        assert table.index.tolist() == toy.stays['stay_id'].tolist()


def test_another_unit_is_rejected_or_converted_never_taken_as_it_is(toy):
    first = toy.channels[0]
    other = replace(first, unit='furlong')
    with pytest.raises(BadInput, match=first.name):
        align_channels(toy.events, [other, *toy.channels[1:]], toy.channels)
    with pytest.raises(BadInput, match='state the unit'):
        align_channels(toy.events, [replace(first, unit=''), *toy.channels[1:]], toy.channels)


def test_categories_are_matched_by_text(toy):
    channel = next(c for c in toy.channels if c.values)
    turned = replace(channel, values=channel.values[::-1], numeric=channel.numeric[::-1])
    others = [turned if c.name == channel.name else c for c in toy.channels]
    of_channel = (toy.events['channel'] == channel.name).to_numpy()
    value = toy.events['value'].to_numpy().copy()
    value[of_channel] = len(channel.values) - 1 - value[of_channel]
    aligned = align_channels(toy.events.assign(value=value), others, toy.channels)
    np.testing.assert_array_equal(aligned.events['value'], toy.events['value'])
    unknown = [replace(c, values=[f'{v}!' for v in c.values]) if c.values else c for c in toy.channels]
    with pytest.raises(BadInput, match='not among those of the network'):
        align_channels(toy.events, unknown, toy.channels)


def test_a_checkpoint_without_channels_is_rejected():
    with pytest.raises(BadInput, match='names no channels'):
        network_channels(dict(scale={}))
    with pytest.raises(BadInput, match='not stated'):
        network_channels(dict(scale={}, channels=['Lactate of Mars']))


# ---- the classifier


def test_a_classifier_learns_from_train_and_val_alone(toy, checkpoint):
    task = toy.tasks[0].name
    labels = labels_of(toy, task)
    turned = labels.copy()
    test = (toy.stays['partition'] == 'test').to_numpy()
    turned[test] = 1 - turned[test]
    a = TransferClassifier(checkpoint).fit(toy, task)
    b = TransferClassifier(checkpoint).fit(toy, turned)
    np.testing.assert_array_equal(a.predict_proba(toy), b.predict_proba(toy))


@pytest.mark.parametrize('features', ['network', 'statistics', 'both'])
@pytest.mark.parametrize('recalibrate', [False, True])
def test_a_classifier_is_saved_whole(toy, checkpoint, tmp_path, features, recalibrate):
    model = TransferClassifier(checkpoint, features=features, recalibrate=recalibrate, repeats=1)
    model.fit(toy, toy.tasks[0].name)
    loaded = load_classifier(save_classifier(model, tmp_path / 'model'))
    assert np.abs(loaded.predict_proba(toy) - model.predict_proba(toy)).max() <= 1e-12
    assert loaded.recalibration_ == model.recalibration_ and loaded.label_ == model.label_


def without_channels(cohort, n):
    "A cohort that lacks its last n channels."
    channels = cohort.channels[: len(cohort.channels) - n]
    events = cohort.events[cohort.events['channel'].isin([c.name for c in channels])].reset_index(drop=True)
    events['channel'] = events['channel'].cat.remove_unused_categories()
    return Cohort(events, cohort.stays, channels, cohort.tasks)


def test_a_channel_that_is_gone_is_named_in_one_line(toy, checkpoint, tmp_path):
    model = TransferClassifier(checkpoint, repeats=1).fit(toy, toy.tasks[0].name)
    less, lost = without_channels(toy, 2), [c.name for c in toy.channels[-2:]]
    with pytest.warns(UserWarning, match='they were there when the model was fitted') as seen:
        note = model.evaluate(less, replicates=20).note
    assert len(seen) == 1 and '\n' not in str(seen[0].message) and ', '.join(lost) in str(seen[0].message)
    assert str(seen[0].message) in note
    loaded = load_classifier(save_classifier(model, tmp_path / 'model'))
    with pytest.warns(InputWarning, match='they were there when the model was fitted') as seen:
        loaded.predict(less)
    assert seen[0].filename == __file__ and loaded.channels_ == model.channels_


def test_an_empty_channel_counts_as_gone(toy, checkpoint):
    model = TransferClassifier(checkpoint, repeats=1).fit(toy, toy.tasks[0].name)
    name = toy.channels[0].name
    empty = Cohort(toy.events[toy.events['channel'] != name], toy.stays, toy.channels, toy.tasks)
    with pytest.warns(UserWarning, match=f'never measured: {name}'):
        model.predict(empty)


def test_what_was_never_there_is_not_warned_of(toy, checkpoint, tmp_path):
    less = without_channels(toy, 1)
    model = TransferClassifier(checkpoint, repeats=1).fit(less, toy.tasks[0].name)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        model.predict(less)
        model.predict(toy)
        load_classifier(save_classifier(model, tmp_path / 'model')).predict(less)


@pytest.mark.parametrize('features', ['statistics', 'both'])
def test_statistics_of_a_missing_channel_are_an_error_in_one_line(toy, checkpoint, features):
    model = TransferClassifier(checkpoint, features=features, repeats=1).fit(toy, toy.tasks[0].name)
    with pytest.raises(BadInput, match=f'are missing: {toy.channels[-1].name}; add') as e:
        model.predict(without_channels(toy, 1))
    assert '\n' not in str(e.value)


def test_a_note_says_which_stays_were_learned_from(toy, checkpoint):
    model = TransferClassifier(checkpoint, repeats=1).fit(toy, toy.tasks[0].name)
    n = int(toy.stays.loc[toy.stays['partition'] != 'test', toy.tasks[0].name].notna().sum())
    for partition, says in (('train', 'are train or val'), ('val', 'too good'), ('all', f'{n:,} of the')):
        assert says in model.evaluate(toy, partition=partition, replicates=20).note
    assert 'train or val' not in model.evaluate(toy, replicates=20).note


@pytest.mark.parametrize('n_positive', [8, 30])
def test_a_note_says_that_training_labels_are_few(toy, checkpoint, n_positive):
    labels = pd.Series(np.nan, toy.stays['stay_id'].to_numpy())
    train = np.flatnonzero((toy.stays['partition'] == 'train').to_numpy())
    test = np.flatnonzero((toy.stays['partition'] == 'test').to_numpy())
    labels.iloc[train[:60]] = (np.arange(60) < n_positive).astype(float)
    labels.iloc[test] = np.arange(len(test)) % 2
    note = TransferClassifier(checkpoint, repeats=1).fit(toy, labels).evaluate(toy, labels, replicates=20).note
    assert ('Learned from 60 labels, 8 positive, which is few: 8 positives' in note) == (n_positive == 8)
    assert ('Learned from' in note) == (n_positive == 8)


def change_json(path, **new):
    path.write_text(json.dumps(json.loads(path.read_text()) | new))


@pytest.mark.parametrize(
    ('name', 'change', 'problem'),
    [
        ('classifier.json', lambda p: change_json(p, surprise=1), 'surprise'),
        ('classifier.json', lambda p: change_json(p, label=3), 'label'),
        ('classifier.json', lambda p: change_json(p, penalty_strength=None), 'penalty_strength'),
        ('classifier.json', lambda p: p.write_text('['), 'classifier.json'),
        ('classifier.json', lambda p: p.write_text('[' * 100_000), 'classifier.json'),
        ('classifier.json', lambda p: p.unlink(), 'no such file'),
        ('classifier.safetensors', lambda p: p.write_bytes(p.read_bytes()[:-1]), 'hash'),
        ('classifier.safetensors', lambda p: p.unlink(), 'classifier.safetensors'),
        ('network.json', lambda p: change_json(p, hours=24), 'changed since'),
        ('network.safetensors', lambda p: p.write_bytes(p.read_bytes()[:-1]), 'hash'),
    ],
)
def test_a_changed_classifier_is_rejected_in_one_line(toy, checkpoint, tmp_path, name, change, problem):
    model = TransferClassifier(checkpoint, repeats=1).fit(toy, toy.tasks[0].name)
    folder = save_classifier(model, tmp_path / 'model')
    change(folder / name)
    with pytest.raises(BadInput, match=problem) as e:
        load_classifier(folder)
    assert '\n' not in str(e.value)


@pytest.fixture(scope='module')
def saved_classifier(toy, checkpoint, tmp_path_factory):
    model = TransferClassifier(checkpoint, features='both', scale='target', repeats=1).fit(toy, toy.tasks[0].name)
    return save_classifier(model, tmp_path_factory.mktemp('classifier') / 'model')


def other(value):
    "A value of the same form."
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[::-1] + '1'
    if isinstance(value, list):
        return [other(value[0]), *value[1:]]
    first = next(iter(value))
    return value | {first: other(value[first])}


KEYS = ['format', 'settings', 'label', 'feature_names', 'scaled_columns', 'statistics', 'recalibration', 'n_positive']
KEYS += ['n_negative', 'penalty_strength', 'constant', 'version', 'sha256', 'network_sha256', 'description_sha256']
KEYS += ['channels', 'n_unlabelled', 'hours', 'spread']
INNER = [('recalibration', key) for key in ('intercept', 'slope', 'note')]
INNER += [('settings', key) for key in ('recalibrate', 'repeats', 'random_state')]
INNER += [('spread', 'sd')]


def test_every_key_of_a_classifier_is_among_those_that_are_edited(saved_classifier):
    assert set(json.loads((saved_classifier / 'classifier.json').read_text())) == set(KEYS)


def edited_line(saved_classifier, tmp_path, change):
    "What loading says of a copy whose classifier.json was edited."
    folder = shutil.copytree(saved_classifier, tmp_path / 'copy')
    file = folder / 'classifier.json'
    stored = json.loads(file.read_text())
    change(stored)
    file.write_text(json.dumps(stored))
    with pytest.raises(BadInput) as e:
        load_classifier(folder)
    line = str(e.value)
    assert '\n' not in line and str(file) in line and len(line) < 400
    return line


@pytest.mark.parametrize('key', KEYS)
def test_an_edited_key_of_a_classifier_is_found_out(saved_classifier, tmp_path, key):
    line = edited_line(saved_classifier, tmp_path, lambda stored: stored.update({key: other(stored[key])}))
    by_form = dict(format='expected', settings='settings.checkpoint', spread='spread.low') | dict.fromkeys(
        ['sha256', 'network_sha256'], 'string should match pattern'
    )
    assert by_form.get(key, 'was edited') in line


@pytest.mark.parametrize(('outer', 'key'), INNER)
def test_an_edit_within_a_key_of_a_classifier_is_found_out(saved_classifier, tmp_path, outer, key):
    line = edited_line(saved_classifier, tmp_path, lambda s: s[outer].update({key: other(s[outer][key])}))
    assert 'was edited' in line


@pytest.mark.parametrize('key', KEYS)
@pytest.mark.parametrize('change', [lambda s, key: s.pop(key), lambda s, key: s.update({key: None})])
def test_a_key_of_a_classifier_that_is_gone_is_named(saved_classifier, tmp_path, change, key):
    line = edited_line(saved_classifier, tmp_path, lambda stored: change(stored, key))
    assert key in line or (key == 'network_sha256' and 'was edited' in line)


def test_a_classifier_of_another_format_is_named_before_its_hash(saved_classifier, tmp_path):
    def make_older(stored):
        stored['format'] = 'rnn_transfer classifier 1'
        del stored['description_sha256']

    assert "format 'rnn_transfer classifier 1', expected" in edited_line(saved_classifier, tmp_path, make_older)


def test_a_classifier_that_was_saved_without_channels_is_to_be_saved_again(saved_classifier, tmp_path):
    def make_older(stored):
        del stored['channels'], stored['n_unlabelled'], stored['description_sha256']
        stored['format'] = 'rnn_transfer classifier 2'
        stored['description_sha256'] = hash_description(stored)

    line = edited_line(saved_classifier, tmp_path, make_older)
    assert "format 'rnn_transfer classifier 2', expected" in line and 'save the classifier with this version' in line


def test_a_classifier_whose_keys_have_another_order_loads(saved_classifier, tmp_path):
    folder = shutil.copytree(saved_classifier, tmp_path / 'copy')
    file = folder / 'classifier.json'
    file.write_text(json.dumps(dict(reversed(json.loads(file.read_text()).items()))))
    assert load_classifier(folder).label_ == load_classifier(saved_classifier).label_


def test_labels_are_matched_by_stay(toy):
    y = labels_of(toy, toy.tasks[0].name)
    by_stay = pd.Series(y, toy.stays['stay_id']).sample(frac=0.5, random_state=0)
    found = labels_of(toy, by_stay)
    assert np.isnan(found).sum() >= len(y) - len(by_stay)
    known = ~np.isnan(found)
    np.testing.assert_array_equal(found[known], y[known])
    with pytest.raises(BadInput, match='no stays of this cohort'):
        labels_of(toy, pd.Series([1, 0], [-5, -6]))
    with pytest.raises(BadInput, match='values for'):
        labels_of(toy, y[:-1])


@pytest.fixture(scope='module')
def named(toy):
    "The toy cohort as of a hospital whose stays have texts as identifiers."
    names = [f'K-{i:04d}' for i in range(len(toy.stays))]
    return Cohort(toy.events, toy.stays.assign(stay_name=names), toy.channels, toy.tasks)


def own_labels(named):
    "Labels of every second stay by the hospital's identifiers, in another order."
    y = pd.Series(labels_of(named, named.tasks[0].name), named.stays['stay_name'])
    return y.iloc[::2].dropna().sample(frac=1, random_state=1)


@pytest.mark.parametrize(
    'form', [lambda y: y, lambda y: y.to_dict(), lambda y: y.astype(bool), lambda y: y.astype(str)]
)
def test_labels_and_predictions_have_the_ids_of_the_hospital(named, checkpoint, form):
    own = own_labels(named)
    in_order = own.reindex(named.stays['stay_name']).to_numpy()
    by_id = TransferClassifier(checkpoint, repeats=1).fit(named, form(own))
    by_order = TransferClassifier(checkpoint, repeats=1).fit(named, in_order)
    np.testing.assert_array_equal(by_id.coef_, by_order.coef_)
    predicted = by_id.predict_stays(named)
    assert predicted.index.tolist() == named.stays['stay_name'].tolist()
    np.testing.assert_array_equal(predicted['probability'], by_id.predict_proba(named)[:, 1])
    assert predicted.columns.tolist() == ['probability', 'predicted', 'partition']
    found = by_id.evaluate(named, form(own), replicates=20)
    assert found.table.equals(by_order.evaluate(named, in_order, replicates=20).table)


def test_stays_without_a_label_are_counted(named, checkpoint, tmp_path):
    own = own_labels(named)
    model = TransferClassifier(checkpoint, repeats=1).fit(named, own)
    is_test = (named.stays['partition'] == 'test').to_numpy()
    labelled = named.stays['stay_name'].isin(own.index).to_numpy()
    assert model.n_unlabelled_ == (~is_test & ~labelled).sum() > 0
    assert load_classifier(save_classifier(model, tmp_path / 'model')).n_unlabelled_ == model.n_unlabelled_
    note = model.evaluate(named, own, replicates=20).note
    assert f'{(is_test & ~labelled).sum():,} of {is_test.sum():,} stays have no label and are left out' in note
    with pytest.raises(BadInput, match='y is missing: .* give them again'):
        model.evaluate(named)


@pytest.mark.parametrize(
    'labels, says',
    [
        (
            {'K-0001': 1, 'x': 0, 'y': 0},
            "2 of 3 ids are no stays of this cohort: they are of the form 'A', those of the cohort 'A-9999'",
        ),
        (pd.Series([1, 0, 1], ['K-0001', 'K-0002', 'K-0001']), "1 ids occur twice, first in row 2 (from 0)"),
        ({1: 1, 2: 0}, "2 of 2 ids are no stays of this cohort: they are of the form '9'"),
        ({'K-0001': 'yes', 'K-0002': 0}, 'are not 0, 1 or null'),
        ({'K-0001': 1}, 'every label is 1'),
        ({}, 'every label is null'),
    ],
)
def test_labels_that_do_not_fit_are_one_line(named, labels, says):
    with pytest.raises(BadInput, match=re.escape(says)) as e:
        labels_of(named, labels)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('setting', [dict(random_state=None), dict(recalibrate=1), dict(random_state=np.int64(3))])
def test_every_setting_that_fits_can_be_kept(toy, tmp_path, setting):
    model = TransferClassifier(features='statistics', **setting).fit(toy, toy.tasks[0].name)
    again = load_classifier(save_classifier(model, tmp_path / 'model'))
    np.testing.assert_allclose(again.predict_proba(toy), model.predict_proba(toy), rtol=0, atol=1e-12)


def test_hours_and_repeats_have_a_limit(toy):
    for setting in (dict(hours=20_000), dict(repeats=1001)):
        with pytest.raises(BadInput, match='expected a whole number from 1 to'):
            TransferClassifier(features='statistics', **setting).fit(toy, toy.tasks[0].name)


def test_numbers_and_their_texts_are_one_id_and_leading_zeros_count(toy):
    y = labels_of(toy, toy.tasks[0].name)
    for index in (toy.stays['stay_id'], toy.stays['stay_id'].astype(str), toy.stays['stay_id'].astype(float)):
        np.testing.assert_array_equal(labels_of(toy, pd.Series(y, index.to_numpy())), y)
    stays = toy.stays.assign(stay_name=[f'{i:05d}' for i in range(len(toy.stays))])
    with pytest.raises(BadInput, match="of the form '9', those of the cohort '0000"):
        labels_of(Cohort(toy.events, stays, toy.channels, toy.tasks), {1: 1, 2: 0})


# ---- scikit-learn divides a cohort


def test_a_part_of_a_cohort_is_valid_and_has_its_events(toy):
    part = toy.take([5, 0, 9])
    assert len(part) == 3 and len(toy) == len(toy.stays)
    assert part.stays['stay_id'].tolist() == toy.stays['stay_id'].iloc[[5, 0, 9]].tolist()
    whole = toy.statistics().loc[part.stays['stay_id']]
    pd.testing.assert_frame_equal(part.statistics(), whole)
    np.testing.assert_array_equal(part.grid().X, toy.grid().X[[5, 0, 9]])
    assert toy.iloc[: len(toy)].validate().fingerprint == toy.fingerprint
    with pytest.raises(BadInput, match='taken twice'):
        toy.take([1, 1])


def test_folds_of_scikit_learn_are_those_by_hand(toy, checkpoint):
    y, task = labels_of(toy, toy.tasks[0].name), toy.tasks[0].name
    learned = toy.iloc[~np.isnan(y) & (toy.stays['partition'] != 'test').to_numpy()]
    labels, subjects = learned.stays[task].to_numpy(int), learned.stays['subject_id'].to_numpy()
    model = TransferClassifier(checkpoint, repeats=1)
    scores = cross_val_score(model, learned, labels, groups=subjects, cv=GroupKFold(3), scoring='roc_auc')
    for score, (train, test) in zip(scores, GroupKFold(3).split(labels, groups=subjects)):
        assert not set(subjects[train]) & set(subjects[test])
        p = clone(model).fit(learned.take(train), labels[train]).predict_proba(learned.take(test))[:, 1]
        assert score == roc_auc_score(labels[test], p)
    search = GridSearchCV(model, dict(penalty=['ridge', 'lasso']), cv=GroupKFold(3), scoring='roc_auc')
    search.fit(learned, labels, groups=subjects)
    assert search.cv_results_['mean_test_score'].max() == search.best_score_
    assert search.predict_proba(toy).shape == (len(toy), 2)


# ---- recalibration and precision


def test_recalibration_undoes_a_shift_and_a_stretch():
    generator = np.random.default_rng(1)
    truth = generator.normal(-1, 1, 20_000)
    y = (generator.random(20_000) < 1 / (1 + np.exp(-truth))).astype(float)
    found = fit_recalibration(3 * truth + 2, y)
    assert abs(found.slope - 1 / 3) < 0.02 and abs(found.intercept + 2 / 3) < 0.05


def test_recalibration_needs_positives_for_a_slope():
    x = np.linspace(-2, 2, 100)
    y = np.zeros(100)
    y[-7:] = 1
    found = fit_recalibration(x, y)
    assert found.slope == 1 and 'intercept only: 7 of the rarer class' in found.note
    assert np.isclose(found.apply(x).mean(), 0.07)
    assert fit_recalibration(x, np.zeros(100)).note.startswith('not recalibrated')


def test_cross_fitting_never_predicts_what_it_learned_from():
    subject = np.repeat(np.arange(30), 2)
    y = (subject % 3 == 0).astype(float)

    def fit(rows):
        learned = set(subject[rows])

        def predict(held_out):
            assert not learned & set(subject[held_out])
            return np.zeros(len(held_out))

        return predict

    assert cross_fit_logits(fit, y, subject, repeats=2).shape == (60, 2)


def test_the_standard_error_of_an_auroc_is_that_of_simulation():
    generator = np.random.default_rng(2)
    found = []
    for _ in range(400):
        positive, negative = generator.normal(0.74, 1, 30), generator.normal(0, 1, 120)
        found.append((positive[:, None] > negative).mean())
    assert abs(np.std(found) / auroc_standard_error(np.mean(found), 30, 120) - 1) < 0.12


def test_a_width_is_reached_by_the_labels_that_are_named():
    n = labels_for_width(0.1, 0.2)
    half = 1.96 * auroc_standard_error(0.7, round(n * 0.2), n - round(n * 0.2))
    assert 0.095 < 2 * half <= 0.1001


@pytest.mark.parametrize(('n_positive', 'says'), [(3, 'too few for an interval'), (12, 'too little'), (40, '')])
def test_few_positives_are_named(n_positive, says):
    y = np.r_[np.ones(n_positive), np.zeros(200)]
    message = expected_precision(y).message
    assert says in message if says else message == ''
    table = evaluate_label(y, np.linspace(0, 1, len(y)), np.arange(len(y)), replicates=50).table
    assert table['low'].isna().all() == (n_positive < 5)


# ---- pre-training


def test_pretraining_uses_test_stays_unless_they_are_kept(toy):
    settings = TrainSettings(lr=1e-3, max_updates=2, eval_every=1)
    n = toy.stays['partition'].value_counts()
    for keep_test, expected in ((False, n['train'] + n['test']), (True, n['train'])):
        net = pretrain_network(toy, hidden=(4,), settings=settings, keep_test=keep_test).net
        assert net.meta['counts']['train'] == expected


def test_a_pretrained_network_goes_straight_into_a_classifier(toy, tmp_path):
    settings = TrainSettings(lr=1e-3, max_updates=4, eval_every=2)
    path = pretrain_network(toy, hidden=(4,), settings=settings).save(tmp_path / 'net.safetensors', licence='CC0')
    stored = json.loads(path.with_suffix('.json').read_text())
    assert stored['licence'] == 'CC0' and stored['channel_summary'].keys() == {c.name for c in toy.channels}
    assert TransferClassifier(path).fit(toy, toy.tasks[0].name).predict_proba(toy).shape == (300, 2)


def test_a_tuned_network_keeps_its_inputs_and_names_where_it_began(toy, tmp_path):
    once = TrainSettings(lr=1e-3, max_updates=1, eval_every=1)
    first = pretrain_network(toy, hidden=(4,), settings=once).net
    first.meta['cohort'] |= dict(licence='ODC-BY 1.0')
    restrict_inputs(first, first.meta['columns'], first.meta['columns'][:2])
    begun = save_checkpoint(first, tmp_path / 'first.safetensors')
    tuned = pretrain_network(toy, start=begun, settings=once).save(tmp_path / 'tuned.safetensors')
    loaded = load_checkpoint(tuned)
    assert loaded.meta['reads'] == first.meta['reads'] and loaded.input_mask.sum() == 2
    assert loaded.meta['start']['sha256'] == read_checkpoint(begun).description['sha256']
    card = describe_network(tuned)
    assert 'ODC-BY 1.0; unknown' in card.split('---')[1] and 'source of the network it began as' in card
    for given in (dict(hidden=(8,)), dict(hours=24)):
        with pytest.raises(BadInput, match='leave out hidden and hours'):
            pretrain_network(toy, start=begun, settings=once, **given)
    del first.meta['normaliser']
    with pytest.raises(BadInput, match='does not say normaliser'):
        pretrain_network(toy, start=save_checkpoint(first, tmp_path / 'bare.safetensors'), settings=once)


def test_dropped_channels_look_like_channels_never_measured(toy):
    "Every channel taken away: the grid of stays without an event."
    grid = toy.grid()
    normalizer = Normalizer.fit(grid.X.copy(), grid.columns)
    import torch

    X = torch.from_numpy(normalizer.transform(grid.X.copy(), grid.columns))
    empty = Cohort(toy.events[:0], toy.stays, toy.channels, toy.tasks).grid()
    expected = normalizer.transform(empty.X, empty.columns)
    dropped = channel_dropout(toy.channels, True, normalizer, 0.999999)(X)
    np.testing.assert_allclose(dropped.numpy(), expected, atol=1e-6)
    assert channel_dropout(toy.channels, True, normalizer, 0.0) is None


def test_channel_summary_counts_what_a_few_lines_count(toy):
    channel = next(c for c in toy.channels if not c.values)
    of_channel = toy.events[toy.events['channel'] == channel.name]
    found = summarise_channels(toy)[channel.name]
    assert found['missing'] == round(1 - of_channel['stay_id'].nunique() / len(toy.stays), 4)
    assert np.isclose(found['quantiles']['0.5'], of_channel['value'].median())


def test_statistics_end_where_the_network_does(checkpoint, toy):
    model = TransferClassifier(checkpoint, features='both', repeats=1)
    hours = json.loads(checkpoint.with_suffix('.json').read_text())['hours']
    model.fit(toy, toy.tasks[0].name)
    assert [block.hours for block in model.blocks_[1:]] == [hours] == [model.hours_]


def test_a_classifier_needs_train_stays_and_one_column_of_labels(checkpoint, toy):
    model, labels = TransferClassifier(checkpoint, repeats=1), toy.stays[toy.tasks[0].name]
    with pytest.raises(BadInput, match='a table with columns .*; give one column of it'):
        model.fit(toy, labels.to_frame())
    only_val = Cohort(toy.events, toy.stays.assign(partition='val'), toy.channels, toy.tasks)
    with pytest.raises(BadInput, match='no stay is train'):
        model.fit(only_val, toy.tasks[0].name)


@pytest.mark.parametrize('penalty', ['ridge', 'lasso'])
@pytest.mark.parametrize(
    'changed, words',
    [
        (dict(lambdas=[-1.0, 1.0]), 'one or more positive numbers'),
        (dict(lambdas=[]), 'one or more positive numbers'),
        (dict(lambdas=[np.nan]), 'one or more positive numbers'),
        (dict(subject=np.arange(3)), '3 subjects for 60 stays'),
        (dict(repeats=0), '0 repeats'),
        (dict(y=np.ones(60)), '60 stays, 60 positive'),
    ],
)
def test_a_fit_of_few_labels_says_what_is_wrong(penalty, changed, words):
    Z = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(BadInput, match=words):
        fit_few_labels(**dict(Z=Z, y=(np.arange(60) % 3 == 0).astype(float), penalty=penalty) | changed)


# ---- what a model that hardly says anything is called


def test_ridge_at_the_edge_of_its_grid_is_said(toy, checkpoint, tmp_path):
    by_chance = pd.Series(np.random.default_rng(0).integers(0, 6, len(toy.stays)) == 0, toy.stays['stay_id'])
    model = TransferClassifier(checkpoint, repeats=1)
    with pytest.warns(
        InputWarning, match='chosen at the strongest penalty of the grid: predictions lie between'
    ) as seen:
        model.fit(toy, by_chance)
    assert len(seen) == 1 and seen[0].filename == __file__
    assert not model.constant_ and model.spread_.edge == 'strongest' and model.spread_.is_narrow
    p = model.predict_proba(toy)[:, 1]
    assert model.spread_.low <= np.median(p) <= model.spread_.high and model.spread_.high - model.spread_.low < 0.05
    line = model.spread_.describe()
    assert line in str(seen[0].message) and line in model.evaluate(toy, by_chance, replicates=20).note
    assert load_classifier(save_classifier(model, tmp_path / 'model')).spread_ == model.spread_


def test_a_model_that_says_something_is_not_warned_of(toy, checkpoint):
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        model = TransferClassifier(checkpoint, features='statistics', repeats=1).fit(toy, toy.tasks[0].name)
    assert model.spread_.describe() == '' and model.spread_.sd > 0.1


def test_a_constant_model_is_said_once(toy, checkpoint):
    labels = pd.Series(np.random.default_rng(3).integers(0, 6, len(toy.stays)) == 0, toy.stays['stay_id'])
    with pytest.warns(InputWarning) as seen:
        model = TransferClassifier(checkpoint, penalty='lasso', repeats=1).fit(toy, labels)
    assert model.constant_ and str(seen[0].message).startswith('predicts one number for everybody')
    assert 'strongest' not in str(seen[0].message)


def related(n, slope, seed=0):
    "Logits, and labels whose log-odds are a multiple of them."
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, (rng.random(n) < 1 / (1 + np.exp(1 - slope * x))).astype(float)


@pytest.mark.parametrize(
    ('slope', 'says'),
    [
        (0.1, 'pulls predictions to the prevalence'),
        (-1.0, 'do not rise with the label'),
        (12.0, 'far apart'),
        (1.0, ''),
    ],
)
def test_the_note_of_a_recalibration_names_an_odd_slope(slope, says):
    found = fit_recalibration(*related(8000, slope))
    assert (says in found.note) if says else found.note == ''
    assert found.slope > 0


def test_repeats_of_a_recalibration_are_all_used():
    x, y = related(400, 1.0)
    shifted = np.column_stack([x, x + 1.0])
    found, one = fit_recalibration(shifted, y), fit_recalibration(x, y)
    assert np.isclose(fit_recalibration(np.column_stack([x, x]), y).slope, one.slope, atol=1e-4)
    assert found.intercept < one.intercept - 0.2
    few = y.copy()
    few[np.flatnonzero(y)[7:]] = 0
    assert '7 of the rarer class' in fit_recalibration(np.column_stack([x, x, x]), few).note


def test_the_classifier_recalibrates_with_the_repeats_it_was_given(toy, checkpoint, monkeypatch):
    from rnn_transfer.estimators import classifier

    asked = []

    def cross_fit(fit, y, groups, repeats, key):
        asked.append(repeats)
        return np.zeros((len(y), repeats))

    monkeypatch.setattr(classifier, 'cross_fit_logits', cross_fit)
    with pytest.warns(InputWarning, match='recalibrated by the intercept only'):
        model = TransferClassifier(checkpoint, recalibrate=True, repeats=2).fit(toy, toy.tasks[0].name)
    assert asked == [2] and model.recalibration_slope_ == 1.0
    assert model.recalibration_intercept_ == model.recalibration_.intercept


def first_of_subjects(cohort):
    "The first train stay of each subject."
    train = cohort.stays[cohort.stays['partition'] == 'train']
    return train.index[~train['subject_id'].duplicated()].to_numpy()


def test_two_positive_subjects_are_fitted_and_not_recalibrated(toy, checkpoint):
    train = toy.stays['partition'] == 'train'
    values = np.where(train, 0.0, np.nan)
    values[first_of_subjects(toy)[:2]] = 1
    with pytest.warns(InputWarning, match='not recalibrated: 2 subjects of the rarer class, 3 needed') as seen:
        model = TransferClassifier(checkpoint, recalibrate=True, repeats=1).fit(toy, values)
    assert len(seen) == 1 and model.recalibration_slope_ == 1 and np.isfinite(model.predict_proba(toy)).all()


# ---- a classifier.json whose hash was made again


WRONG = ['x', '', 3, -1, 0, 0.5, 1e300, True, None, [], ['x'], [[]], [['x']], {}, {'x': 1}, 10**30, 'ridge\x00', '1']
FIELDS = [(key,) for key in KEYS if key not in ('description_sha256',)]
FIELDS += [('settings', key) for key in TransferClassifier().get_params()]
FIELDS += [('recalibration', key) for key in ('intercept', 'slope', 'note')]
FIELDS += [('spread', key) for key in ('low', 'high', 'sd', 'edge')]


def with_hash(folder, change):
    "A change of classifier.json that its hash does not show."
    file = folder / 'classifier.json'
    stored = json.loads(file.read_text())
    change(stored)
    stored['description_sha256'] = hash_description(stored)
    file.write_text(json.dumps(stored))


@pytest.mark.parametrize('place', FIELDS, ids='.'.join)
@pytest.mark.parametrize('features', ['both', 'statistics'])
def test_no_value_of_a_classifier_ends_in_a_traceback(
    toy, saved_classifier, saved_statistics, tmp_path, place, features
):
    "Every value is rejected in one line that names file and field, or gives a model that predicts."
    source = dict(both=saved_classifier, statistics=saved_statistics)[features]
    original = json.loads((source / 'classifier.json').read_text())
    n_rejected = 0
    for i, value in enumerate(WRONG):
        folder = shutil.copytree(source, tmp_path / str(i))

        def change(stored, value=value):
            inner = stored if len(place) == 1 else stored[place[0]]
            inner[place[-1]] = value

        with_hash(folder, change)
        try:
            model = load_classifier(folder)
        except BadInput as e:
            n_rejected += 1
            line = str(e)
            field = 'feature_names' if place[-1] == 'statistics' and value == [['x']] else place[-1]
            assert '\n' not in line and 'classifier.json' in line and field in line, line
        else:
            old = original.get(place[0], '') if len(place) == 1 else original[place[0]][place[-1]]
            may_be_none = place[-1] in ('random_state', 'hours') and value is None
            alike = isinstance(value, type(old)) or {type(value), type(old)} <= {int, float, str}
            assert old is None or may_be_none or alike
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', InputWarning)
                assert np.isfinite(model.predict_proba(toy)).all()
    assert n_rejected >= len(WRONG) // 3


@pytest.fixture(scope='module')
def saved_statistics(toy, tmp_path_factory):
    model = TransferClassifier(features='statistics', repeats=1).fit(toy, toy.tasks[0].name)
    return save_classifier(model, tmp_path_factory.mktemp('statistics') / 'model')


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda s: s['settings'].update(features='tea'), "settings.features: input should be 'network', 'statistics'"),
        (lambda s: s['settings'].update(features='statistics'), 'network_sha256'),
        (lambda s: s['settings'].update(features='network'), 'statistics: 1 lists'),
        (lambda s: s['settings'].update(layers='top'), 'feature_names'),
        (lambda s: s['settings'].update(hours=24), 'settings.hours: 24 where hours is 48'),
        (lambda s: s.update(n_positive=-1), 'n_positive: input should be greater'),
        (lambda s: s.update(n_positive='12'), 'n_positive: input should be a valid integer'),
        (lambda s: s.update(n_positive=0), 'n_positive: 0'),
        (lambda s: s.update(feature_names=s['feature_names'][1:]), 'feature_names'),
        (lambda s: s.update(feature_names=s['feature_names'][::-1]), 'feature_names'),
        (lambda s: s.update(scaled_columns=s['scaled_columns'][1:]), 'scaled_columns'),
        (lambda s: s.update(statistics=[]), 'statistics: 0 lists'),
        (lambda s: s['spread'].update(low=1.0), 'low 1.0 is above high'),
    ],
)
def test_values_that_contradict_each_other_are_named(saved_classifier, tmp_path, change, says):
    folder = shutil.copytree(saved_classifier, tmp_path / 'copy')
    with_hash(folder, change)
    with pytest.raises(BadInput) as e:
        load_classifier(folder)
    assert says in str(e.value) and 'classifier.json' in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('text', ['NaN', 'Infinity', '1e400'])
def test_a_number_that_is_none_is_rejected(saved_classifier, tmp_path, text):
    folder = shutil.copytree(saved_classifier, tmp_path / 'copy')
    file = folder / 'classifier.json'
    file.write_text(re.sub(r'"penalty_strength": [^,]*', f'"penalty_strength": {text}', file.read_text()))
    with pytest.raises(BadInput, match='classifier.json') as e:
        load_classifier(folder)
    assert '\n' not in str(e.value)


# ---- the window of statistics


def test_statistics_alone_read_the_window_asked_for(toy, tmp_path):
    task = toy.tasks[0].name
    day = Cohort(toy.events, toy.stays, toy.channels, toy.tasks, dict(hours=24))
    early = Cohort(toy.events[toy.events['hour'] <= 24], toy.stays, toy.channels, toy.tasks, dict(hours=24))
    model = TransferClassifier(features='statistics', repeats=1).fit(day, task)
    assert model.hours_ == 24
    np.testing.assert_array_equal(model.predict_proba(day), model.predict_proba(early))
    assert TransferClassifier(features='statistics', repeats=1).fit(toy, task).hours_ == 48
    stated = TransferClassifier(features='statistics', repeats=1, hours=12).fit(day, task)
    loaded = load_classifier(save_classifier(stated, tmp_path / 'model'))
    assert stated.hours_ == loaded.hours_ == 12
    np.testing.assert_allclose(loaded.predict_proba(toy), stated.predict_proba(day), atol=1e-12)


def test_a_network_has_a_window_of_its_own(toy, checkpoint):
    with pytest.raises(BadInput, match='hours 24: the network reads 48; leave hours out'):
        TransferClassifier(checkpoint, features='both', hours=24).fit(toy, toy.tasks[0].name)


# ---- what a user may do wrong


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        (dict(checkpoint=''), 'checkpoint is missing: name the file of a network, such as rt.shipped_network()'),
        (dict(repeats=0), 'repeats 0: expected a whole number from 1 to 1,000'),
        (dict(repeats=1.5), 'repeats 1.5: expected'),
        (dict(features='all'), "features 'all': expected network, statistics or both"),
        (dict(layers='low'), "layers 'low': expected all or top"),
        (dict(missing='drop'), "missing 'drop': expected impute or strict"),
        (dict(scale='ours'), "scale 'ours': expected source or target"),
        (dict(penalty='l2'), "penalty 'l2': expected ridge"),
        (dict(hours=0), 'hours 0: expected'),
    ],
)
def test_a_wrong_setting_is_one_line(toy, checkpoint, settings, says):
    with pytest.raises(BadInput) as e:
        TransferClassifier(**dict(checkpoint=checkpoint) | settings).fit(toy, toy.tasks[0].name)
    assert says in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('X', ['cohorts/ours', np.zeros((3, 2)), pd.DataFrame(dict(a=[1])), None])
def test_what_is_no_cohort_is_one_line(toy, checkpoint, X):
    model = TransferClassifier(checkpoint, repeats=1)
    with pytest.raises(BadInput, match='expected a Cohort'):
        model.fit(X, 'Mortality')
    model.fit(toy, toy.tasks[0].name)
    for call in (model.predict_proba, model.predict, model.predict_stays, model.evaluate):
        with pytest.raises(BadInput, match='expected a Cohort'):
            call(X)


def test_a_classifier_that_was_not_fitted_says_so(toy, checkpoint, tmp_path):
    model = TransferClassifier(checkpoint)
    calls = [lambda: save_classifier(model, tmp_path / 'm'), lambda: model.predict(toy), lambda: model.evaluate(toy)]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
    assert not (tmp_path / 'm').exists()


def test_a_label_that_is_misspelt_is_recognised(toy, checkpoint):
    with pytest.raises(BadInput, match="label 'mortality': no task of this cohort; did you mean 'Mortality'"):
        TransferClassifier(checkpoint).fit(toy, 'mortality')
    with pytest.raises(BadInput, match='no task of this cohort; it has Phenotype A'):
        TransferClassifier(checkpoint).fit(toy, 'qqq')


@pytest.mark.parametrize('n_positive', [0, 1, 2, 3, 4])
def test_few_positives_are_one_line_or_a_model(toy, checkpoint, n_positive):
    "Folds of cross-validation are at most as many as subjects of the rarer class."
    values = np.zeros(len(toy.stays))
    values[first_of_subjects(toy)[:n_positive]], values[toy.stays['partition'] == 'test'] = 1, np.nan
    values[np.flatnonzero(toy.stays['partition'] == 'test')[0]] = 1
    stays = toy.stays.assign(Rare=values)
    cohort = Cohort(toy.events, stays, toy.channels, [replace(toy.tasks[0], name='Rare')])
    model = TransferClassifier(checkpoint, repeats=1)
    if n_positive < 2:
        with pytest.raises(
            BadInput,
            match=f"label 'Rare': .* {n_positive} of them positive, .*: {n_positive}; two",
        ):
            model.fit(cohort, 'Rare')
    else:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', InputWarning)
            model.fit(cohort, 'Rare')
        assert f'{n_positive} positive, which is few' in model.evaluate(cohort, replicates=20).note


def test_scikit_learn_takes_the_stays_that_have_a_label(toy, checkpoint):
    values = pd.Series(labels_of(toy, toy.tasks[0].name), toy.stays['stay_id'])
    values.iloc[::3] = np.nan
    part, y, groups = labelled_stays(toy, values)
    assert len(part) == len(y) == len(groups) and set(y) == {0, 1} and 'test' not in set(part.stays['partition'])
    model = TransferClassifier(checkpoint, repeats=1)
    scores = cross_val_score(model, part, y, groups=groups, cv=GroupKFold(3), scoring='roc_auc')
    search = GridSearchCV(model, dict(penalty=['ridge', 0.5]), cv=GroupKFold(2)).fit(part, y, groups=groups)
    assert np.isfinite(scores).all() and search.best_estimator_.predict(toy).shape == (len(toy),)
    with pytest.raises(BadInput, match='no stay has a label'):
        labelled_stays(toy, values, ('none',))


def test_a_search_may_be_saved(toy, checkpoint, tmp_path):
    part, y, groups = labelled_stays(toy, toy.tasks[0].name)
    settings = dict(penalty=np.array([0.0, 0.5]), repeats=np.array([1]))
    search = GridSearchCV(TransferClassifier(checkpoint), settings, cv=GroupKFold(2)).fit(part, y, groups=groups)
    loaded = load_classifier(save_classifier(search.best_estimator_, tmp_path / 'model'))
    assert np.abs(loaded.predict_proba(toy) - search.predict_proba(toy)).max() < 1e-12


def test_accuracy_leaves_missing_labels_out(toy, checkpoint):
    y = labels_of(toy, toy.tasks[0].name).copy()
    y[:50] = np.nan
    model = TransferClassifier(checkpoint, repeats=1).fit(toy, y)
    expected = (model.predict(toy)[50:] == y[50:])[~np.isnan(y[50:])].mean()
    assert model.score(toy, y) == pytest.approx(expected) == model.score(toy, pd.Series(y, toy.stays['stay_id']))
    weights = np.r_[np.zeros(60), np.ones(len(y) - 60)]
    assert model.score(toy, y, weights) == pytest.approx((model.predict(toy)[60:] == y[60:])[~np.isnan(y[60:])].mean())


@pytest.mark.parametrize('block', [MIMICNetFeatures, StatisticalFeatures])
def test_features_of_what_is_no_cohort_are_one_line(toy, checkpoint, block):
    transformer = block(checkpoint) if block is MIMICNetFeatures else block()
    for call in (transformer.fit, transformer.fit(toy).transform):
        with pytest.raises(BadInput, match='expected a Cohort'):
            call('cohorts/ours')


def test_features_without_a_network_are_one_line(toy):
    with pytest.raises(BadInput, match='checkpoint is missing: name the file of a network'):
        MIMICNetFeatures().fit(toy)
