"Cohort, grid, statistics, subsets: golden values of the reference, independent computations, faults, properties."

import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.cohorts.channels import BENCHMARK_CHANNELS, Channel, Task
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.cohorts.partitions import partition_subjects
from rnn_transfer.cohorts.statistics import FUNCTIONS, segment_sums
from rnn_transfer.data import Cohort, PreparedCohort, labelled_subset, run_data
from rnn_transfer.testing import toy_cohort, toy_icu
from rnn_transfer.utilities.errors import BadInput

# ---- golden values of mimic3-benchmarks on the MIMIC-III demo


def golden_cohort(shared):
    "The benchmark's own episode files as events: text to number or to category index, nothing else."
    d = np.load(shared / 'golden' / 'phenotyping_disc.npz', allow_pickle=False)
    wanted = list(d['stay'])
    index = {c.name: {v: i for i, v in enumerate(c.values)} for c in BENCHMARK_CHANNELS}
    frames = []
    with tarfile.open(shared / 'golden' / 'episodes.tar.gz') as tar:
        for m in tar.getmembers():
            name = '_'.join(Path(m.name).parts[-2:])
            if name not in wanted:
                continue
            rows = pd.read_csv(io.BytesIO(tar.extractfile(m).read()), dtype=str, keep_default_na=False)
            t = rows['Hours'].astype(float)
            rows = rows[(t > -1e-6) & (t < d['los_hours'][wanted.index(name)] + 1e-6)]
            for c, values in index.items():
                got = rows[rows[c] != '']
                v = [values[t] for t in got[c]] if values else got[c].astype(float)
                frames.append(
                    pd.DataFrame(
                        dict(
                            stay_id=wanted.index(name),
                            hour=got['Hours'].astype(float).to_numpy(),
                            order=got.index,
                            channel=c,
                            value=np.asarray(v, float),
                        )
                    )
                )
    events = pd.concat(frames)
    events = events[(events['hour'] <= 48 + 1e-6)].assign(hour=lambda e: e['hour'].clip(lower=0))
    events = events.sort_values(['stay_id', 'order'], kind='stable', ignore_index=True).drop(columns='order')
    stays = pd.DataFrame(
        dict(stay_id=range(len(wanted)), subject_id=d['subject_id'], los_hours=d['los_hours'], partition=d['split'])
    )
    return Cohort(events, stays, BENCHMARK_CHANNELS, []), d


def test_grid_equals_the_reference(shared):
    cohort, gold = golden_cohort(shared)
    g = cohort.validate().grid()
    assert g.columns == list(gold['header'])
    np.testing.assert_array_equal(g.X, gold['X'].astype(np.float32))
    np.testing.assert_array_equal(cohort.grid(short_stays='length').lengths, gold['n_bins_end_los'])


def test_statistics_equal_the_reference(shared):
    cohort, _ = golden_cohort(shared)
    gold = np.load(shared / 'golden' / 'phenotyping_lr.npz', allow_pickle=False)
    s = cohort.statistics()
    assert list(s.columns) == list(gold['feature_names'])
    np.testing.assert_array_equal(s.to_numpy(), gold['X'])


def test_shipped_normalizer(shared):
    cohort, gold = golden_cohort(shared)
    g = cohort.grid()
    np.testing.assert_allclose(
        Normalizer.benchmark('phenotyping').transform(g.X, g.columns), gold['X_norm'], rtol=2e-6, atol=1e-6
    )


def test_resources_carry_the_facts(shared):
    facts = json.loads((shared / 'facts' / 'channels.json').read_text())['channels']
    assert [(c.name, c.values, c.width) for c in BENCHMARK_CHANNELS] == [
        (f['name'], f.get('values', []), f['n_columns']) for f in facts
    ]
    assert all(
        c.numeric == [f['lr_value_map'][v] for v in c.values] for c, f in zip(BENCHMARK_CHANNELS, facts) if c.values
    )


# ---- independent computations on random cohorts


@st.composite
def cohorts(draw):
    n, m = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    r = np.random.default_rng(draw(st.integers(0, 10**6)))
    channels = [
        Channel('a', 'continuous', normal=1.5),
        Channel('b', 'categorical', normal='y', values=['x', 'y', 'z'], numeric=[3, 5, 9]),
    ]
    code = r.integers(0, 2, m)
    hour = r.choice([0, 1, 2, 3.5, 4, 4 + 1e-6, 5, 47.2, 48, 48 + 5e-7, 60, 1e-7], m) + r.choice([0, 0, 0.25], m)
    events = pd.DataFrame(
        dict(
            stay_id=r.integers(0, n, m) * 7,
            hour=hour,
            channel=np.array(['a', 'b'])[code],
            value=np.where(code, r.integers(0, 3, m), r.normal(100, 9, m).round(r.integers(0, 4))),
        )
    )
    order = r.permutation(n)
    los = r.uniform(0, 90, n)
    stays = pd.DataFrame(dict(stay_id=order * 7, subject_id=order, los_hours=los, partition='train'))
    return Cohort(events.sort_values(['stay_id', 'hour'], kind='stable', ignore_index=True), stays, channels, [])


@settings(max_examples=60, deadline=None)
@given(cohorts())
def test_grid_against_a_loop(cohort):
    g = cohort.grid(block=2)
    for row, stay in enumerate(cohort.stays['stay_id']):
        e = cohort.events[(cohort.events['stay_id'] == stay) & (cohort.events['hour'] <= 48 + 1e-6)]
        X = np.zeros((48, 6))
        last = {'a': 1.5, 'b': 1}
        for b in range(48):
            inside = e[np.minimum((e['hour'] - 1e-6).astype(int), 47) == b]
            for k, c in enumerate('ab'):
                v = inside['value'][inside['channel'] == c]
                if len(v):
                    last[c] = v.iloc[-1]
                    X[b, 4 + k] = 1
            X[b, 0] = last['a']
            X[b, 1 + int(last['b'])] = 1
        np.testing.assert_array_equal(g.X[row], X.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(cohorts())
def test_statistics_against_a_loop(cohort):
    S = cohort.statistics()
    for stay in cohort.stays['stay_id']:
        e = cohort.events[(cohort.events['stay_id'] == stay) & (cohort.events['hour'] <= 48 + 1e-6)]
        for c, number in (('a', lambda v: v), ('b', lambda v: {0: 3.0, 1: 5.0, 2: 9.0}[v])):
            rows = e[e['channel'] == c]
            if not len(rows):
                assert S.loc[stay].filter(like=f'{c}|').isna().all()
                continue
            t, x = rows['hour'].to_numpy(), np.array([number(v) for v in rows['value']])
            for p, (lo, hi) in {'all100%': (0, 1), 'first25%': (0, 0.25), 'last10%': (0.9, 1)}.items():
                L, R = t[0], t[-1]
                lo, hi = (L, L + (R - L) * hi) if lo == 0 else (R - (R - L) * 0.1, R)
                y = x[(t > lo - 1e-6) & (t < hi + 1e-6)]
                m2 = ((y - y.mean()) ** 2).mean()
                expect = [
                    y.min(),
                    y.max(),
                    y.mean(),
                    y.std(),
                    0 if m2 <= (1e-15 * y.mean()) ** 2 else ((y - y.mean()) ** 3).mean() / m2**1.5,
                    len(y),
                ]
                np.testing.assert_allclose(
                    S.loc[stay, [f'{c}|{p}|{f}' for f in FUNCTIONS]].to_numpy(float), expect, rtol=1e-5, atol=1e-5
                )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), min_size=1, max_size=5))
def test_segment_sums_are_numpys_to_the_last_bit(segments):
    starts = np.cumsum([0] + [len(s) for s in segments[:-1]])
    assert segment_sums(starts, np.concatenate(segments))[0].tolist() == [np.sum(s) for s in segments]


# ---- subsets and partitions


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=1, max_size=300),
    st.floats(0.001, 1),
    st.floats(0.001, 1),
    st.integers(0, 5),
)
def test_subsets_are_nested_and_stratified(y, f, g, seed):
    y, f, g = np.array(y), min(f, g), max(f, g)
    small, large = (set(labelled_subset(y, x, 'task', seed).tolist()) for x in (f, g))
    assert small <= large and not np.isnan(y[list(large)]).any()
    for label in (0, 1):
        assert abs(sum(y[list(small)] == label) - f * sum(y == label)) <= 0.5 + 1e-9


def test_a_whole_fraction_is_every_label():
    assert labelled_subset([0, 1, np.nan, 1], 1.0, 'x').tolist() == [0, 1, 3]


@pytest.mark.parametrize('f', [0, -1, 1.2])
def test_fraction_out_of_range(f):
    with pytest.raises(BadInput, match='fraction'):
        labelled_subset([0, 1], f)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=100), st.integers(0, 9))
def test_a_subject_is_in_one_partition(subjects, seed):
    part = pd.Series(partition_subjects(subjects, seed))
    assert (part.groupby(subjects).nunique() == 1).all()


# ---- on disk, and what a user can get wrong


def test_round_trip(tmp_path):
    toy = toy_cohort()
    toy.save(tmp_path / 'c')
    again = Cohort.load(tmp_path / 'c')
    assert again.fingerprint == toy.fingerprint and again.meta == toy.meta
    pd.testing.assert_frame_equal(again.stays, toy.stays, check_dtype=False)
    assert pq.read_schema(tmp_path / 'c' / 'stays.parquet').field('Mortality').type == 'int8'
    toy.save(tmp_path / 'c')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['c']


def broken(**changes):
    toy = toy_cohort(60)
    for attribute, change in changes.items():
        setattr(toy, attribute, change(getattr(toy, attribute).copy()))
    return toy


def put(column, row, value):
    def change(df):
        df[column] = df[column].astype(object) if isinstance(value, str) and column != 'channel' else df[column]
        df.loc[row, column] = value
        return df

    return change


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(stays=put('stay_id', 3, 1000)), 'stays.parquet: column stay_id: row 3 repeat'),
        (dict(stays=put('partition', 2, 'dev')), 'column partition: row 2 are not train'),
        (dict(stays=put('los_hours', 5, -1)), 'column los_hours: row 5'),
        (dict(stays=put('Mortality', 4, 2.0)), 'column Mortality: row 4 are not 0, 1 or null'),
        (dict(stays=lambda s: s.assign(Mortality=0.0)), 'every label is 0; a task needs both classes'),
        (dict(stays=lambda s: s.drop(columns='subject_id')), 'column subject_id is missing'),
        (dict(stays=lambda s: s[:0]), 'no stays'),
        (dict(events=put('hour', 0, -2.0)), 'column hour: row 0'),
        (dict(events=put('value', 7, np.nan)), 'column value: row 7'),
        (dict(events=put('stay_id', 0, 1)), 'column stay_id: row 0 belong to no stay'),
        (dict(events=lambda e: e[::-1].reset_index(drop=True)), 'out of order'),
        (
            dict(events=lambda e: e.assign(value=e['value'].mask(e['channel'] == 'Eye opening', 0.5))),
            'no index into the values',
        ),
        (dict(tasks=lambda t: t + [Task('Mortality')]), 'names two channels or tasks'),
        (dict(tasks=lambda t: t + [Task('los_hours')]), 'name of another column'),
        (dict(stays=put('los_hours', 5, np.inf)), 'column los_hours: row 5'),
        (dict(events=put('hour', 0, np.inf)), 'column hour: row 0'),
        (dict(stays=lambda s: s.assign(subject_id=s['subject_id'].astype(str))), 'column subject_id is str'),
        (dict(stays=lambda s: s.assign(stay_id=s['stay_id'] + 0.5)), 'column stay_id is float64'),
        (
            dict(stays=lambda s: s.assign(Mortality=s['Mortality'].astype(object).where(s.index != 3, 'unknown'))),
            'column Mortality: row 3 are not 0, 1 or null',
        ),
        (dict(channels=lambda c: [Channel('Heart rate', 'continuous')] + c[1:]), 'channel Heart rate: normal is None'),
        (
            dict(
                channels=lambda c: (
                    c[:3]
                    + [Channel('Eye opening', 'categorical', '', 'shut', ['closed', 'to voice', 'open'], [0, 1, 2])]
                )
            ),
            'channel Eye opening: needs values, a normal among them',
        ),
    ],
)
def test_bad_cohorts_say_where_and_save_nothing(tmp_path, change, message):
    with pytest.raises(BadInput, match=re.escape(message)) as e:
        broken(**change).save(tmp_path / 'c')
    assert '\n' not in str(e.value) and not list(tmp_path.iterdir())


def test_events_without_a_column():
    toy = toy_cohort(20)
    with pytest.raises(BadInput, match='column hour is missing'):
        Cohort(toy.events.drop(columns='hour'), toy.stays, toy.channels, toy.tasks)


def test_nothing_else_of_a_stays_table_reaches_a_run(tmp_path):
    toy = toy_cohort(60)
    toy.stays['surname'] = 'Doe'
    run_data(toy, tmp_path)
    assert 'surname' not in pd.read_parquet(tmp_path / 'data' / 'stays.parquet')


def test_a_shipped_normalizer_must_know_every_channel(tmp_path):
    with pytest.raises(BadInput, match="does not know column 'Heart rate'"):
        run_data(toy_cohort(60), tmp_path, normalizer='phenotyping')


def test_unknown_channel():
    toy = toy_cohort(20)
    with pytest.raises(BadInput, match="row 0 name 'Lactate'"):
        Cohort(
            toy.events.assign(channel=toy.events['channel'].astype(object).where(toy.events.index > 0, 'Lactate')),
            toy.stays,
            toy.channels,
            toy.tasks,
        )


def test_bad_files(tmp_path):
    with pytest.raises(BadInput, match='cohort.json: no such file'):
        Cohort.load(tmp_path / 'none')
    d = toy_cohort(60).save(tmp_path / 'c')
    whole = (d / 'events.parquet').read_bytes()
    (d / 'events.parquet').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match='events.parquet: not a readable Parquet file'):
        Cohort.load(d)
    (d / 'events.parquet').write_bytes(whole)
    stays = pd.read_parquet(d / 'stays.parquet')
    stays.assign(los_hours=stays['los_hours'] + 1).to_parquet(d / 'stays.parquet')
    with pytest.raises(BadInput, match='fingerprint'):
        Cohort.load(d)
    stays.assign(los_hours='long').to_parquet(d / 'stays.parquet')
    with pytest.raises(BadInput, match='column los_hours: expected double, found'):
        Cohort.load(d)
    stays.drop(columns='Mortality').to_parquet(d / 'stays.parquet')
    with pytest.raises(BadInput, match='column Mortality is missing'):
        Cohort.load(d)
    (d / 'cohort.json').write_text('{"channels": 3')
    with pytest.raises(BadInput, match='not the description of a cohort'):
        Cohort.load(d)


def test_never_replaces_another_folder(tmp_path):
    (tmp_path / 'c').mkdir()
    (tmp_path / 'c' / 'thesis.tex').write_text('mine')
    with pytest.raises(BadInput, match='holds no cohort'):
        toy_cohort(20).save(tmp_path / 'c')
    assert (tmp_path / 'c' / 'thesis.tex').read_text() == 'mine'


def test_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*a, **k):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(pq, 'write_table', full)
    with pytest.raises(OSError):
        toy_cohort(20).save(tmp_path / 'c')
    assert not list(tmp_path.iterdir())


def test_own_two_files_and_a_hand_written_json_are_enough(tmp_path):
    d = toy_cohort(60).save(tmp_path / 'c')
    about = json.loads((d / 'cohort.json').read_text())
    (d / 'cohort.json').write_text(json.dumps({k: about[k] for k in ('channels', 'tasks')}))
    assert Cohort.load(d).meta['source'] == 'own data'


# ---- the data step


def test_run_data(tmp_path):
    toy = toy_cohort()
    run_data(toy, tmp_path)
    p = PreparedCohort.load(tmp_path)
    train = p.rows('train')
    assert p.X.shape == (240, 48, 10) and isinstance(p.X, np.memmap) and p.statistics.shape == (240, 168)
    np.testing.assert_allclose(p.X[train][..., :3].mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(p.X[train][..., :3].std((0, 1)), 1, atol=1e-4)
    assert (p.statistics.index == p.stays['stay_id']).all() and p.meta['fingerprint'] == toy.fingerprint


def test_normalizer_sees_the_train_partition_only(tmp_path):
    a = toy_cohort()
    b = toy_cohort()
    out = ~b.events['stay_id'].isin(b.stays['stay_id'][b.stays['partition'] == 'train'])
    b.events.loc[out & (b.events['channel'] == 'Glucose'), 'value'] = 1e4
    run_data(a, tmp_path / 'a')
    run_data(b, tmp_path / 'b')
    assert PreparedCohort.load(tmp_path / 'a').meta['scale'] == PreparedCohort.load(tmp_path / 'b').meta['scale']


@pytest.mark.parametrize('bad', [dict(normalizer='mine'), dict(short_stays='pad')])
def test_data_step_rejects(tmp_path, bad):
    with pytest.raises(BadInput, match=next(iter(bad))):
        run_data(toy_cohort(30), tmp_path, **bad)
    assert not list(tmp_path.iterdir())


def test_masks_can_be_left_out(tmp_path):
    assert run_data(toy_cohort(60), tmp_path, masks=False).X.shape[2] == 6


def test_settings_keep_their_names_in_files(tmp_path):
    run_data(toy_cohort(60), tmp_path, short_stays='length')
    stored = json.loads((tmp_path / 'data' / 'data.json').read_text())
    assert stored['short'] == 'length' and stored['normaliser'] == 'train'


# ---- what others rely on


def test_short_is_still_understood_and_warns():
    icu = toy_icu()
    with pytest.warns(DeprecationWarning, match='short_stays='):
        old = icu.grid(hours=4, short='length')
    new = icu.grid(4, True, 'length')
    np.testing.assert_array_equal(old.lengths, new.lengths)
    np.testing.assert_array_equal(old.X, new.X)
    with pytest.warns(DeprecationWarning), pytest.raises(BadInput, match='short_stays'):
        icu.grid(short='pad')


def test_channels_and_tasks_come_with_the_cohort():
    from rnn_transfer import data

    assert data.Channel is Channel and data.Task is Task


def test_a_cohort_without_tasks_shows_itself():
    toy = toy_icu()
    assert '0 tasks' in Cohort(toy.events, toy.stays, toy.channels, [])._repr_markdown_()


LIGHT = {
    'rnn_transfer.data': {'torch', 'matplotlib', 'sklearn', 'scipy', 'nbdev', 'pydantic'},
    'rnn_transfer.utilities.errors': {'numpy', 'pandas', 'pyarrow', 'torch'},
    'rnn_transfer.utilities.files': {'numpy', 'pandas', 'pyarrow', 'torch'},
    'rnn_transfer.utilities.display': {'numpy', 'pandas', 'matplotlib'},
    'rnn_transfer.utilities.seeds': {'pandas', 'torch'},
}


@pytest.mark.parametrize('module', LIGHT)
def test_imports_are_cheap(module):
    loaded = subprocess.run(
        [sys.executable, '-c', f'import sys, {module}; print(*sys.modules)'], capture_output=True, text=True, check=True
    )
    assert not LIGHT[module] & set(loaded.stdout.split())


def test_a_bar_in_a_name_of_a_channel_stays_part_of_it(tmp_path):
    toy = toy_cohort()
    new_names = {c.name: f'{c.name}|a|b' for c in toy.channels}
    channels = [Channel(**(vars(c) | dict(name=new_names[c.name]))) for c in toy.channels]
    events = toy.events.assign(channel=toy.events['channel'].astype(object).map(new_names))
    Cohort(events, toy.stays, channels, toy.tasks, toy.meta).save(tmp_path / 'cohort')
    columns = Cohort.load(tmp_path / 'cohort').statistics().columns
    assert {column.rsplit('|', 2)[0] for column in columns} == set(new_names.values())
    assert [column.replace('|a|b', '') for column in columns] == list(toy.statistics().columns)
