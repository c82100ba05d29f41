"What PhysioNet 2012 files lose on the way: the right value, or counted and said, or one line."

import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from test_physionet2012 import pack, put, record, some

from rnn_transfer.cohorts.losses import read_losses
from rnn_transfer.experiment.commands import describe_cohort
from rnn_transfer.sources import physionet2012 as p12
from rnn_transfer.sources.physionet2012_files import parse_minutes
from rnn_transfer.utilities.errors import BadInput


@pytest.fixture
def two(tmp_path):
    return put(put(tmp_path / 'challenge', 'a', some(100)), 'b', some(200))


def losses(cohort):
    return {loss.reason: loss.n for loss in read_losses(cohort.meta)}


@pytest.mark.parametrize(
    ('text', 'minutes'),
    [
        ('00:07', 7),
        ('0:07', 7),
        ('24:30', 1470),
        ('00:07:00', 7),
        ('00:07:59', 7),
        ('47:59:30.25', 2879),
        ('00:07 PM', None),
        ('00:07:60', None),
        ('00:60', None),
        ('7', None),
        ('0.5', None),
        ('00:07Z', None),
        ('-00:07', None),
        ('00:07:00:00', None),
        ('٠٠:٠٧', None),
        ('', None),
    ],
)
def test_times_are_matched_whole(text, minutes):
    found = parse_minutes([text])[0]
    assert found == minutes if minutes is not None else np.isnan(found)


def test_times_with_seconds_give_the_same_cohort(two):
    right = p12.cohort(two).fingerprint
    for file in two.glob('set-*/*.txt'):
        lines = file.read_text().splitlines()
        file.write_text('\n'.join([lines[0], *(f'{line[:5]}:00{line[5:]}' for line in lines[1:])]))
    assert p12.cohort(two).fingerprint == right


def test_unreadable_times_stop_the_command(two):
    put(two, 'a', some(100) | {100: record(100, '07:10 AM,HR,70')})
    with pytest.raises(BadInput, match=r'unreadable: Time is no hh:mm.*--allow-loss'):
        p12.cohort(two)
    assert losses(p12.cohort(two, allow_loss=True))['Time is no hh:mm'] == 1


def test_a_partial_download_stops_the_command(two):
    for file in sorted((two / 'set-a').glob('*.txt'))[2:]:
        file.unlink()
    with pytest.raises(BadInput, match='records .* dropped: the outcomes file names a record that is not there'):
        p12.cohort(two)
    shown = describe_cohort(p12.cohort(two, allow_loss=True)).splitlines()[-1]
    assert '4 of 12 records (33.3%) dropped: the outcomes file names a record that is not there' in shown


def test_the_outcomes_of_another_set_are_rejected(two):
    shutil.copy(two / 'Outcomes-b.txt', two / 'Outcomes-a.txt')
    with pytest.raises(BadInput, match='names no record of set-a'):
        p12.cohort(two, allow_loss=True)


def test_an_absent_outcome_is_unknown_in_every_task_that_needs_it(two):
    put(two, 'a', some(100), [f'{i},6,1,20,-1,{i % 2}' for i in list(some(100))[1:]])
    stays = p12.cohort(two, allow_loss=True).stays.set_index('stay_id')
    for task in ('In-hospital mortality', 'Long hospital stay'):
        if task in stays:
            assert np.isnan(stays.loc[100, task]) and stays.loc[101, task] in (0, 1)


def twice(file):
    text = file.read_text().rstrip('\n')
    file.write_text(text + '\n' + text.split('\n', 1)[1] + '\n')


def each_row_twice(file):
    head, *rows = file.read_text().splitlines()
    file.write_text('\n'.join([head, *(row for row in rows for _ in range(2))]) + '\n')


@pytest.mark.parametrize('double', [twice, each_row_twice])
def test_rows_given_twice_count_once(two, double):
    urine = record(100, '00:10,HR,70', '01:00,Urine,100', '02:00,Urine,150')
    put(two, 'a', some(100) | {100: urine})
    right = p12.cohort(two)
    double(two / 'set-a' / '100.txt')
    made = p12.cohort(two)
    assert made.fingerprint == right.fingerprint
    n_rows = len(urine.splitlines()) - 1
    assert losses(made)['a row that repeats an earlier one of its record'] == n_rows


def test_the_same_value_at_another_minute_is_no_repetition(two):
    put(two, 'a', some(100) | {100: record(100, '00:10,HR,70', '00:11,HR,70')})
    made = p12.cohort(two)
    assert (made.events['stay_id'] == 100).sum() == 2 and not losses(made).get(
        'a row that repeats an earlier one of its record'
    )


def test_an_emptied_channel_stops_the_command(two):
    put(two, 'a', {i: record(i, '00:10,HR,70', '00:10,Temp,3700') for i in range(100, 106)})
    with pytest.raises(BadInput, match='Temperature: outside its range.*look at its unit'):
        p12.cohort(two)


def test_dangling_links_are_named(two):
    (two / 'set-a' / '100.txt').unlink()
    (two / 'set-a' / '100.txt').symlink_to(two / 'nowhere.txt')
    with pytest.raises(BadInput, match=r'100.txt: a link to a file that is not there'):
        p12.cohort(two)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes here')
@pytest.mark.parametrize('name', ['set-a/100.txt', 'Outcomes-a.txt'])
def test_a_pipe_does_not_hang(two, name):
    (two / name).unlink()
    os.mkfifo(two / name)
    with pytest.raises(BadInput, match='plain file'):
        p12.cohort(two)


def test_members_of_a_zip_may_have_backslashes(two):
    right = p12.cohort(two).fingerprint
    with zipfile.ZipFile(two / 'set-a.zip', 'w') as archive:
        for file in sorted((two / 'set-a').glob('*.txt')):
            archive.writestr(f'set-a\\{file.name}', file.read_bytes())
    shutil.rmtree(two / 'set-a')
    assert p12.cohort(two).fingerprint == right


def test_a_link_in_an_archive_is_no_record(two):
    pack(two, '.tar.gz')
    shutil.rmtree(two / 'set-a', ignore_errors=True)
    import tarfile

    (two / 'set-a.tar.gz').unlink()
    with tarfile.open(two / 'set-a.tar.gz', 'w:gz') as archive:
        member = tarfile.TarInfo('set-a/100.txt')
        member.type, member.linkname = tarfile.SYMTYPE, '/etc/passwd'
        archive.addfile(member)
    with pytest.raises(BadInput, match='is a link or no plain file'):
        p12.cohort(two)


@pytest.mark.parametrize('blank', ['\n', '   \n', '\t\n'])
def test_blank_rows_are_passed_over(two, blank):
    right = p12.cohort(two).fingerprint
    file = two / 'set-a' / '100.txt'
    file.write_text(file.read_text().replace('\n', '\n' + blank))
    assert p12.cohort(two).fingerprint == right


def test_long_record_numbers_are_rejected(two):
    (two / 'set-a' / '9999999999999999999.txt').write_text(record(1, '00:10,HR,70'))
    with pytest.raises(BadInput, match='at most 12 digits'):
        p12.cohort(two)


def test_outcomes_with_more_fields_than_names_are_rejected(two):
    file = two / 'Outcomes-a.txt'
    head, *rows = file.read_text().splitlines()
    file.write_text('\n'.join([head, *(f'0,{row}' for row in rows)]))
    with pytest.raises(BadInput, match='Outcomes-a.txt'):
        p12.cohort(two)


def test_losses_add_up(two):
    "Rows read are events used, rows left out by reason, values cleaned and merged, and rows of other parameters."
    made = p12.cohort(two)
    stored = pd.DataFrame(made.meta['losses'])
    assert stored.empty or ((stored['n'] > 0) & (stored['n'] <= stored['of'])).all()
