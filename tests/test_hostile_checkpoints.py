"A description that was edited by hand is rejected in one line, whoever reads it."

import json

import pytest

from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.estimators.classifier import TransferClassifier
from rnn_transfer.estimators.extraction import extract_cohort_features
from rnn_transfer.estimators.features import MIMICNetFeatures
from rnn_transfer.experiment.commands import rnn_transfer_features
from rnn_transfer.model import init_network, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import hash_description
from rnn_transfer.utilities.errors import BadInput

TOY = toy_cohort(60)


@pytest.fixture(scope='module')
def cohort_folder(tmp_path_factory):
    return TOY.save(tmp_path_factory.mktemp('cohort') / 'toy')


@pytest.fixture
def checkpoint(tmp_path):
    grid = TOY.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in TOY.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale, normaliser='train', tasks=['A', 'B'], seed=0)
    return save_checkpoint(init_network(len(grid.columns), 4, 2), tmp_path / 'net.safetensors', **meta)


def by_command(checkpoint, cohort_folder, capsys):
    with pytest.raises(SystemExit) as e:
        rnn_transfer_features(str(cohort_folder), str(checkpoint), str(checkpoint.parent / 'out.parquet'), align=True)
    assert e.value.code == 2 and not (checkpoint.parent / 'out.parquet').exists()
    return capsys.readouterr().err.removeprefix('error: ').strip()


def by_function(checkpoint, cohort_folder, capsys):
    with pytest.raises(BadInput) as e:
        extract_cohort_features(TOY, checkpoint, align=True)
    return str(e.value)


def by_features(checkpoint, cohort_folder, capsys):
    with pytest.raises(BadInput) as e:
        MIMICNetFeatures(checkpoint).fit(TOY)
    return str(e.value)


def by_classifier(checkpoint, cohort_folder, capsys):
    with pytest.raises(BadInput) as e:
        TransferClassifier(checkpoint).fit(TOY, TOY.tasks[0].name)
    return str(e.value)


ROUTES = pytest.mark.parametrize('route', [by_command, by_function, by_features, by_classifier])


def edit(checkpoint, change):
    file = checkpoint.with_suffix('.json')
    stored = json.loads(file.read_text())
    changed = change(stored)
    file.write_text(json.dumps(stored if changed is None else changed))


def other(value):
    "A value of the same form, where there is one."
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + '1' if len(value) < 64 else value[::-1]
    if isinstance(value, list):
        return [*value[1:], value[0]]
    return dict(list(value.items())[::-1]) | {next(iter(value)): other(next(iter(value.values())))}


FIELDS = ['format', 'n_columns', 'hidden', 'n_tasks', 'n_layers', 'dropout', 'columns', 'channels', 'hours', 'masks']
FIELDS += ['short', 'scale', 'normaliser', 'tasks', 'seed', 'versions', 'sha256', 'description_sha256']


def test_every_field_is_among_those_that_are_edited(checkpoint):
    assert set(json.loads(checkpoint.with_suffix('.json').read_text())) == set(FIELDS)


@ROUTES
@pytest.mark.parametrize('field', FIELDS)
def test_an_edited_field_is_rejected(checkpoint, cohort_folder, capsys, route, field):
    edit(checkpoint, lambda stored: stored.update({field: other(stored[field])}))
    line = route(checkpoint, cohort_folder, capsys)
    assert '\n' not in line and 'net.' in line and len(line) < 400


@ROUTES
@pytest.mark.parametrize('field', FIELDS)
def test_a_field_that_is_left_out_is_rejected(checkpoint, cohort_folder, capsys, route, field):
    edit(checkpoint, lambda stored: stored.pop(field) and None)
    line = route(checkpoint, cohort_folder, capsys)
    assert '\n' not in line and 'net.' in line


def without_hash(stored):
    del stored['description_sha256']


def with_null(stored):
    stored['description_sha256'] = None


@ROUTES
@pytest.mark.parametrize('remove', [without_hash, with_null])
@pytest.mark.parametrize('field', [None, 'hours', 'scale', 'channels', 'versions', 'seed'])
def test_a_description_without_its_hash_is_rejected(checkpoint, cohort_folder, capsys, route, remove, field):
    edit(checkpoint, lambda stored: field and stored.update({field: other(stored[field])}))
    edit(checkpoint, remove)
    line = route(checkpoint, cohort_folder, capsys)
    assert '\n' not in line and 'net.json' in line and len(line) < 400
    assert 'has no description_sha256' in line and 'fetch or train it again' in line


@ROUTES
@pytest.mark.parametrize(
    'change',
    [
        lambda stored: stored.update(surprise=1),
        lambda stored: stored['channels'][0].update(unit='per year'),
        lambda stored: stored['channels'][3]['values'].reverse(),
        lambda stored: stored['scale'].update({'Heart rate': [0, 1]}),
        lambda stored: [stored],
        lambda stored: stored.update(hours='48'),
    ],
)
def test_a_deeper_edit_is_rejected(checkpoint, cohort_folder, capsys, route, change):
    edit(checkpoint, change)
    assert '\n' not in route(checkpoint, cohort_folder, capsys)


@ROUTES
@pytest.mark.parametrize(
    'changes',
    [
        dict(hours='48'),
        dict(hours=0),
        dict(hours=None),
        dict(scale=None),
        dict(scale={}),
        dict(scale={'Heart rate': [1]}),
        dict(channels=None),
        dict(channels=[]),
        dict(channels=[dict(name='Heart rate', surprise=1)]),
        dict(channels=[dict(name=3, kind='continuous')]),
        dict(channels=[dict(name='Heart rate', kind='wave')]),
        dict(channels=[dict(name='Heart rate', kind='continuous', normal='high')]),
        dict(channels=['Lactate of Mars']),
        dict(columns=None),
        dict(masks=None),
        dict(masks=False),
        dict(short='never'),
        dict(short=None),
    ],
    ids=str,
)
def test_what_fits_no_network_is_rejected_with_a_right_hash_too(checkpoint, cohort_folder, capsys, route, changes):
    edit(checkpoint, lambda stored: stored.update(changes))
    edit(checkpoint, lambda stored: stored.update(description_sha256=hash_description(stored)))
    line = route(checkpoint, cohort_folder, capsys)
    assert '\n' not in line and 'hash' not in line
