"Descriptions of any origin: cohort.json, checkpoints, tables; and the short form of the fuzzer."

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz import KINDS, fuzz

from rnn_transfer.cohorts.channels import Channel, Task
from rnn_transfer.cohorts.validation import MAX_VALUE
from rnn_transfer.data import Cohort, run_data
from rnn_transfer.testing import toy_cohort
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
        ('name', 'Na->K ratio', "contains '->'"),
        ('name', 'a|b', "contains '|'"),
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
