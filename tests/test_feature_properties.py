"The same features for the same information, whatever its order, and however the stays are divided."

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.cohorts.channels import Channel
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.cohorts.summary import stay_notices
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.extraction import (
    extract_cohort_features,
    iter_cohort_features,
    write_cohort_features,
)
from rnn_transfer.estimators.features import MIMICNetFeatures
from rnn_transfer.model import extract_features, init_network, load_checkpoint, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.errors import BadInput

TOY = toy_cohort(40)
NAMES = [c.name for c in TOY.channels]
seeds = st.integers(0, 2**31)
few = settings(max_examples=25, deadline=None)


def checkpoint_of(folder, short='carry'):
    grid = TOY.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in TOY.channels], hours=48, masks=True, short=short)
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale)
    return save_checkpoint(init_network(len(grid.columns), 6, 2), folder / f'{short}.safetensors', **meta)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return checkpoint_of(tmp_path_factory.mktemp('net'))


@pytest.fixture(scope='module')
def by_length(tmp_path_factory):
    return checkpoint_of(tmp_path_factory.mktemp('net'), 'length')


def with_events(events, channels=TOY.channels, stays=TOY.stays):
    return Cohort(events.assign(channel=events['channel'].astype(object)), stays, channels, TOY.tasks)


def features_of(cohort, checkpoint):
    found = extract_cohort_features(cohort, checkpoint, align=True)
    return found.loc[TOY.stays['stay_id']].to_numpy()


@few
@given(kept=st.sets(st.sampled_from(NAMES), min_size=1), seed=seeds)
def test_any_subset_of_channels_reads_as_the_others_never_measured(checkpoint, kept, seed):
    order = np.random.default_rng(seed).permutation(len(TOY.channels))
    channels = [TOY.channels[i] for i in order if TOY.channels[i].name in kept]
    events = TOY.events[TOY.events['channel'].isin(kept)]
    silent = Cohort(events, TOY.stays, TOY.channels, TOY.tasks)
    found = features_of(with_events(events, channels), checkpoint)
    np.testing.assert_allclose(found, features_of(silent, checkpoint), atol=1e-5)


@few
@given(seed=seeds)
def test_order_of_stays_rows_and_columns_does_not_matter(checkpoint, seed):
    generator = np.random.default_rng(seed)
    stays = TOY.stays.iloc[generator.permutation(len(TOY.stays))].reset_index(drop=True)
    events = TOY.events.iloc[generator.permutation(len(TOY.events))]
    events = events.sort_values(['stay_id', 'hour', 'channel', 'value'], kind='stable')
    events = events[list(generator.permutation(events.columns))].reset_index(drop=True)
    channels = [TOY.channels[i] for i in generator.permutation(len(TOY.channels))]
    straight = TOY.events.sort_values(['stay_id', 'hour', 'channel', 'value'], kind='stable')
    found = features_of(with_events(events, channels, stays), checkpoint)
    np.testing.assert_allclose(found, features_of(with_events(straight), checkpoint), atol=1e-5)


@few
@given(seed=seeds)
def test_stays_in_any_order_in_the_events_have_their_own_features(checkpoint, seed):
    "Only the events of one stay have to follow each other by hour."
    order = np.random.default_rng(seed).permutation(TOY.stays['stay_id'])
    events = pd.concat([TOY.events[TOY.events['stay_id'] == stay] for stay in order], ignore_index=True)
    np.testing.assert_allclose(features_of(with_events(events), checkpoint), features_of(TOY, checkpoint), atol=1e-5)


@few
@given(seed=seeds, n=st.integers(1, 200))
def test_an_event_that_is_repeated_or_overwritten_within_its_hour_says_nothing_new(checkpoint, seed, n):
    rows = np.random.default_rng(seed).integers(0, len(TOY.events), n)
    again = TOY.events.iloc[rows].copy()
    low = np.ceil(again['hour'] - 1e-6) - 1 + 1e-4
    again['hour'] = np.where(again['hour'] > low, np.maximum(low, 0), again['hour'])  # at the start of its bin
    is_first = ~again.duplicated(['stay_id', 'channel', 'hour'])
    events = pd.concat([TOY.events, TOY.events.iloc[rows], again[is_first]]).sort_values(
        ['stay_id', 'hour'], kind='stable', ignore_index=True
    )
    np.testing.assert_allclose(features_of(with_events(events), checkpoint), features_of(TOY, checkpoint), atol=1e-5)


@few
@given(hours=st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=8))
def test_stays_shorter_than_an_hour_have_one_bin(by_length, hours):
    stays = TOY.stays.head(len(hours)).assign(los_hours=hours)
    events = TOY.events[TOY.events['stay_id'].isin(stays['stay_id'])]
    cohort = with_events(events[events['hour'] <= 1], stays=stays)
    found = extract_cohort_features(cohort, by_length).to_numpy()
    net, grid = load_checkpoint(by_length), cohort.grid()
    X = Normalizer(net.meta['scale']).transform(grid.X, grid.columns)
    np.testing.assert_allclose(found, extract_features(net, X[:, :1].copy()), atol=1e-5)


@few
@given(chunk=st.integers(1, 60), batch=st.integers(1, 60), workers=st.integers(1, 3))
def test_chunk_batch_and_workers_do_not_matter(checkpoint, chunk, batch, workers):
    net = load_checkpoint(checkpoint)
    parts = iter_cohort_features(TOY, net, chunk=chunk, batch=batch, workers=workers)
    found = np.concatenate([part.states for part in parts])
    np.testing.assert_allclose(found, features_of(TOY, checkpoint), atol=1e-6)


def test_reading_stops_early_without_a_trace(checkpoint):
    before = torch.get_num_threads()
    parts = iter_cohort_features(TOY, load_checkpoint(checkpoint), chunk=4, workers=2)
    next(parts)
    parts.close()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize('suffix', ['.parquet', '.csv'])
def test_a_file_holds_what_the_frame_holds(checkpoint, tmp_path, suffix):
    written = write_cohort_features(TOY, checkpoint, tmp_path / f'z{suffix}')
    stored = pd.read_parquet(tmp_path / 'z.parquet') if suffix == '.parquet' else pd.read_csv(tmp_path / 'z.csv')
    frame = extract_cohort_features(TOY, checkpoint)
    np.testing.assert_allclose(stored.set_index('stay_id'), frame, rtol=1e-6)
    assert written.n_stays == 40 and str(written) == '40 stays × 12 features'
    np.testing.assert_array_equal(MIMICNetFeatures(checkpoint).fit_transform(TOY), frame)


def renamed(position, **changes):
    channels = list(TOY.channels)
    channels[position] = Channel(**vars(channels[position]) | changes)
    return channels


def test_nothing_is_written_where_a_unit_does_not_fit(checkpoint, tmp_path):
    fahrenheit = with_events(TOY.events, renamed(1, unit='°F'))
    with pytest.raises(BadInput, match='Temperature: unit °F, the network reads °C') as e:
        write_cohort_features(fahrenheit, checkpoint, tmp_path / 'z.parquet')
    unknown = with_events(TOY.events, renamed(1, unit='furlong'))
    with pytest.raises(BadInput, match='Temperature'):
        write_cohort_features(unknown, checkpoint, tmp_path / 'z.parquet', align=True)
    assert '\n' not in str(e.value) and not list(tmp_path.iterdir())


def test_a_unit_is_converted_where_it_may_be(checkpoint, tmp_path):
    is_temperature = (TOY.events['channel'] == 'Temperature').to_numpy()
    value = np.where(is_temperature, TOY.events['value'] * 1.8 + 32, TOY.events['value'])
    fahrenheit = with_events(TOY.events.assign(value=value), renamed(1, unit='°F'))
    np.testing.assert_allclose(features_of(fahrenheit, checkpoint), features_of(TOY, checkpoint), atol=1e-5)
    written = write_cohort_features(fahrenheit, checkpoint, tmp_path / 'z.parquet', align=True)
    assert '1 of 4 channels converted: Temperature (°F to °C)' in str(written)


def test_stays_without_an_event_are_counted(checkpoint, tmp_path):
    first = TOY.stays['stay_id'].iloc[0]
    silent = with_events(TOY.events[TOY.events['stay_id'] != first])
    written = write_cohort_features(silent, checkpoint, tmp_path / 'z.parquet')
    assert '1 of 40 stays have no event' in str(written)
    assert any('1 of 40 stays have no event' in line for line in stay_notices(silent.stays, silent.events, []))
