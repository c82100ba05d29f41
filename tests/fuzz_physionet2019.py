"""Mutations of a small download of PhysioNet 2019, for `python tests/fuzz.py physionet2019 500`."""

import random
import shutil
from pathlib import Path

from fuzz import mutate_bytes, rewrite_text

from rnn_transfer.sources.physionet2019_rows import COLUMNS

FIRST_NUMBERS = (1, 100_001)  # of hospitals A and B


def stay_lines(number: int) -> list[str]:
    "A stay of 30 hours with a heart rate every hour and a lactate in the third; each second one turns septic."
    lines = ['|'.join(COLUMNS)]
    for hour in range(1, 31):
        row = dict(ICULOS=hour, SepsisLabel=int(number % 2 and hour > 27), HR=80 + hour % 5)
        row |= dict(Lactate=2 + number % 4) if hour == 3 else {}
        lines.append('|'.join(str(row.get(name, 'NaN')) for name in COLUMNS))
    return lines


def small_download(folder: Path) -> Path:
    "Four stays of each hospital."
    for first, letter in zip(FIRST_NUMBERS, 'AB'):
        (folder / f'training_set{letter}').mkdir(parents=True)
        for number in range(first, first + 4):
            file = folder / f'training_set{letter}' / f'p{number:06d}.psv'
            file.write_text('\n'.join([*stay_lines(number), '']), newline='')
    return folder


def change_rows(r: random.Random, file: Path) -> None:
    "Swap, repeat or leave out rows of a stay, or give a field to another column."
    lines = file.read_text(encoding='utf-8', errors='replace').split('\n')
    i, j = r.randrange(len(lines)), r.randrange(len(lines))
    kind = r.randrange(4)
    if kind == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 1:
        lines.insert(i, lines[j])
    elif kind == 2:
        del lines[i]
    else:
        fields = lines[i].split('|')
        fields[r.randrange(len(fields))] = r.choice(['', 'inf', '1e999', '-7', '0x1p3', '7,5', '2', '1_0', 'NaN', ' '])
        lines[i] = '|'.join(fields)
    file.write_text('\n'.join(lines), newline='', encoding='utf-8')


def move_stay(r: random.Random, file: Path, folder: Path) -> None:
    "Another name, folder, copy or link for a stay."
    name = r.choice([file.name, 'p000002.psv', 'p100003.psv', 'p200001.psv', 'x.psv', '._p000001.psv', 'p1.PSV'])
    target = r.choice([folder, folder / 'training_setA', folder / 'training_setB', folder / 'more']) / name
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        return
    kind = r.randrange(3)
    if kind == 0:
        file.rename(target)
    elif kind == 1:
        shutil.copy(file, target)
    else:
        target.symlink_to(r.choice([file, folder / 'nowhere', folder]))


def pack_set(r: random.Random, folder: Path) -> None:
    "Hospital A as an archive, perhaps damaged, perhaps next to its folder."
    if not (folder / 'training_setA').is_dir() or list(folder.glob('training_setA.*')):
        return
    form = r.choice(['zip', 'tar', 'gztar', 'xztar'])
    archive = Path(shutil.make_archive(str(folder / 'training_setA'), form, folder, 'training_setA'))
    if r.random() < 0.8:
        shutil.rmtree(folder / 'training_setA')
    if r.random() < 0.5:
        archive.write_bytes(mutate_bytes(r, archive.read_bytes()))


def mutate_download(r: random.Random, folder: Path) -> None:
    "One to three changes."
    for _ in range(r.randrange(1, 4)):
        files = [p for p in sorted(folder.rglob('*.psv')) if p.is_file() and not p.is_symlink()]
        if not files:
            return
        file, kind = r.choice(files), r.randrange(8)
        if kind < 3:
            change_rows(r, file)
        elif kind == 3:
            rewrite_text(r, file)
        elif kind == 4:
            file.write_bytes(mutate_bytes(r, file.read_bytes()))
        elif kind < 7:
            move_stay(r, file, folder)
        else:
            pack_set(r, folder)


def try_download(folder: Path) -> None:
    "Build a cohort; one that is accepted is valid, and its losses are counted."
    from rnn_transfer.cohorts.losses import read_losses
    from rnn_transfer.sources import physionet2019

    cohort = physionet2019.cohort(folder, allow_loss=True).validate()
    assert all(0 < loss.n <= loss.of for loss in read_losses(cohort.meta)), 'a loss without a total'
    assert set(cohort.stays['site']) <= {'A', 'B'}, 'a site that does not exist'
    assert cohort.events['hour'].between(1, 24).all(), 'an event outside the window'
    cohort.save(folder.with_name('again'))


DOWNLOAD_KINDS = dict(physionet2019=(small_download, mutate_download, try_download))
