"Descriptions of any origin: cohort.json, checkpoints, tables; and the short form of the fuzzer."

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch as safetensors
import torch
from fuzz import KINDS, fuzz

from rnn_transfer.cohorts.channels import Channel, Task
from rnn_transfer.cohorts.hourly import value_and_mask_columns
from rnn_transfer.cohorts.statistics import segment_statistics
from rnn_transfer.cohorts.validation import MAX_VALUE, check_channels
from rnn_transfer.data import Cohort, PreparedCohort, run_data
from rnn_transfer.learning.autoencoder import observed_values
from rnn_transfer.learning.networks import read_split
from rnn_transfer.model import init_network, load_checkpoint, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import hash_description
from rnn_transfer.utilities.errors import BadInput
from rnn_transfer.utilities.json_files import read_json


@pytest.fixture
def saved(tmp_path):
    return toy_cohort(60).save(tmp_path / 'cohort')


def rejected(cohort_or_folder, match):
    "The one line with which a cohort is rejected."
    with pytest.raises(BadInput, match=match) as e:
        Cohort.load(cohort_or_folder)
    assert '\n' not in str(e.value)


def edit(folder, change):
    file = folder / 'cohort.json'
    about = json.loads(file.read_text())
    about.pop('fingerprint', None)
    change(about)
    file.write_text(json.dumps(about))


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_fuzzing_finds_nothing(kind):
    counts, faults = fuzz(kind, 60, seed=1)
    assert not faults, '\n'.join(faults[:5])
    assert counts['rejected'] and counts['accepted']


def test_a_byte_order_mark_is_read(saved):
    file = saved / 'cohort.json'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('', 'not the description'),
        ('[]', 'but a list'),
        ('{"channels": NaN}', 'NaN is no number'),
        ('{"channels": 1e999}', 'not finite'),
        ('{"channels": [], "channels": []}', 'occurs twice'),
        ('[' * 100_000, 'lists'),
        ('{"a": ' * 200 + '1' + '}' * 200, 'in each other'),
        ('{"source": "\\ud800"}', 'surrogates'),
        ('{"channels": [{"name": 3, "kind": "continuous"}], "tasks": []}', 'channels.0.name'),
        ('{"channels": [], "tasks": []}', 'channels: list should have at least 1'),
        ('{"tasks": []}', 'channels: field required'),
    ],
)
def test_a_wrong_description_is_one_line(saved, text, says):
    (saved / 'cohort.json').write_text(text)
    rejected(saved, says)


@pytest.mark.parametrize(
    ('key', 'value', 'says'),
    [
        ('name', '', 'channels.0.name'),
        ('name', '   ', 'has no name'),
        ('name', ' Heart rate', 'spaces around it'),
        ('name', 'Heart\trate', 'cannot be shown'),
        ('name', 'x' * 201, 'channels.0.name'),
        ('normal', 1e39, 'a number as normal'),
        ('normal', 'high', 'a number as normal'),
        ('normal', True, 'channels.0.normal|a number as normal'),
        ('kind', 'number', 'channels.0.kind'),
        ('unit', 3, 'channels.0.unit'),
        ('colour', 'red', 'channels.0.colour'),
    ],
)
def test_a_wrong_channel_is_named(saved, key, value, says):
    edit(saved, lambda about: about['channels'][0].update({key: value}))
    rejected(saved, says)


@pytest.mark.parametrize('name', ['', '  ', ' sepsis', 'sep\nsis', 'x' * 201])
def test_a_wrong_task_name_is_named(saved, name):
    edit(saved, lambda about: about['tasks'][0].update(name=name))
    rejected(saved, 'tasks.0.name|task|column')


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e39, MAX_VALUE * 10])
def test_no_number_reaches_the_grid_that_it_cannot_hold(saved, value):
    events = pd.read_parquet(saved / 'events.parquet')
    at = events.index[events['channel'] == toy_cohort(60).channels[0].name][0]
    events.loc[at, 'value'] = value
    events.to_parquet(saved / 'events.parquet', index=False)
    rejected(saved, f'events.parquet: column value: row {at} |events.parquet: column value: row {at}')


def write_parts(folder, name, n=3):
    "The table as part files, as Spark writes it."
    table = pq.read_table(folder / name)
    if 'channel' in table.column_names:
        at = table.column_names.index('channel')
        table = table.set_column(at, 'channel', table.column('channel').cast(pa.string()))
    (folder / name).unlink()
    (folder / name).mkdir()
    size = -(-len(table) // n)
    for i in range(n):
        pq.write_table(table.slice(i * size, size), folder / name / f'part-{i:05d}.snappy.parquet')
    (folder / name / '_SUCCESS').write_text('')
    (folder / name / '.part-00000.crc').write_bytes(b'crc')


@pytest.mark.parametrize('name', ['events.parquet', 'stays.parquet'])
def test_a_parquet_folder_is_read_in_the_order_of_its_parts(saved, name):
    write_parts(saved, name)
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


def test_parts_with_other_columns_are_rejected(saved):
    write_parts(saved, 'events.parquet')
    part = saved / 'events.parquet' / 'part-00001.snappy.parquet'
    pq.write_table(pq.read_table(part).rename_columns(['stay_id', 'hour', 'channel', 'reading']), part)
    rejected(saved, 'different columns')


def test_an_empty_parquet_folder_is_rejected(saved):
    (saved / 'events.parquet').unlink()
    (saved / 'events.parquet').mkdir()
    rejected(saved, 'without part files')


def test_a_column_that_is_there_twice_is_rejected(saved):
    table = pq.read_table(saved / 'stays.parquet')
    pq.write_table(table.append_column('partition', table.column('partition')), saved / 'stays.parquet')
    rejected(saved, 'partition is there twice')


def test_the_index_of_pandas_is_no_column(saved):
    "A table whose pandas metadata make stay_id its index still has the column."
    stays = pd.read_parquet(saved / 'stays.parquet').set_index('stay_id')
    stays.to_parquet(saved / 'stays.parquet', index=True)
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


@pytest.mark.parametrize('dtype', ['large_string', 'dictionary'])
def test_other_text_types_are_read(saved, dtype):
    table = pq.read_table(saved / 'events.parquet')
    text = table.column('channel').cast(pa.string())
    text = text.cast(pa.large_string()) if dtype == 'large_string' else text.dictionary_encode()
    pq.write_table(table.set_column(2, 'channel', text), saved / 'events.parquet')
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


def test_categories_must_differ_as_texts():
    stays = toy_cohort(60).stays
    channel = Channel('Rhythm', 'categorical', '', '1', ['1', 1], [1, 2])
    events = pd.DataFrame(dict(stay_id=[], hour=[], channel=[], value=[])).astype(dict(stay_id='int64'))
    with pytest.raises(BadInput, match='same text'):
        Cohort(events, stays, [channel], [Task('Mortality')] if 'Mortality' in stays else []).validate()


def test_every_continuous_column_is_normalised(tmp_path):
    "Whatever a channel is called that may be called so."
    toy = toy_cohort(80)
    renamed = [Channel(f'{c.name} to K > 1', **{k: v for k, v in vars(c).items() if k != 'name'}) for c in toy.channels]
    names = {c.name: r.name for c, r in zip(toy.channels, renamed)}
    events = toy.events.assign(channel=toy.events['channel'].astype(object).map(names))
    data = run_data(Cohort(events, toy.stays, renamed, toy.tasks).save(tmp_path / 'c'), tmp_path / 'run')
    for channel in renamed:
        if channel.kind == 'continuous':
            x = np.asarray(data.X)[data.rows('train'), :, data.columns.index(channel.name)]
            assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3


def test_a_description_too_large_is_not_read(tmp_path):
    file = tmp_path / 'about.json'
    with open(file, 'wb') as f:
        f.truncate(60_000_000)
    with pytest.raises(BadInput, match='larger than 50 MB'):
        read_json(file)


def test_nothing_is_left_behind_by_a_rejected_save(tmp_path):
    toy = toy_cohort(60)
    channels = [replace(toy.channels[0], normal=float('nan')), *toy.channels[1:]]
    with pytest.raises(BadInput):
        Cohort(toy.events, toy.stays, channels, toy.tasks).save(tmp_path / 'c')
    assert not list(tmp_path.iterdir())


# ---- names that look like columns


def arrow_cohort(n=80):
    "The toy cohort, its channels renamed as no one should."
    toy = toy_cohort(n)
    names = ['Na->K ratio', 'Eye opening->closed', 'mask->Na->K ratio of old', 'mask']
    channels = [
        Channel(name, **{k: v for k, v in vars(c).items() if k != 'name'}) for name, c in zip(names, toy.channels)
    ]
    renamed = {c.name: new.name for c, new in zip(toy.channels, channels)}
    events = toy.events.assign(channel=toy.events['channel'].astype(object).map(renamed))
    return Cohort(events, toy.stays, channels, toy.tasks, toy.meta)


@pytest.mark.parametrize('masks', [True, False])
def test_a_channel_may_be_called_like_a_column(tmp_path, masks):
    "Each number has mean 0 and standard deviation 1 on train, and each value its own mask, after a trip to disk too."
    cohort = arrow_cohort()
    data = run_data(cohort.save(tmp_path / 'c'), tmp_path / 'run', masks=masks)
    plain = run_data(toy_cohort(80), tmp_path / 'plain', masks=masks)
    np.testing.assert_array_equal(data.X, plain.X)
    train = np.asarray(data.X)[data.rows('train')]
    np.testing.assert_allclose(train[..., :3].mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(train[..., :3].std((0, 1)), 1, atol=1e-3)
    found = value_and_mask_columns(data.columns)
    assert found == value_and_mask_columns(plain.columns) == value_and_mask_columns(cohort.grid(masks=masks).columns)
    assert found.masks == ([6, 7, 8, 9, 9, 9] if masks else [None] * 6)
    assert [c.channel for c in data.columns[:3]] == [c.name for c in cohort.channels[:3]]
    np.testing.assert_array_equal(observed_values(data.X, data.columns), observed_values(plain.X, plain.columns))


def test_names_without_an_arrow_are_stored_as_before(tmp_path):
    run_data(toy_cohort(60), tmp_path / 'plain')
    run_data(arrow_cohort(), tmp_path / 'arrow')
    stored = [json.loads((tmp_path / name / 'data' / 'data.json').read_text()) for name in ('plain', 'arrow')]
    assert 'channel_widths' not in stored[0] and stored[1]['channel_widths'] == [1, 1, 1, 3]


@pytest.mark.parametrize(
    ('names', 'says'),
    [
        (['Heart rate', 'mask->Heart rate'], "'Heart rate' and 'mask->Heart rate' both have a column"),
        (['Rhythm', 'Rhythm->sinus'], "'Rhythm' and 'Rhythm->sinus' both have a column 'Rhythm->sinus'"),
        (['Heart rate', 'mask->x'], None),
    ],
)
def test_two_columns_of_one_name_are_rejected(names, says):
    first = Channel(names[0], 'continuous', normal=1.0)
    if names[0] == 'Rhythm':
        first = Channel('Rhythm', 'categorical', normal='sinus', values=['sinus', 'other'], numeric=[0, 1])
    channels = [first, Channel(names[1], 'continuous', normal=1.0)]
    if says is None:
        return check_channels(channels)
    with pytest.raises(BadInput, match=says):
        check_channels(channels)


def test_a_mask_channel_with_a_category_like_a_name_is_rejected():
    mask = Channel('mask', 'categorical', normal='Heart rate', values=['Heart rate'], numeric=[1])
    with pytest.raises(BadInput, match="both have a column 'mask->Heart rate'"):
        check_channels([Channel('Heart rate', 'continuous', normal=80.0), mask])


def test_a_letter_in_two_parts_is_the_same_letter():
    toy = toy_cohort(60)
    stays = toy.stays.rename(columns={'Phenotype A': 'D\u00e9lire', 'Phenotype B': 'De\u0301lire'})
    tasks = [Task('D\u00e9lire'), Task('De\u0301lire'), *toy.tasks[2:]]
    with pytest.raises(BadInput, match='names two channels or tasks'):
        Cohort(toy.events, stays, toy.channels, tasks).validate()


# ---- tables of other software


def rewrite(folder, file, name, array):
    "Replace or add a column of a Parquet file."
    table = pq.read_table(folder / file)
    array = array(table) if callable(array) else array
    if name in table.column_names:
        table = table.set_column(table.column_names.index(name), name, array)
    else:
        table = table.append_column(name, array)
    pq.write_table(table, folder / file)


def numbers(name, dtype):
    return lambda table: pa.array([int(v) for v in table.column(name).to_pylist()]).cast(dtype)


@pytest.mark.parametrize('dtype', [pa.float64(), pa.decimal128(20, 0), pa.uint32(), pa.string(), pa.large_string()])
def test_identifiers_of_other_types_are_read(saved, dtype):
    rewrite(saved, 'stays.parquet', 'stay_id', numbers('stay_id', dtype))
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


@pytest.mark.parametrize('dtype', [pa.timestamp('s'), pa.duration('s'), pa.time64('us')])
def test_a_time_is_no_identifier(saved, dtype):
    rewrite(saved, 'stays.parquet', 'stay_id', numbers('stay_id', dtype))
    rejected(saved, 'column stay_id: expected int64, found')


def test_labels_that_are_times_are_rejected(saved):
    rewrite(saved, 'stays.parquet', 'Mortality', numbers('Mortality', pa.timestamp('ns')))
    rejected(saved, 'column Mortality: holds datetime')


def test_labels_as_text_or_truth_are_read(saved):
    rewrite(saved, 'stays.parquet', 'Mortality', numbers('Mortality', pa.bool_()))
    rewrite(saved, 'stays.parquet', 'Phenotype A', numbers('Phenotype A', pa.string()))
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


def test_identifiers_that_a_float_cannot_hold_are_rejected(saved):
    large = lambda table: pa.array([float(2**60 + 1024 * i) for i in range(len(table))])  # noqa: E731
    rewrite(saved, 'stays.parquet', 'stay_id', large)
    rejected(saved, 'too large to be exact')


@pytest.mark.parametrize('array', [[[1]] * 60, [dict(a=1)] * 60])
def test_a_nested_column_is_named(saved, array):
    rewrite(saved, 'stays.parquet', 'notes', pa.array(array))
    rejected(saved, 'column notes: holds (list|struct)')


def test_categories_that_are_there_twice_are_one(saved):
    "Arrow allows a text twice among the categories of a column; pandas does not."

    def twice(table):
        texts = table.column('channel').cast(pa.string()).combine_chunks().dictionary_encode()
        categories = pa.concat_arrays([texts.dictionary] * 2)
        shifted = [i + len(texts.dictionary) * (k % 2) for k, i in enumerate(texts.indices.to_pylist())]
        return pa.DictionaryArray.from_arrays(pa.array(shifted, pa.int32()), categories)

    rewrite(saved, 'events.parquet', 'channel', twice)
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


def test_parts_are_in_the_order_of_their_numbers(saved):
    "Dask writes part.10 after part.2, which sorts before it as a text."
    table = pq.read_table(saved / 'events.parquet')
    (saved / 'events.parquet').unlink()
    (saved / 'events.parquet').mkdir()
    size = len(table) // 11
    for i in range(12):
        pq.write_table(table.slice(i * size, size), saved / 'events.parquet' / f'part.{i}.parquet')
    assert Cohort.load(saved).fingerprint == toy_cohort(60).fingerprint


@pytest.mark.parametrize(('folder', 'says'), [('_delta_log', 'Delta table'), ('partition=train', 'without partitions')])
def test_a_folder_of_another_form_is_named(saved, folder, says):
    write_parts(saved, 'stays.parquet')
    (saved / 'stays.parquet' / folder).mkdir()
    rejected(saved, says)


def test_a_task_may_not_hide_a_column_of_the_run():
    toy = toy_cohort(60)
    stays = toy.stays.rename(columns={'Mortality': 'n_bins'})
    with pytest.raises(BadInput, match='called n_bins'):
        Cohort(toy.events, stays, toy.channels, [*toy.tasks[:-1], Task('n_bins', 'mortality')]).validate()


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-32'])
def test_another_encoding_is_named(saved, encoding):
    file = saved / 'cohort.json'
    file.write_bytes(file.read_text().encode(encoding))
    rejected(saved, 'save it as UTF-8')


# ---- what is written can be read


@pytest.mark.parametrize(
    ('meta', 'says'),
    [
        (dict(mean=float('nan')), 'cannot be written as JSON'),
        (dict(codes={1, 2}), 'cannot be written as JSON'),
        (dict(ward='\ud800'), 'cannot be written as JSON'),
        (dict(synthetic='no'), 'synthetic: input should be a valid boolean'),
        (dict(channels=[]), "the key 'channels', which the cohort itself fills"),
        (dict(held_out_prevalence=[0.1, 3]), 'held_out_prevalence.1'),
    ],
)
def test_metadata_that_could_not_be_read_are_not_written(tmp_path, meta, says):
    toy = toy_cohort(60)
    toy.meta |= meta
    with pytest.raises(BadInput, match=says):
        toy.save(tmp_path / 'c')
    assert not list(tmp_path.iterdir())


def test_a_number_may_be_a_version(tmp_path):
    toy = toy_cohort(60)
    toy.meta |= dict(version=2.1)
    assert Cohort.load(toy.save(tmp_path / 'c')).meta['version'] == 2.1


def test_tiny_values_have_a_finite_skew():
    "Their cubes are too small for a float."
    x = np.array([1e-120, 2e-120, 6e-120])
    with np.errstate(all='ignore'):
        assert np.isfinite(segment_statistics(x, np.array([0]))).all()


@pytest.mark.parametrize('hours', [0, -1, 2.5, 10**6])
def test_hours_of_a_grid_are_bounded(hours):
    with pytest.raises(BadInput, match='hours='):
        toy_cohort(60).grid(hours)


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda c: setattr(c.channels[0], 'unit', 3), 'channels.0.unit'),
        (lambda c: setattr(c.channels[0], 'values', None), 'values and numeric are lists'),
        (lambda c: setattr(c.tasks[0], 'kind', 'sort'), 'tasks.0.kind'),
        (lambda c: c.stays.__setitem__('subject_id', c.stays['subject_id'].astype('uint64') + 2**63), 'above 2'),
        (lambda c: c.stays.__setitem__('Mortality', c.stays['Mortality'].astype(complex)), 'holds complex128'),
        (lambda c: c.stays.__setitem__('month', pd.Period('2100-01', 'M')), 'month holds no plain values'),
        (lambda c: c.stays.__setitem__('codes', [['a', 'b']] * 60), 'codes holds no plain values'),
        (lambda c: c.events.__setitem__('value', c.events['value'].astype(object)), 'column value: holds object'),
    ],
)
def test_a_cohort_in_memory_is_saved_only_if_it_can_be_loaded(tmp_path, change, says):
    toy = copy.deepcopy(toy_cohort(60))
    change(toy)
    with pytest.raises(BadInput, match=says) as e:
        toy.save(tmp_path / 'c')
    assert '\n' not in str(e.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize('backend', ['pyarrow', 'numpy_nullable'])
def test_frames_of_other_backends_are_the_same_cohort(tmp_path, backend):
    toy = toy_cohort(60)
    stays, events = (table.convert_dtypes(dtype_backend=backend) for table in (toy.stays, toy.events))
    cohort = Cohort(events, stays, toy.channels, toy.tasks, toy.meta)
    assert Cohort.load(cohort.save(tmp_path / 'c')).fingerprint == toy.fingerprint
    np.testing.assert_array_equal(cohort.grid().X, toy.grid().X)


# ---- a prepared run


@pytest.fixture
def run(tmp_path):
    run_data(toy_cohort(60), tmp_path / 'run')
    return tmp_path / 'run'


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(hours='48'), 'data.json: hours: '),
        (dict(hours=24), 'not the grid that|n_bins'),
        (dict(masks=1), 'data.json: masks: '),
        (dict(channels=['Heart rate']), 'data.json: columns: the columns are not those of the channels'),
        (dict(scale={'Heart rate': [1]}), 'data.json: scale.Heart rate'),
        (dict(columns=None), 'data.json: columns: '),
        (dict(tasks=[dict(name='a\nb')]), 'data.json: task'),
    ],
)
def test_a_wrong_description_of_prepared_data_is_named(run, change, says):
    file = run / 'data' / 'data.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadInput, match=says) as e:
        PreparedCohort.load(run)
    assert '\n' not in str(e.value)


def test_a_grid_that_was_cut_is_named(run):
    file = run / 'data' / 'grid.npy'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r'grid.npy: not a readable grid .*; run the data step again'):
        PreparedCohort.load(run)


def test_a_split_that_was_edited_is_named(run):
    file = run / 'split-0' / 'pretrain' / 'split.json'
    file.parent.mkdir(parents=True)
    file.write_text('{"split": 0, "source": "all"}')
    with pytest.raises(BadInput, match=r'split.json: source: '):
        read_split(run, 0)


# ---- checkpoints


def write_weights(path, change):
    "A checkpoint whose weights were changed, with the right hash."
    net = init_network(3, 4, 2)
    save_checkpoint(net, path)
    stored = change(safetensors.load(path.read_bytes()))
    path.write_bytes(safetensors.save(stored))
    file = path.with_suffix('.json')
    about = json.loads(file.read_text()) | dict(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    about['description_sha256'] = hash_description(about)
    file.write_text(json.dumps(about))


@pytest.mark.parametrize(
    'change',
    [
        lambda stored: {k: v.double() for k, v in stored.items()},
        lambda stored: {k: v.half() for k, v in stored.items()},
        lambda stored: {k: v.reshape(-1) for k, v in stored.items()},
        lambda stored: {k.upper(): v for k, v in stored.items()},
        lambda stored: stored | dict(more=torch.zeros(1)),
        lambda stored: {},
    ],
)
def test_weights_of_another_type_or_shape_do_not_fit(tmp_path, change):
    write_weights(tmp_path / 'net.safetensors', change)
    with pytest.raises(BadInput, match='do not fit the sizes'):
        load_checkpoint(tmp_path / 'net.safetensors')


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(reads=[]), 'reads: '),
        (dict(tasks=['a']), 'tasks: 1 names for 2 tasks'),
        (dict(columns=['a']), 'columns: 1 names for 3 columns'),
        (dict(seed=10**30), 'seed: '),
        (dict(hours=10**6), 'hours: '),
        (dict(scale={'a': [0, 1]}, channels=['a', 'b', 'c']), "scale: column 'b' has no mean"),
        (dict(scale={'a': [10**40, 1]}), 'scale.a.0'),
    ],
)
def test_a_description_that_would_mislead_is_rejected(tmp_path, change, says):
    path = tmp_path / 'net.safetensors'
    save_checkpoint(init_network(3, 4, 2), path, columns=['a', 'b', 'c'])
    file = path.with_suffix('.json')
    about = json.loads(file.read_text()) | change
    about['description_sha256'] = hash_description(about)
    file.write_text(json.dumps(about))
    with pytest.raises(BadInput, match=says) as e:
        load_checkpoint(path)
    assert '\n' not in str(e.value)
