"""Mutations of small valid inputs: cohorts, checkpoints, prepared runs, folders of PhysioNet 2012.

`python tests/fuzz.py cohorts 2000` prints what came of them; the suite runs a short form of each.
"""

import contextlib
import copy
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rnn_transfer.data import Cohort, run_data
from rnn_transfer.utilities.errors import BadInput

LIMIT = 20  # seconds
DEEP = '[' * 5000 + ']' * 5000
ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    10**19,
    -(10**19),
    0.5,
    1e300,
    1e39,
    '',
    ' ',
    'x' * 300,
    '\0',
    '\n',
    '->',
    '[]',
    [],
    {},
]
ODD += ['NaN', [None], {'': 1}, '<script>', '$a$', '{}', '../x', '=1+1', 'Ω汉字', [[1]], 3.5e38]
RAW = ['NaN', 'Infinity', '1e999', '"\\ud800"', DEEP, '{"a": 1, "a": 2}', "'x'", '1' * 5000]


def places(value, at=()):
    "The position of every node of a JSON value."
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for i in range(min(len(value), 3)):
            yield from places(value[i], (*at, i))


def mutate_json(r: random.Random, text: str) -> str:
    "One change of a JSON text."
    kind = r.randrange(6)
    if kind == 0:
        cut = r.randrange(len(text))
        return text[:cut]
    if kind == 1:
        at = r.randrange(len(text))
        return text[:at] + r.choice('{}[],:"0e-x\0 ') + text[at + 1 :]
    value = json.loads(text)
    at = r.choice(list(places(value)))
    if not at:
        return json.dumps(r.choice(ODD))
    parent = value
    for key in at[:-1]:
        parent = parent[key]
    if kind == 2:
        del parent[at[-1]]
    elif kind == 3 and isinstance(parent, dict):
        parent[r.choice(['extra', '', 'name', 'format'])] = r.choice(ODD)
    elif kind == 4:
        parent[at[-1]] = 'PLACE'
        return json.dumps(value).replace('"PLACE"', r.choice(RAW), 1)
    else:
        parent[at[-1]] = copy.deepcopy(r.choice(ODD))
    return json.dumps(value)


def mutate_bytes(r: random.Random, data: bytes) -> bytes:
    "One change of a file's bytes."
    data, at = bytearray(data), r.randrange(max(len(data), 1))
    kind = r.randrange(4)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1 and data:
        data[at] ^= 1 << r.randrange(8)
    elif kind == 2:
        data[at:at] = bytes(r.randrange(256) for _ in range(r.randrange(1, 20)))
    else:
        del data[at : at + r.randrange(1, 50)]
    return bytes(data)


def odd_array(r: random.Random, column: pa.ChunkedArray) -> pa.Array:
    "The column in another Arrow type, or an array of values that it should not hold."
    n, text = len(column), pa.array([str(v) for v in column.to_pylist()])
    indices = pa.array([0] * n, pa.int8())
    made = [
        lambda: text.cast(pa.large_string()),
        lambda: text.cast(pa.string_view()),
        lambda: text.cast(pa.binary()),
        lambda: pa.array([b'\xff'] * n),
        lambda: text.dictionary_encode(),
        lambda: pa.DictionaryArray.from_arrays(indices, text.slice(0, 1).cast(pa.large_string())),
        lambda: pa.DictionaryArray.from_arrays(indices, pa.concat_arrays([text.slice(0, 1)] * 2)),
        lambda: pa.DictionaryArray.from_arrays(indices, pa.array([None], pa.string())),
        lambda: pa.DictionaryArray.from_arrays(indices, pa.array([7, 8])),
        lambda: pa.array([Decimal(i) for i in range(n)], pa.decimal128(30, 2)),
        lambda: pa.array([10**20 + i for i in range(n)], pa.decimal128(38, 0)),
        lambda: pa.array(range(n), pa.timestamp(r.choice(['s', 'ns']))),
        lambda: pa.array(range(n), pa.date32()),
        lambda: pa.array(range(n), pa.duration('s')),
        lambda: pa.array([[1]] * n),
        lambda: pa.array([dict(a=1)] * n),
        lambda: pa.array([[('a', 1)]] * n, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([i % 2 == 0 for i in range(n)]),
        lambda: pa.array([0.5] * n, pa.float16()),
        lambda: pa.array([2**63 + i for i in range(n)], pa.uint64()),
        lambda: pa.array([float(2**60 + 512 * i) for i in range(n)]),
        lambda: pa.nulls(n),
        lambda: pa.array(['1_000'] * n),
        lambda: column.cast(pa.float32()),
        lambda: column.cast(pa.float64()),
        lambda: column.cast(pa.int16()),
    ]
    return r.choice(made)()


def odd_values(r: random.Random, column: pa.ChunkedArray) -> pa.Array:
    "The column with one odd value, or nothing else."
    values = column.to_pylist()
    odd = r.choice([None, float('nan'), float('inf'), -1.0, 1e39, 0.5, 1e18, 10.0**12, 2.0, -0.0, 1e-300, '', 'test'])
    if r.random() < 0.3:
        values = [odd] * len(values)
    elif values:
        values[r.randrange(len(values))] = odd
    return pa.array(values)


def write_folder(r: random.Random, table: pa.Table, path: Path) -> None:
    "The table as part files, most of which agree."
    path.unlink()
    path.mkdir()
    size = max(len(table) // 12, 1)
    for i in range(-(-len(table) // size)):
        pq.write_table(table.slice(i * size, size), path / f'part.{i}.parquet')
    last = path / f'part.{i}.parquet'
    kind = r.randrange(6)
    if kind == 0:
        (path / '_SUCCESS').touch()
    elif kind == 1:
        last.write_bytes(mutate_bytes(r, last.read_bytes()))
    elif kind == 2:
        (path / r.choice(['part=1', '_delta_log', '.hidden'])).mkdir()
    elif kind == 3:
        pq.write_table(pq.read_table(last).drop_columns(r.choice(table.column_names)), last)
    elif kind == 4:
        (path / 'notes.txt').write_text('not a part')


def mutate_table(r: random.Random, path: Path) -> None:
    "One change of a Parquet file."
    if r.random() < 0.15:
        path.write_bytes(mutate_bytes(r, path.read_bytes()))
        return
    table = pq.read_table(path)
    at = r.randrange(table.num_columns)
    name, column, kind = table.column_names[at], table.column(at), r.randrange(12)
    if kind == 0:
        table = table.drop_columns(name)
    elif kind == 1:
        table = table.take(pa.array(r.sample(range(len(table)), len(table))))
    elif kind == 2:
        table = pa.concat_tables([table, table.slice(0, 5)])
    elif kind == 3:
        table = table.slice(0, r.randrange(3))
    elif kind == 4:
        table = table.append_column(r.choice([name, 'ward', 'n_bins', '']), column)
    elif kind == 5:
        table = table.append_column('extra', odd_array(r, column))
    elif kind == 6:
        return table.to_pandas().set_index(name).to_parquet(path)
    elif kind == 7:
        table = table.select(r.sample(table.column_names, table.num_columns))
    elif kind == 8:
        return write_folder(r, table, path)
    elif kind == 9:
        table = table.set_column(at, name, odd_values(r, column))
    else:
        table = table.set_column(at, name, odd_array(r, column))
    pq.write_table(table, path)


def small_cohort(folder: Path) -> Path:
    "A valid cohort of 60 stays without a stored fingerprint, so that changes are judged by the rules alone."
    from rnn_transfer.cohorts.losses import Loss, loss_records
    from rnn_transfer.testing import toy_cohort

    toy = toy_cohort(60)
    toy.meta |= dict(flow=[dict(step='stays', stays=60, subjects=50)], losses=loss_records([Loss('a: b', 1, 10)]))
    toy.save(folder)
    about = json.loads((folder / 'cohort.json').read_text())
    about.pop('fingerprint')
    (folder / 'cohort.json').write_text(json.dumps(about))
    return folder


def mutate_cohort(r: random.Random, folder: Path) -> None:
    "One or two changes of a cohort folder."
    for _ in range(r.randrange(1, 3)):
        if r.random() < 0.6:
            file = folder / 'cohort.json'
            if r.random() < 0.05:
                encoding = r.choice(['utf-8-sig', 'utf-16', 'utf-32', 'latin-1'])
                file.write_bytes(file.read_text(errors='replace').encode(encoding, 'replace'))
                continue
            try:
                file.write_text(mutate_json(r, file.read_text()))
            except (ValueError, RecursionError):
                file.write_bytes(mutate_bytes(r, file.read_bytes()))
        else:
            # the second change of a file that the first one broke may fail
            with contextlib.suppress(pa.ArrowException, OSError, ValueError, TypeError, KeyError, UnboundLocalError):
                mutate_table(r, folder / r.choice(['events.parquet', 'stays.parquet']))


def try_cohort(folder: Path) -> None:
    "Load a cohort; one that is accepted keeps the documented rules."
    cohort = Cohort.load(folder)
    grid = cohort.grid()
    assert np.isfinite(grid.X).all(), 'the grid holds numbers that are none'
    assert not np.isinf(cohort.statistics().to_numpy()).any(), 'a statistic is infinite'
    names = [c.name for c in cohort.channels] + [t.name for t in cohort.tasks]
    assert all(name == name.strip() and name.isprintable() and name for name in names), 'a name that cannot be shown'
    assert len(set(grid.columns)) == len(grid.columns), 'two columns with one name'
    assert cohort.stays.groupby('subject_id')['partition'].nunique().max() == 1, 'a subject in two partitions'
    again = Cohort.load(cohort.save(folder.with_name('again')))
    assert again.fingerprint == cohort.fingerprint, 'saving changes the cohort'
    data = run_data(cohort, folder.with_name('run'))
    assert np.isfinite(data.X).all(), 'the prepared grid holds numbers that are none'
    assert list(map(vars, data.columns)) == list(map(vars, grid.columns)), 'a column has lost its channel'
    scaled = np.asarray(data.X)[data.rows('train')][..., [c.kind == 'number' for c in data.columns]]
    assert (abs(scaled.mean((0, 1))) < 0.01).all(), 'a number that is not normalised'


def small_checkpoint(folder: Path) -> Path:
    "A valid checkpoint."
    from rnn_transfer.cohorts.normalization import Normalizer
    from rnn_transfer.model import init_network, save_checkpoint
    from rnn_transfer.testing import toy_cohort

    toy = toy_cohort(60)
    grid = toy.grid()
    meta = dict(columns=grid.columns, channels=[c.name for c in toy.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale, tasks=['a', 'b'], reads=grid.columns[:3])
    net = init_network(len(grid.columns), 4, 2)
    folder.mkdir(parents=True)
    save_checkpoint(net, folder / 'net.safetensors', **meta)
    return folder


def with_right_hash(text: str) -> str:
    "A description with the hash of what it now says, so that the form is tried and not the hash alone."
    from rnn_transfer.utilities.checkpoint_form import hash_description

    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        about = json.loads(text)
        return text.replace(str(about.get('description_sha256')), hash_description(about))
    return text


def mutate_weights(r: random.Random, path: Path) -> None:
    "Weights that are whole, of another type, shape, name or value."
    import torch
    from safetensors.torch import load, save

    stored = load(path.read_bytes())
    name, kind = r.choice(sorted(stored)), r.randrange(7)
    if kind == 0:
        stored[name] = stored[name].to(r.choice([torch.float64, torch.float16, torch.int64, torch.bool]))
    elif kind == 1:
        stored[name].view(-1)[0] = r.choice([float('nan'), float('inf'), 1e38])
    elif kind == 2:
        stored[name] = stored[name].reshape(-1).contiguous()
    elif kind == 3:
        stored[r.choice(['more', name.upper()])] = stored.pop(name)
    elif kind == 4:
        del stored[name]
    elif kind == 5:
        stored['more'] = stored[name].clone()
    else:
        stored = {}
    path.write_bytes(save(stored))


def mutate_checkpoint(r: random.Random, folder: Path) -> None:
    "A changed description, or changed weights whose hash is right."
    import hashlib

    file, weights = folder / 'net.json', folder / 'net.safetensors'
    if r.random() < 0.75:
        file.write_text(with_right_hash(mutate_json(r, file.read_text())))
        return
    if r.random() < 0.5:
        mutate_weights(r, weights)
    else:
        weights.write_bytes(mutate_bytes(r, weights.read_bytes()))
    about = json.loads(file.read_text()) | dict(sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    file.write_text(with_right_hash(json.dumps(about)))


def try_checkpoint(folder: Path) -> None:
    "Load a checkpoint, and use the one that is accepted."
    from rnn_transfer.estimators.extraction import extract_cohort_features
    from rnn_transfer.model import load_checkpoint
    from rnn_transfer.testing import toy_cohort

    net = load_checkpoint(folder / 'net.safetensors')
    assert all(bool(p.isfinite().all()) for p in net.parameters()), 'weights that are not finite'
    features = extract_cohort_features(toy_cohort(60), str(folder / 'net.safetensors'))
    assert np.isfinite(features.to_numpy()).all(), 'features that are not finite'


def small_run(folder: Path) -> Path:
    "A run whose data step is done, and what pre-training would say of a split."
    from rnn_transfer.testing import toy_cohort

    run_data(toy_cohort(60), folder)
    said = dict(split=0, source=['Phenotype A'], target=['Phenotype B'], hidden=2, variants=[], left_out={})
    file = folder / 'split-0' / 'pretrain' / 'split.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(said))
    return folder


def mutate_run(r: random.Random, folder: Path) -> None:
    "One change of a file that the data step or pre-training wrote."
    names = ['data/data.json'] * 3 + ['data/grid.npy', 'data/stays.parquet', 'data/statistics.parquet']
    file = folder / r.choice([*names, 'split-0/pretrain/split.json'])
    if file.suffix == '.json':
        file.write_text(mutate_json(r, file.read_text()))
    elif file.suffix == '.npy' or r.random() < 0.3:
        file.write_bytes(mutate_bytes(r, file.read_bytes()))
    else:
        with contextlib.suppress(pa.ArrowException, OSError, ValueError, TypeError, KeyError, UnboundLocalError):
            mutate_table(r, file)


def try_run(folder: Path) -> None:
    "Load what later steps load, and use it as they do."
    from rnn_transfer.cohorts.hourly import value_and_mask_columns
    from rnn_transfer.data import PreparedCohort
    from rnn_transfer.learning.networks import read_split
    from rnn_transfer.model import run_model

    data = PreparedCohort.load(folder)
    assert read_split(folder, 0)['hidden'] >= 1, 'no hidden units'
    assert len(data.X) == len(data.stays) == len(data.statistics), 'tables of different lengths'
    assert len(value_and_mask_columns(data.columns).values) >= 1, 'no values'
    assert len(data.lengths) == 0 or 1 <= data.lengths.min() <= data.lengths.max() <= data.X.shape[1], 'lengths'
    data.labels([t.name for t in data.tasks])
    if data.phenotypes:
        run_model(folder, [2])


HEAD = 'Time,Parameter,Value'


def small_challenge(folder: Path) -> Path:
    "Two sets of eight records."
    r = random.Random(0)
    for letter, first in (('a', 100), ('b', 200)):
        place = folder / f'set-{letter}'
        place.mkdir(parents=True)
        outcomes = ['RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death']
        for i in range(first, first + 8):
            rows = [HEAD, f'00:00,RecordID,{i}', '00:00,Age,70', '00:00,Weight,-1']
            for hour in range(r.randrange(2, 10)):
                rows.append(f'{hour:02d}:{r.randrange(60):02d},HR,{r.randrange(50, 120)}')
                rows.append(f'{hour:02d}:{r.randrange(60):02d},Urine,{r.randrange(300)}')
            (place / f'{i}.txt').write_text('\n'.join(rows) + '\n')
            outcomes.append(f'{i},6,1,{r.randrange(2, 30)},-1,{r.randrange(2)}')
        (folder / f'Outcomes-{letter}.txt').write_text('\n'.join(outcomes) + '\n')
    return folder


FIELDS = [
    '',
    ' ',
    'x',
    '1e400',
    'nan',
    'inf',
    '-1',
    '٣',
    '"',
    '99999999999999999999',
    '00:00',
    '-0',
    '1,2',
    ';',
    '\t',
    '0x10',
]


def mutate_text(r: random.Random, text: str) -> str:
    "One change of a table in text form."
    lines = text.split('\n')
    at, kind = r.randrange(len(lines)), r.randrange(9)
    if kind == 0:
        lines.insert(at, r.choice(['', '   ', ',,', lines[at], HEAD]))
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        r.shuffle(lines)
    elif kind == 3:
        lines += lines[1:]
    elif kind in (4, 5):
        fields = lines[at].split(',')
        fields[r.randrange(len(fields))] = r.choice(FIELDS)
        lines[at] = ','.join(fields)
    elif kind == 6:
        return text.replace('\n', r.choice(['\r\n', '\r', '\n\n', '\0\n']))
    elif kind == 7:
        return text.replace(',', r.choice([';', '\t', ', ', ',,']))
    else:
        return '\ufeff' + text
    return '\n'.join(lines)


def rewrite_text(r: random.Random, file: Path) -> None:
    "A change of a text file, now and then in another encoding."
    try:
        file.write_text(mutate_text(r, file.read_text()), encoding=r.choice(['utf-8', 'utf-8', 'utf-16']))
    except UnicodeDecodeError:
        file.write_bytes(b'')


def move_file(r: random.Random, file: Path, folder: Path) -> None:
    "A file that is gone, has another name, or is a link."
    kind = r.randrange(3)
    if kind == 0:
        file.rename(file.with_name(r.choice(['7.txt', '99999999999999999999.txt', 'x.txt', '101.TXT'])))
        return
    file.unlink()
    if kind == 1:
        file.symlink_to(folder / r.choice(['nowhere', 'set-a/101.txt', 'set-a']))


def archive_set(r: random.Random, folder: Path) -> None:
    "Set a as an archive, perhaps damaged, perhaps next to its folder."
    shutil.make_archive(str(folder / 'set-a'), r.choice(['zip', 'tar', 'gztar']), folder, 'set-a')
    if r.random() < 0.8:
        shutil.rmtree(folder / 'set-a')
    archive = next(p for p in folder.iterdir() if p.name.startswith('set-a.'))
    if r.random() < 0.5:
        archive.write_bytes(mutate_bytes(r, archive.read_bytes()))


def mutate_challenge(r: random.Random, folder: Path) -> None:
    "One to three changes of a folder with sets."
    for _ in range(r.randrange(1, 4)):
        files = [p for p in sorted(folder.rglob('*.txt')) if p.is_file() and not p.is_symlink()]
        if not files:
            return
        file, kind = r.choice(files + [p for p in files if 'Outcomes' in p.name] * 3), r.randrange(10)
        if kind < 5:
            rewrite_text(r, file)
        elif kind == 5:
            file.write_bytes(mutate_bytes(r, file.read_bytes()))
        elif kind < 9:
            move_file(r, file, folder)
        elif (folder / 'set-a').is_dir():
            archive_set(r, folder)


def try_challenge(folder: Path) -> None:
    "Build a cohort; one that is accepted is valid, and its losses are counted."
    from rnn_transfer.cohorts.losses import read_losses
    from rnn_transfer.sources import physionet2012

    cohort = physionet2012.cohort(folder).validate()
    assert all(0 < loss.n <= loss.of for loss in read_losses(cohort.meta)), 'a loss without a total'
    assert not any(loss.is_too_large for loss in read_losses(cohort.meta)), 'too large a loss was accepted'
    counts = cohort.meta['counts_of_rows']
    left_out = sum(counts[key] for key in counts if key.startswith('rows ') and key != 'rows read')
    assert counts['rows read'] >= left_out + len(cohort.events), 'rows that were not counted'
    cohort.save(folder.with_name('again'))


KINDS = dict(
    cohorts=(small_cohort, mutate_cohort, try_cohort),
    checkpoints=(small_checkpoint, mutate_checkpoint, try_checkpoint),
    runs=(small_run, mutate_run, try_run),
    physionet2012=(small_challenge, mutate_challenge, try_challenge),
)


def further_kinds() -> dict:
    "The sources of raw tables, PhysioNet 2019, MEDS, and finished runs."
    from fuzz_meds import MEDS_KINDS
    from fuzz_physionet2019 import DOWNLOAD_KINDS
    from fuzz_raw import RAW_KINDS
    from fuzz_runs import RUN_KINDS

    return RAW_KINDS | DOWNLOAD_KINDS | MEDS_KINDS | RUN_KINDS


def try_one(attempt: Callable, folder: Path) -> tuple[str, str]:
    "accepted, rejected, or what is wrong with the answer; and details."
    start = time.perf_counter()
    try:
        attempt(folder)
        answer = ('accepted', '')
    except BadInput as e:
        text = str(e)
        answer = ('rejected', text) if text and '\n' not in text else ('message', repr(text))
    except AssertionError as e:
        answer = ('wrongly accepted', str(e))
    except Exception:
        answer = ('traceback', traceback.format_exc())
    left = [p.name for p in folder.parent.rglob('*.tmp*')]
    if left:
        return 'half-written', ', '.join(left)
    return answer if time.perf_counter() - start < LIMIT else ('hang', answer[1])


def fuzz(kind: str, n: int, seed: int = 0) -> tuple[Counter, list[str]]:
    "Counts of answers, and the details of those that are faults."
    make, mutate, attempt = (KINDS | further_kinds())[kind]
    counts, faults = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        original = make(Path(place) / 'original')
        for i in range(n):
            work = Path(place) / 'work'
            shutil.copytree(original, work / 'input', symlinks=True)
            r = random.Random(f'{kind} {seed} {i}')
            mutate(r, work / 'input')
            answer, details = try_one(attempt, work / 'input')
            counts[answer] += 1
            if answer not in ('accepted', 'rejected'):
                faults.append(f'{kind} {i}: {answer}: {details}')
            shutil.rmtree(work)
    return counts, faults


if __name__ == '__main__':
    which, number = sys.argv[1], int(sys.argv[2])
    found, details = fuzz(which, number)
    print(which, dict(found))
    print('\n'.join(details[:20]))
    sys.exit(bool(details))
