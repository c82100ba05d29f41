"""Mutations of a small MEDS dataset, for `python tests/fuzz.py meds 500`."""

import random
import shutil
from pathlib import Path

import pandas as pd
from fuzz import mutate_bytes, rewrite_text

from rnn_transfer.sources.meds_conversion import write_meds_shard

HEART_RATE = 'LAB//220045//bpm'


def stay_rows(subject: int) -> list[tuple]:
    "A stay of three days with a heart rate each hour and a score of the coma scale."
    marks = [('2040-01-01', 'MEDS_BIRTH'), ('2100-01-01 08:00', 'HOSPITAL_ADMISSION//EW EMER.')]
    marks += [('2100-01-01 10:00', 'ICU_ADMISSION//MICU'), ('2100-01-04 10:00', 'ICU_DISCHARGE//MICU')]
    marks += [('2100-01-06 10:00', 'HOSPITAL_DISCHARGE//HOME'), ('2100-01-06 10:00', 'DIAGNOSIS//ICD//10//R6521')]
    marks += [('2100-01-06 10:00', 'MEDS_DEATH')] if subject % 2 else []
    hours = [f'2100-01-{1 + (10 + i) // 24:02d} {(10 + i) % 24:02d}:00' for i in range(30)]
    rows = [(subject, time, code, None) for time, code in marks] + [(subject, None, 'GENDER//F', None)]
    rows += [(subject, hour, HEART_RATE, 80.1 + i % 5) for i, hour in enumerate(hours)]
    return rows + [(subject, hours[3], 'LAB//220739//UNK', 3)]


def small_meds(folder: Path) -> Path:
    "Eight subjects in two shards, with splits, labels, stays and a mapping."
    for i in range(2):
        rows = [row for subject in range(4 * i + 1, 4 * i + 5) for row in stay_rows(subject)]
        write_meds_shard(folder / 'data' / f'{i}.parquet', rows)
    (folder / 'metadata').mkdir()
    names = ['train', 'train', 'tuning', 'held_out'] * 2
    subjects = list(range(1, 9))
    pd.DataFrame(dict(subject_id=subjects, split=names)).to_parquet(folder / 'metadata' / 'subject_splits.parquet')
    time = pd.to_datetime(['2100-01-03 12:00'] * 8)
    labels = pd.DataFrame(dict(subject_id=subjects, prediction_time=time, boolean_value=[True, False] * 4))
    (folder / 'labels').mkdir()
    labels.to_parquet(folder / 'labels' / 'readmission.parquet')
    given = pd.DataFrame(dict(subject_id=subjects, intime='2100-01-01 10:00:00', outtime='2100-01-04 10:00:00'))
    given.to_csv(folder / 'stays.csv', index=False)
    motor = 'LAB//220739//*,Glascow coma scale eye opening,,score\n'
    (folder / 'codes.csv').write_text(f'name,channel,unit,read_as\nLAB//220045//*,Heart Rate,bpm,\n{motor}')
    return folder


def change_frame(r: random.Random, file: Path) -> None:
    "Other values, types, names or rows of a table."
    try:
        d = pd.read_parquet(file)
    except Exception:
        return
    if not len(d):
        return
    name, kind = r.choice(list(d.columns)), r.randrange(8)
    if kind == 0:
        d = d.drop(columns=name)
    elif kind == 1:
        d = d.rename(columns={name: r.choice(['patient_id', 'x', name.upper(), 'text_value', '', ' '])})
    elif kind == 2:
        d[name] = d[name].astype(str)
    elif kind == 3:
        d[name] = d[name].where([r.random() < 0.9 for _ in range(len(d))], None)
    elif kind == 4:
        d = pd.concat([d, d.sample(min(len(d), 20), random_state=r.randrange(99))])
    elif kind == 5:
        d = d.sample(frac=r.choice([0, 0.5, 1]), random_state=r.randrange(99))
    elif kind == 6:
        d[name] = r.choice([float('nan'), float('inf'), -1, 2**62, 'x' * 300, True, pd.Timestamp('1700-01-01')])
    elif 'time' in d and str(d['time'].dtype).startswith('datetime64[') and d['time'].dt.tz is None:
        d['time'] = d['time'].astype('datetime64[us]').dt.tz_localize(r.choice(['UTC', 'Asia/Kolkata']))
    try:
        d.to_parquet(file)
    except Exception:
        return


def move_shard(r: random.Random, file: Path, folder: Path) -> None:
    "Another name, a copy, a link or none for a file."
    names = ['0.parquet', '7.parquet', 'x.parquet', '.hidden.parquet', 'data.csv', "it's [0].parquet"]
    target = r.choice([folder, folder / 'data', folder / 'data' / 'train', folder / 'metadata']) / r.choice(names)
    target.parent.mkdir(exist_ok=True)
    kind = r.randrange(4)
    if kind == 0:
        file.unlink()
    elif target.exists():
        return
    elif kind == 1:
        file.rename(target)
    elif kind == 2:
        shutil.copy(file, target)
    else:
        target.symlink_to(r.choice([file, folder / 'nowhere', folder]))


def mutate_meds(r: random.Random, folder: Path) -> None:
    "One to three changes."
    (folder / 'how.txt').write_text(r.choice(['', '', 'codes', 'stays', 'labels', 'codes stays labels']))
    for _ in range(r.randrange(1, 4)):
        tables = [p for p in sorted(folder.rglob('*.parquet')) if p.is_file() and not p.is_symlink()]
        texts = sorted(folder.glob('*.csv'))
        kind = r.randrange(8)
        if kind < 4 and tables:
            change_frame(r, r.choice(tables))
        elif kind < 6 and tables:
            file = r.choice(tables)
            file.write_bytes(mutate_bytes(r, file.read_bytes()))
        elif kind == 6 and texts:
            rewrite_text(r, r.choice(texts))
        elif tables:
            move_shard(r, r.choice(tables), folder)


def try_meds(folder: Path) -> None:
    "Build a cohort; one that is accepted is valid, and its losses are counted."
    from rnn_transfer.cohorts.losses import read_losses
    from rnn_transfer.sources import meds

    files = dict(codes='codes.csv', stays='stays.csv', labels='labels')
    how = (folder / 'how.txt').read_text().split()
    options = {name: folder / files[name] for name in how}
    cohort = meds.cohort(folder, **options, allow_loss=True, threads=1).validate()
    assert all(0 < loss.n <= loss.of for loss in read_losses(cohort.meta)), 'a loss without a total'
    assert cohort.events['hour'].between(0, 48).all(), 'an event outside the window'
    assert set(cohort.events['channel']) <= {'Heart Rate', 'Glascow coma scale eye opening'}, 'a channel of nothing'
    cohort.save(folder.with_name('again'))


MEDS_KINDS = dict(meds=(small_meds, mutate_meds, try_meds))
