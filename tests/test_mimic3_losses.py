"Times, codes and texts of MIMIC-III that other software has rewritten: the right value, or counted, or one line."

import numpy as np
import pandas as pd
import pytest
from mimic3_copies import rewrite

from rnn_transfer.cohorts.losses import read_losses
from rnn_transfer.sources import mimic3, synthetic_raw
from rnn_transfer.sources.icd9 import plain_code
from rnn_transfer.sources.times import parse_times
from rnn_transfer.utilities.errors import BadInput

TIMES = dict(
    PATIENTS=['DOB', 'DOD'],
    ICUSTAYS=['INTIME', 'OUTTIME'],
    ADMISSIONS=['ADMITTIME', 'DISCHTIME', 'DEATHTIME'],
    CHARTEVENTS=['CHARTTIME'],
    LABEVENTS=['CHARTTIME'],
)


@pytest.fixture(scope='module')
def hospital(tmp_path_factory):
    "Raw tables of 300 invented stays."
    folder = tmp_path_factory.mktemp('hospital') / 'raw'
    synthetic_raw.write_raw(folder, 300, 0, others=0)
    return folder


@pytest.fixture(scope='module')
def right(hospital):
    return build(hospital, hospital)


def build(tables, hospital, **options):
    return mimic3.cohort(tables, partitions=hospital / 'partitions.csv', **options)


def change_times(source, target, form, tables=TIMES):
    "The tables with their times in another form."

    def change(name, d):
        for column in tables.get(name, []):
            texts = pd.Series(d[column].unique())
            times = pd.to_datetime(texts, errors='coerce')
            new = [form(t) if pd.notna(t) else '' for t in times]
            d[column] = d[column].map(dict(zip(texts, new)))
        return name, d

    return rewrite(source, target, change, only=tables)


@pytest.mark.parametrize(
    ('text', 'time'),
    [
        ('2101-03-04 21:31:00', '2101-03-04 21:31:00'),
        ('2101-03-04 21:31', '2101-03-04 21:31:00'),
        ('2101-03-04T21:31:00', '2101-03-04 21:31:00'),
        ('2101-03-04 21:31:00.25', '2101-03-04 21:31:00.25'),
        ('2101-03-04 09:31:00 PM', '2101-03-04 21:31:00'),
        ('2101-03-04 12:05 AM', '2101-03-04 00:05:00'),
        ('2101-03-04 12:05 pm', '2101-03-04 12:05:00'),
        (' 2101/3/4 21:31 ', '2101-03-04 21:31:00'),
        ('2101-03-04 21:31:00 PM', None),
        ('2101-03-04 21:31:00 x', None),
        ('2101-03-04 24:00:00', None),
        ('2101-02-30 10:00:00', None),
        ('04/03/2101 10:00', None),
        ('2101-03-04', None),
        ('2101-03-04 21:31:00+01:00', None),
        ('2101-03-04 21:31:00Z', None),
        ('infinity', None),
        ('', None),
    ],
)
def test_times_are_matched_whole(text, time):
    found = parse_times([text])[0]
    assert found == pd.Timestamp(time) if time else pd.isna(found)


def test_offsets_are_converted_to_one_clock():
    texts = ['2101-03-04 21:31:00+01:00', '2101-03-04 20:31:00Z', '2101-03-04 15:31:00-0500']
    assert (parse_times(texts, clock=60) == pd.Timestamp('2101-03-04 21:31')).all()


def test_a_day_counts_only_where_it_may():
    assert parse_times(['2101-03-04'], dates=True)[0] == pd.Timestamp('2101-03-04')
    assert pd.isna(parse_times(['2101-03-04'])[0])


@pytest.mark.parametrize(
    'form',
    [
        lambda t: t.strftime('%Y-%m-%d %I:%M:%S %p'),
        lambda t: t.strftime('%Y-%m-%dT%H:%M:%S'),
        lambda t: t.strftime('%Y-%m-%d %H:%M:%S.000'),
        lambda t: t.strftime('%Y/%m/%d %H:%M:%S'),
        lambda t: t.strftime('%Y-%m-%d %H:%M:%S+01:00'),
        lambda t: t.strftime('%Y-%m-%d %H:%M:%SZ'),
    ],
    ids=['12 hours', 'T', 'fractions', 'slashes', 'offset', 'Z'],
)
def test_other_forms_of_time_give_the_same_cohort(hospital, right, tmp_path, form):
    assert build(change_times(hospital, tmp_path / 'raw', form), hospital).fingerprint == right.fingerprint


def test_days_before_months_are_rejected(hospital, tmp_path):
    tables = change_times(hospital, tmp_path / 'raw', lambda t: t.strftime('%d/%m/%Y %H:%M:%S'))
    with pytest.raises(BadInput, match='write the year first'):
        build(tables, hospital)


def test_two_conventions_in_one_table_are_rejected(hospital, tmp_path):
    def form(t):
        return t.strftime('%Y-%m-%d %H:%M:%S') + ('Z' if t.minute % 2 else '')

    with pytest.raises(BadInput, match='write all times|offset'):
        build(change_times(hospital, tmp_path / 'raw', form), hospital)


def change_codes(source, target, change, tables=('DIAGNOSES_ICD',)):
    def edit(name, d):
        if name in tables:
            d['ICD9_CODE'] = [change(code) for code in d['ICD9_CODE']]
        return name, d

    return rewrite(source, target, edit, only=tables)


def dotted(code):
    at = 4 if code.startswith('E') else 3
    return f'{code[:at]}.{code[at:]}' if len(code) > at else code


@pytest.mark.parametrize(
    'change', [dotted, lambda c: f' {c}  ', str.lower, lambda c: f'{c}\t'], ids=['dots', 'spaces', 'small', 'tab']
)
@pytest.mark.parametrize('tables', [('DIAGNOSES_ICD',), ('DIAGNOSES_ICD', 'D_ICD_DIAGNOSES')])
def test_codes_in_another_form_are_the_same_codes(hospital, right, tmp_path, change, tables):
    made = build(change_codes(hospital, tmp_path / 'raw', change, tables), hospital)
    pd.testing.assert_frame_equal(made.stays, right.stays)


def test_leading_zeros_that_a_spreadsheet_took_are_found_by_the_dictionary(hospital, right, tmp_path):
    tables = change_codes(hospital, tmp_path / 'raw', lambda c: c.lstrip('0') if c.isdigit() else c)
    made = build(tables, hospital)
    pd.testing.assert_frame_equal(made.stays, right.stays)


def test_codes_without_an_entry_stop_the_command(hospital, tmp_path):
    tables = change_codes(hospital, tmp_path / 'raw', lambda c: 'ZZZ9')
    with pytest.raises(BadInput, match='diagnos|ICD9_CODE'):
        build(tables, hospital)


def test_plain_codes():
    assert [plain_code(text) for text in ('038.9', ' 0389', 'v45.81', '0389')] == ['0389', '0389', 'V4581', '0389']


def change_values(source, target, change):
    def edit(name, d):
        if name == 'CHARTEVENTS':
            d['VALUE'] = [change(value) for value in d['VALUE']]
        return name, d

    return rewrite(source, target, edit, only=['CHARTEVENTS'])


def test_decimal_commas_are_read(hospital, right, tmp_path):
    import re

    tables = change_values(
        hospital, tmp_path / 'raw', lambda v: v.replace('.', ',') if re.fullmatch(r'\d+\.\d+', v) else v
    )
    made = build(tables, hospital)
    assert len(made.events) == len(right.events)
    np.testing.assert_allclose(made.events['value'], right.events['value'])


def test_scores_as_decimals_are_scores(hospital, right, tmp_path):
    tables = change_values(hospital, tmp_path / 'raw', lambda v: f'{v}.0' if v.isdigit() and len(v) <= 2 else v)
    made = build(tables, hospital)
    total = 'Glascow coma scale total'
    a, b = (c.events[c.events['channel'] == total] for c in (made, right))
    assert len(a) == len(b) and a['value'].tolist() == b['value'].tolist()


def test_an_emptied_channel_stops_the_command(hospital, tmp_path):
    tables = change_values(hospital, tmp_path / 'raw', lambda v: f'about {v}')
    with pytest.raises(BadInput, match='too much is lost.*--allow-loss'):
        build(tables, hospital)


def test_tables_given_twice_count_once(hospital, right, tmp_path):
    def twice(name, d):
        return name, pd.concat([d, d]) if name in ('CHARTEVENTS', 'LABEVENTS') else d

    made = build(rewrite(hospital, tmp_path / 'raw', twice, only=['CHARTEVENTS', 'LABEVENTS']), hospital)
    assert made.fingerprint == right.fingerprint
    assert any(loss.how == 'merged' and loss.n > 1000 for loss in read_losses(made.meta))


def test_good_tables_lose_nothing_above_a_limit(right):
    losses = read_losses(right.meta)
    assert not any(loss.is_too_large for loss in losses)


@pytest.mark.parametrize('column, other', [('HADM_ID', ''), ('HADM_ID', '987654'), ('ICUSTAY_ID', '987654')])
def test_rows_without_their_admission_or_stay_are_counted(hospital, right, tmp_path, column, other):
    "The benchmark drops them without a word; an export that lacks the column for some stays looks whole."
    stay = right.stays.iloc[0]
    subject = str(stay['subject_id'])

    def change(name, d):
        is_theirs = d['SUBJECT_ID'].astype(str).str.removesuffix('.0') == subject
        d.loc[is_theirs, column] = other
        return name, d

    tables = rewrite(hospital, tmp_path / 'raw', change, only=['CHARTEVENTS'])
    made = build(tables, hospital)
    [loss] = [loss for loss in read_losses(made.meta) if loss.reason.startswith('CHARTEVENTS.csv: within a stay')]
    rows = pd.read_csv(hospital / 'CHARTEVENTS.csv', dtype=str)
    ours = right.stays[right.stays['subject_id'] == stay['subject_id']]
    icu = pd.read_csv(hospital / 'ICUSTAYS.csv', parse_dates=['INTIME', 'OUTTIME']).set_index('ICUSTAY_ID')
    times = pd.to_datetime(rows.loc[rows['SUBJECT_ID'] == subject, 'CHARTTIME'])
    spans = icu.loc[ours['stay_id'], ['INTIME', 'OUTTIME']].itertuples(index=False)
    assert loss.n == sum(times.between(start, end).sum() for start, end in spans) > 0
    lost = set(right.events['stay_id']) - set(made.events['stay_id'])
    assert lost <= set(ours['stay_id'])


def test_an_export_without_admissions_stops_the_command(hospital, tmp_path):
    def change(name, d):
        d.loc[d.index % 3 == 0, 'HADM_ID'] = ''
        return name, d

    tables = rewrite(hospital, tmp_path / 'raw', change, only=['CHARTEVENTS'])
    with pytest.raises(BadInput, match='CHARTEVENTS.csv: within a stay by subject and time, but not by hadm_id'):
        build(tables, hospital)
