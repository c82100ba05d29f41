"Mutations of raw tables: seven CSV files of MIMIC-III, and the folders of mimic3-benchmarks made from them."

import gzip
import random
import shutil
from pathlib import Path

import numpy as np
from fuzz import mutate_bytes, mutate_text

from rnn_transfer.cohorts.losses import read_losses

ODD_CELLS = [
    '',
    ' ',
    'NA',
    'NULL',
    r'\N',
    'nan',
    '1e400',
    '-1',
    '0',
    '12345678901234567890',
    '٣',
    '"',
    "'",
    '3,5',
    '15.0',
]
ODD_CELLS += [
    '2101-13-01 00:00:00',
    '01/02/2101 03:04 PM',
    '2101-01-01T00:00:00+02:00',
    '2101-01-01',
    '24:00',
    'x' * 300,
]


def change_cell(r: random.Random, text: str) -> str:
    "One or all cells of a column replaced by something odd."
    lines = text.split('\n')
    if len(lines) < 3:
        return text
    column, value = r.randrange(len(lines[0].split(','))), r.choice(ODD_CELLS)
    rows = range(1, len(lines)) if r.random() < 0.2 else [r.randrange(1, len(lines))]
    for at in rows:
        fields = lines[at].split(',')
        if column < len(fields):
            fields[column] = value
            lines[at] = ','.join(fields)
    return '\n'.join(lines)


def change_header(r: random.Random, text: str) -> str:
    "A first line with another name, one name less, one twice, or in small letters."
    head, _, rest = text.partition('\n')
    names = head.split(',')
    at, kind = r.randrange(len(names)), r.randrange(5)
    if kind == 0:
        names[at] = r.choice(['', 'x', names[0], f' {names[at]} ', '"' + names[at]])
    elif kind == 1:
        del names[at]
    elif kind == 2:
        names = [name.lower() for name in names]
    elif kind == 3:
        r.shuffle(names)
    else:
        return f'{rest}'
    return ','.join(names) + '\n' + rest


def change_file(r: random.Random, file: Path) -> None:
    "One change of a table's file."
    kind = r.randrange(10)
    if kind < 3:
        file.write_text(change_cell(r, file.read_text()))
    elif kind < 5:
        file.write_text(mutate_text(r, file.read_text()), encoding=r.choice(['utf-8', 'utf-8', 'utf-16']))
    elif kind == 5:
        file.write_text(change_header(r, file.read_text()))
    elif kind == 6:
        file.write_bytes(mutate_bytes(r, file.read_bytes()))
    elif kind == 7:
        packed = gzip.compress(file.read_bytes())
        file.with_name(f'{file.name}.gz').write_bytes(packed if r.random() < 0.5 else mutate_bytes(r, packed))
        if r.random() < 0.7:
            file.unlink()
    elif kind == 8:
        file.unlink()
        if r.random() < 0.5:
            file.symlink_to(file.parent / 'nowhere')
    else:
        file.rename(file.with_name(r.choice([file.name.lower(), file.name.title(), f'{file.name}.csv'])))


def mutate_tables(r: random.Random, folder: Path) -> None:
    "One or two changed files."
    for _ in range(r.randrange(1, 3)):
        files = [p for p in sorted(folder.rglob('*.csv')) if p.is_file() and not p.is_symlink()]
        if files:
            try:
                change_file(r, r.choice(files))
            except UnicodeDecodeError:
                continue


def check_cohort(cohort, folder: Path) -> None:
    "What holds of every accepted cohort."
    cohort.validate()
    losses = read_losses(cohort.meta)
    assert all(0 < loss.n <= loss.of for loss in losses), 'a loss without a total'
    assert not any(loss.is_too_large for loss in losses), 'too large a loss was accepted'
    assert np.isfinite(cohort.grid().X).all(), 'the grid holds numbers that are none'
    cohort.save(folder.with_name('again'))


def small_mimic3(folder: Path) -> Path:
    "The hospital made by hand."
    from rnn_transfer.sources.mimic3_tables import write_toy_tables

    return write_toy_tables(folder)


def try_mimic3(folder: Path) -> None:
    "Build a cohort from raw tables."
    from rnn_transfer.sources import mimic3

    check_cohort(mimic3.cohort(folder, threads=1), folder)


def small_benchmarks(folder: Path) -> Path:
    "Its folders in the form of mimic3-benchmarks."
    from rnn_transfer.sources.mimic3_export import export

    raw = small_mimic3(folder.with_name('raw'))
    export(raw, folder)
    shutil.rmtree(raw)
    return folder


def try_benchmarks(folder: Path) -> None:
    "Build a cohort from benchmark folders."
    from rnn_transfer.sources import mimic3_benchmarks

    check_cohort(mimic3_benchmarks.cohort(folder, threads=1), folder)


RAW_KINDS = dict(
    mimic3=(small_mimic3, mutate_tables, try_mimic3),
    mimic3_benchmarks=(small_benchmarks, mutate_tables, try_benchmarks),
)
