"A network applied to one's own label: values, kept fits, interruption, errors, what the report says."

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from browser import Browser, chromium, complaints
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from rnn_transfer.apply import fitting
from rnn_transfer.apply.answer import explain_draws
from rnn_transfer.apply.divisions import divide_by_folds, divide_by_partition, divide_by_size, subject_subset
from rnn_transfer.apply.fitting import fit_division, fit_key
from rnn_transfer.apply.material import Material
from rnn_transfer.apply.run import ApplySettings, apply_network, parse_labels, plan_label
from rnn_transfer.apply.systems import APPLIED_SYSTEMS
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.classifier import TransferClassifier, labels_of
from rnn_transfer.experiment.apply_command import rnn_transfer_apply
from rnn_transfer.model import init_network, load_checkpoint, save_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities import code_hashes
from rnn_transfer.utilities.errors import BadInput, InputWarning

LABEL = 'Phenotype A'
LINEAR = ('network-ridge', 'statistics-ridge', 'LR', 'untrained-ridge')
FAST = ApplySettings(systems=LINEAR, replicates=100)
COMMAND = "import sys; sys.argv[0] = 'rnn_transfer_apply'; "
COMMAND += 'from rnn_transfer.experiment.apply_command import rnn_transfer_apply as f; f()'


@pytest.fixture(scope='module')
def toy():
    return toy_cohort(240)


@pytest.fixture(scope='module')
def folder(toy, tmp_path_factory):
    "A folder with a toy cohort and a toy network."
    folder = tmp_path_factory.mktemp('apply')
    toy.save(folder / 'cohort')
    write_network(toy, folder / 'net.safetensors')
    return folder


@pytest.fixture(scope='module')
def applied(toy, folder):
    return apply_network(folder / 'net.safetensors', toy, [LABEL, 'Mortality'], folder / 'out', FAST)


def write_network(cohort, path, seed=0):
    grid = cohort.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in cohort.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale, tasks=['a', 'b'])
    return save_checkpoint(init_network(len(grid.columns), 8, 2, seed), path, **meta)


def with_labels(cohort, values):
    "The cohort with other labels of LABEL."
    return Cohort(cohort.events, cohort.stays.assign(**{LABEL: values}), cohort.channels, cohort.tasks, cohort.meta)


def run_command(folder, *args):
    env = os.environ | dict(OMP_NUM_THREADS='1')
    command = [sys.executable, '-c', COMMAND, *map(str, args)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def fails(monkeypatch, capsys, folder, options):
    "The exit code and the message of the command, called in this process."
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', ['rnn_transfer_apply', *(f'--{name}={value}' for name, value in options.items())])
    with pytest.raises(SystemExit) as stopped:
        rnn_transfer_apply()
    return stopped.value.code, capsys.readouterr().err


# ---- values


def test_measures_are_those_of_the_predictions_file(applied, folder):
    predictions = pd.read_parquet(folder / 'out' / 'predictions.parquet')
    results = pd.read_parquet(folder / 'out' / 'results.parquet')
    assert list(predictions.columns) == ['label', 'system', 'stay_id', 'subject_id', 'y', 'p']
    assert len(results) == 2 * len(LINEAR)
    for _, row in results.iterrows():
        of = predictions[(predictions['label'] == row['label']) & (predictions['system'] == row['system'])]
        assert row['auroc'] == pytest.approx(roc_auc_score(of['y'], of['p']), abs=1e-12)
        assert row['auprc'] == pytest.approx(average_precision_score(of['y'], of['p']), abs=1e-12)
        assert row['brier'] == pytest.approx(brier_score_loss(of['y'], of['p']), abs=1e-12)
        assert (row['n_test'], row['n_test_positive']) == (len(of), of['y'].sum())
        assert row['auroc_low'] <= row['auroc'] <= row['auroc_high']


def test_the_default_system_is_transfer_classifier(toy, folder, applied):
    model = TransferClassifier(folder / 'net.safetensors').fit(toy, LABEL)
    rows = (toy.stays['partition'] == 'test').to_numpy()
    predictions = pd.read_parquet(folder / 'out' / 'predictions.parquet')
    of = predictions[(predictions['label'] == LABEL) & (predictions['system'] == 'network-ridge')]
    np.testing.assert_allclose(of['p'], model.predict_proba(toy)[rows, 1], atol=1e-12)


def test_differences_are_paired_with_the_best_baseline(applied):
    scores = applied.of_label(LABEL).set_index('system')
    baselines = scores[scores['role'] == 'baseline']['auroc']
    best = baselines.idxmax()
    assert scores.loc[best, 'versus'] == '' and np.isnan(scores.loc[best, 'difference'])
    others = scores.drop(best)
    assert set(others['versus']) == {best}
    np.testing.assert_allclose(others['difference'], others['auroc'] - baselines[best], atol=1e-12)
    wide = scores['auroc_high'] - scores['auroc_low']
    assert (others['difference_low'] <= others['difference']).all() and (wide > 0).all()


@pytest.mark.parametrize('system', ['GBT', 'GRU', 'MN-LR-1', 'MN-LR-2', 'both-ridge'])
def test_every_system_predicts_probabilities(toy, folder, system):
    y = labels_of(toy, LABEL)
    fitted = fit_division(system, Material(toy, folder / 'net.safetensors'), y, divide_by_partition(y, toy.stays)[0])
    assert ((fitted.p > 0) & (fitted.p < 1)).all() and len(np.unique(fitted.p)) > 1, fitted.info
    assert fitted.info['seconds'] > 0


def test_the_untrained_network_is_not_the_trained_one(toy, folder):
    material = Material(toy, folder / 'net.safetensors', seed=3)
    assert not np.allclose(material.features('network'), material.features('untrained'))
    assert material.features('network').shape == material.features('untrained').shape


# ---- divisions


def test_no_fit_sees_a_subject_it_predicts(toy):
    y, subject = labels_of(toy, LABEL), toy.stays['subject_id'].to_numpy()
    divisions = divide_by_partition(y, toy.stays) + divide_by_folds(y, toy.stays, LABEL, 4, 2)
    divisions += divide_by_size(y, toy.stays, divisions[1:], [40, 80], 5, LABEL)
    assert len(divisions) == 1 + 8 + 10
    for d in divisions:
        assert not set(subject[d.test]) & set(subject[np.concatenate([d.fit, d.scale])])


def test_subsets_are_nested_stratified_and_whole():
    rng = np.random.default_rng(0)
    subject = rng.integers(0, 150, 300)
    y = (rng.random(150) < 0.2)[subject].astype(float)
    before = set()
    for size in (20, 50, 100, 200, 300):
        rows = subject_subset(y, subject, size, 'key')
        assert before <= set(rows) and size - 8 <= len(rows) <= size
        assert abs(y[rows].mean() - y.mean()) < 0.12
        assert not set(subject[rows]) & set(np.delete(subject, rows))
        before = set(rows)
    assert not np.array_equal(subject_subset(y, subject, 50, 'key'), subject_subset(y, subject, 50, 'other'))


def test_cross_validation_predicts_every_labelled_stay_once_a_repeat(toy, folder, tmp_path):
    settings = replace(FAST, systems=('network-ridge', 'LR'), folds=3, repeats=2)
    result = apply_network(folder / 'net.safetensors', toy, [LABEL], tmp_path / 'out', settings)
    assert result.n_made == 2 * 3 * 2 and set(result.scores['design']) == {'3 folds × 2'}
    predictions = pd.read_parquet(tmp_path / 'out' / 'predictions.parquet')
    assert predictions.groupby('system')['stay_id'].nunique().eq(len(toy.stays)).all()
    assert result.scores['auroc_sd_repeats'].notna().all()
    assert 'averaged over repeats' in (tmp_path / 'out' / 'report.md').read_text()


def test_fits_of_two_processes_are_those_of_one(toy, folder, tmp_path):
    few = dict(folds=2, repeats=1, to_labels=(60,), draws=1, replicates=50)
    settings = ApplySettings(systems=('MN-LR-1', 'GBT', 'GRU'), **few)
    network = folder / 'net.safetensors'
    one, two = (apply_network(network, toy, [LABEL], tmp_path / str(n), settings, workers=n) for n in (1, 2))
    assert one.n_made == two.n_made == 9
    for name in ('predictions', 'label_curves'):
        pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / n / f'{name}.parquet') for n in '12'))
    assert apply_network(network, toy, [LABEL], tmp_path / '2', settings, workers=2).n_kept == 9


MANY = ['--folds', '5', '--repeats', '40', '--systems', 'GBT', '--workers', '2']


def start_on_two_processes(folder, out):
    "The command, once two processes fit; and these processes."
    given = ['--checkpoint', str(folder / 'net.safetensors'), '--cohort', str(folder / 'cohort'), '--label', LABEL]
    argv = [sys.executable, '-c', COMMAND, *given, '--out', str(out), *MANY]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        fitting = [p for p in psutil.Process(process.pid).children() if 'LokyProcess' in ' '.join(p.cmdline())]
        if len(fitting) == 2 and len(list((out / 'fits').glob('*.safetensors'))) > 1:
            return process, fitting
        time.sleep(0.1)
    process.kill()
    pytest.fail('two processes never fitted')


def test_processes_end_with_a_killed_command(folder, tmp_path):
    process, fitting = start_on_two_processes(folder, tmp_path / 'out')
    process.kill()
    process.wait()
    assert not psutil.wait_procs(fitting, timeout=20)[1]


def test_a_killed_process_ends_the_command_in_one_line(folder, tmp_path):
    process, fitting = start_on_two_processes(folder, tmp_path / 'out')
    fitting[0].kill()
    _, said = process.communicate(timeout=60)
    # where the tracker of a pool's temporary files is too late, it warns that they are gone: not a line of ours
    ours = [line for line in said.splitlines() if 'resource_tracker' not in line]
    assert process.returncode == 2 and len(ours) == 1 and 'most likely for memory' in ours[0]
    assert list((tmp_path / 'out' / 'fits').glob('*.safetensors')) and not (tmp_path / 'out' / 'report.html').exists()


def test_curves_of_an_earlier_run_go_and_impossible_workers_are_said(toy, folder, tmp_path):
    network, linear = folder / 'net.safetensors', replace(FAST, systems=('LR',))
    apply_network(network, toy, [LABEL], tmp_path, replace(linear, to_labels=(50,), draws=1))
    assert (tmp_path / 'label_curves.csv').exists()
    apply_network(network, toy, [LABEL], tmp_path, linear)
    assert not list(tmp_path.glob('label_curves*'))
    with pytest.raises(BadInput, match='--workers -1: expected a whole number'):
        apply_network(network, toy, [LABEL], tmp_path, linear, workers=-1)


def test_partitions_without_labels_give_cross_validation(toy):
    values = toy.stays[LABEL].where(toy.stays['partition'] != 'test')
    plan = plan_label(LABEL, with_labels(toy, values), ApplySettings())
    assert (plan.n_folds, plan.n_repeats) == (5, 3)


# ---- kept fits


def test_a_changed_network_refits_only_what_reads_it(toy, folder, applied, tmp_path):
    again = apply_network(folder / 'net.safetensors', toy, [LABEL], folder / 'out', FAST)
    assert (again.n_made, again.n_kept) == (0, len(LINEAR))
    other = write_network(toy, tmp_path / 'other.safetensors', seed=7)
    changed = apply_network(other, toy, [LABEL], folder / 'out', FAST)
    assert (changed.n_made, changed.n_kept) == (2, 2)  # the network's, and the untrained one of its size
    apply_network(folder / 'net.safetensors', toy, [LABEL, 'Mortality'], folder / 'out', FAST)


def test_a_damaged_fit_is_made_again(toy, folder, applied):
    kept = sorted((folder / 'out' / 'fits').iterdir())
    before = kept[0].read_bytes()
    kept[0].write_bytes(before[: len(before) // 2])
    again = apply_network(folder / 'net.safetensors', toy, [LABEL, 'Mortality'], folder / 'out', FAST)
    assert again.n_made == 1 or kept[0].read_bytes() != before
    pd.testing.assert_frame_equal(again.scores.drop(columns='seconds'), applied.scores.drop(columns='seconds'))


def test_keys_know_labels_rows_and_measurements(toy, folder):
    y, net = labels_of(toy, LABEL), folder / 'net.safetensors'
    division, material = divide_by_partition(y, toy.stays)[0], Material(toy, net)
    key = fit_key('LR', material, y, division)
    flipped = y.copy()
    flipped[division.fit[0]] = 1 - flipped[division.fit[0]]
    events = toy.events.assign(value=toy.events['value'].where(toy.events.index != 0, 1.5))
    measured = Cohort(events, toy.stays, toy.channels, toy.tasks, toy.meta)
    assert (
        len({key, fit_key('LR', material, flipped, division), fit_key('LR', Material(measured, net), y, division)}) == 3
    )
    flipped = y.copy()
    flipped[division.test[0]] = 1 - flipped[division.test[0]]  # a test label changes no fit
    assert fit_key('LR', material, flipped, division) == key
    assert fit_key('LR', Material(toy, net, scale='target'), y, division) == key
    assert fit_key('LR', material, y, division, seed=1) != key


def test_a_changed_module_makes_new_fits(toy, folder, monkeypatch):
    y = labels_of(toy, LABEL)
    division, material = divide_by_partition(y, toy.stays)[0], Material(toy, folder / 'net.safetensors')
    key, text = fit_key('LR', material, y, division), code_hashes._module_text
    keys = {}
    for module in ('learning/few_labels.py', 'learning/trees.py', 'evaluation/report.py', 'experiment/run.py'):
        changed = partial(lambda module, path: text(path) + 'x = 1' * path.as_posix().endswith(module), module)
        monkeypatch.setattr(code_hashes, '_module_text', changed)
        fitting._code_hash.cache_clear()
        keys[module] = fit_key('LR', material, y, division)
    monkeypatch.undo()
    fitting._code_hash.cache_clear()
    assert [module for module, other in keys.items() if other != key] == ['learning/few_labels.py', 'learning/trees.py']
    assert fit_key('LR', material, y, division) == key


def test_a_killed_run_leaves_whole_files_and_goes_on(folder, tmp_path):
    args = ['--checkpoint', folder / 'net.safetensors', '--cohort', folder / 'cohort', '--label', LABEL]
    args += ['--out', 'out', '--folds', 5, '--repeats', 4, '--systems', 'network-ridge']
    args += ['--replicates', 50]
    command = [sys.executable, '-c', COMMAND, *map(str, args)]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while time.time() < deadline and len(list(tmp_path.glob('out/fits/*.safetensors'))) < 2:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 143 and 'goes on from here' in running.stderr.read()
    kept = len([p for p in (tmp_path / 'out' / 'fits').iterdir() if not p.name.startswith('.')])
    assert kept >= 2 and not (tmp_path / 'out' / 'report.html').exists()
    assert not list(tmp_path.glob('out/**/.*.tmp*'))
    (tmp_path / 'out' / 'fits' / '.x.0123456789ab.tmp.safetensors').touch()  # as after a power cut
    done = run_command(tmp_path, *args)
    assert done.returncode == 0 and f'{20 - kept} fits made, {kept} kept' in done.stdout, done.stderr
    assert not list(tmp_path.glob('out/**/.*.tmp*'))


# ---- the report


def test_the_report_answers_first_and_has_no_stay(applied, folder):
    text = (folder / 'out' / 'report.md').read_text(encoding='utf-8')
    page = (folder / 'out' / 'report.html').read_text(encoding='utf-8')
    first = text.split('## The labels')[0]
    assert '# Your label: which model' in text.splitlines()[2] and LABEL in first and 'Mortality' in first
    assert 'Channels: 4 matched.' in text and 'trained on 2 tasks' in text and 'fits are held fixed' in text
    assert 'labelled test stays' in text and 'An untrained network' in text
    assert page.startswith('<!doctype html>') and 'src="http' not in page and 'href="http' not in page
    ids = pd.read_parquet(folder / 'out' / 'predictions.parquet')['stay_id'].astype(str)
    stated = set(re.findall(r'\d{4,}', text))
    assert not stated & set(ids)
    assert json.loads((folder / 'out' / 'settings.json').read_text())['labels'] == [LABEL, 'Mortality']


def test_few_positives_are_said_and_have_no_interval(toy, folder, tmp_path):
    values = toy.stays[LABEL].copy()
    positive = np.flatnonzero((values == 1) & (toy.stays['partition'] == 'test'))
    values.iloc[positive[3:]] = np.nan
    settings = replace(FAST, systems=('network-ridge', 'LR'))
    result = apply_network(folder / 'net.safetensors', with_labels(toy, values), [LABEL], tmp_path / 'out', settings)
    ends = [c for c in result.scores if c.endswith(('_low', '_high'))]
    assert (result.scores['n_test_positive'] == 3).all() and result.scores[ends].isna().all(axis=None)
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert 'too few of one class to choose a model' in text and '3 positives: too few for an interval' in text


def test_the_learning_curve_has_intervals_and_figures(toy, folder, tmp_path):
    settings = replace(FAST, systems=('network-ridge', 'GBT'), to_labels=(40, 80, 9999), draws=4)
    result = apply_network(folder / 'net.safetensors', toy, [LABEL], tmp_path / 'out', settings)
    curve = result.curves
    assert curve[['system', 'labels']].to_numpy().tolist() == [[s, n] for s in settings.systems for n in (40, 80)]
    assert curve['n_draws'].tolist() == [4, 4, 3, 3]
    defined = curve[curve['n_failed'] == 0]
    assert ((defined['auroc_low'] <= defined['auroc']) & (defined['auroc'] <= defined['auroc_high'])).all()
    assert sorted(p.name for p in (tmp_path / 'out' / 'figures').iterdir()) == [
        'label-curve-0.png',
        'label-curve-0.svg',
    ]
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert 'figures/label-curve-0.svg' in text
    assert 'network-ridge: 4 draws' in text and 'with probability 0.12' in text and '--draws 6 or more' in text
    assert 'GBT: 3 draws' in text and 'with probability 0.25' in text
    assert 'every system was fitted once, to one set of' in text


# ---- errors


def test_missing_channels_are_reported(toy, folder, tmp_path):
    fewer = Cohort(
        toy.events[toy.events['channel'] != 'Glucose'],
        toy.stays,
        [c for c in toy.channels if c.name != 'Glucose'],
        toy.tasks,
        toy.meta,
    )
    settings = replace(FAST, systems=('network-ridge',))
    apply_network(folder / 'net.safetensors', fewer, [LABEL], tmp_path / 'out', settings)
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert '3 matched, 1 missing' in text and 'reads Glucose as never measured' in text


def test_another_unit_is_converted_or_rejected(toy, folder, tmp_path):
    def with_unit(unit, change):
        channels = [replace(c, unit=unit) if c.name == 'Temperature' else c for c in toy.channels]
        rows = toy.events['channel'] == 'Temperature'
        events = toy.events.assign(value=toy.events['value'].where(~rows, change(toy.events['value'])))
        return Cohort(events, toy.stays, channels, toy.tasks, toy.meta)

    fahrenheit = Material(with_unit('°F', lambda v: v * 1.8 + 32), folder / 'net.safetensors')
    of = Material(toy, folder / 'net.safetensors')
    assert 'converted' in fahrenheit.alignment['status'].tolist()
    np.testing.assert_allclose(fahrenheit.features('network'), of.features('network'), atol=1e-4)
    with pytest.raises(BadInput, match='Temperature'):
        apply_network(folder / 'net.safetensors', with_unit('mmHg', lambda v: v), [LABEL], tmp_path / 'out', FAST)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(label='sepsis'), "label 'sepsis': no task of this cohort"),
        (dict(label=''), '--label is missing'),
        (dict(checkpoint='none.safetensors'), 'no such file'),
        (dict(checkpoint='damaged.safetensors'), 'hash differs'),
        (dict(systems='forest'), '--systems forest: unknown'),
        (dict(folds='1'), 'two folds or more'),
        (dict(folds='five'), "'five' is no whole number"),
        (dict(to_labels='50,few'), '--to-labels 50,few: expected whole numbers'),
        (dict(to_labels='5000'), 'name smaller numbers'),
        (dict(scale='ours'), "--scale 'ours': expected source or target"),
        (dict(label='one'), 'label more stays'),
        (dict(width='2'), '--width 2.0: expected'),
        (dict(workers='-1'), '--workers -1: expected a whole number, or 0'),
        (dict(missing='never'), 'expected impute or strict'),
    ],
)
def test_errors_are_one_line_and_leave_nothing(toy, folder, tmp_path, monkeypatch, capsys, change, message):
    for suffix in ('.safetensors', '.json'):
        (tmp_path / f'damaged{suffix}').write_bytes((folder / f'net{suffix}').read_bytes())
    with (tmp_path / 'damaged.safetensors').open('r+b') as f:
        f.seek(-4, 2)
        f.write(b'\x00\x00\x80\x3f')
    cohort = folder / 'cohort'
    if change.get('label') == 'one':
        with_labels(toy, np.eye(len(toy.stays))[0]).save(tmp_path / 'one')
        cohort, change = tmp_path / 'one', dict(label=LABEL)
    options = dict(checkpoint=folder / 'net.safetensors', cohort=cohort, label=LABEL, out='out') | change
    code, text = fails(monkeypatch, capsys, tmp_path, options)
    assert code == 2 and text.startswith('error: ') and text.count('\n') == 1, text
    assert message in text and not (tmp_path / 'out').exists()


def test_an_error_ends_the_process_with_one_line(folder, tmp_path):
    ran = run_command(tmp_path, '--checkpoint', 'none.safetensors', '--cohort', folder / 'cohort', '--label', 'A')
    assert ran.returncode == 2 and ran.stderr.startswith('error: ') and ran.stderr.count('\n') == 1, ran.stderr


def test_strict_stops_at_a_channel_that_the_cohort_lacks(toy, folder, tmp_path, monkeypatch, capsys):
    channels = [c for c in toy.channels if c.name != 'Glucose']
    events = toy.events[toy.events['channel'] != 'Glucose']
    Cohort(events, toy.stays, channels, toy.tasks, toy.meta).save(tmp_path / 'fewer')
    options = dict(checkpoint=folder / 'net.safetensors', cohort='fewer', label=LABEL, out='out', missing='strict')
    code, text = fails(monkeypatch, capsys, tmp_path, options)
    assert code == 2 and text.startswith('error: channels: the network reads Glucose') and text.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_a_network_of_this_very_cohort_is_said(toy, folder, tmp_path):
    net = load_checkpoint(folder / 'net.safetensors')
    net.meta |= dict(fingerprint=toy.fingerprint)
    save_checkpoint(net, tmp_path / 'own.safetensors')
    with pytest.warns(InputWarning, match='trained on this very cohort'):
        apply_network(tmp_path / 'own.safetensors', toy, [LABEL], tmp_path / 'out', replace(FAST, systems=('LR',)))
    limits = (tmp_path / 'out' / 'report.md').read_text().split('What these labels cannot show')[1]
    assert 'may be too good' in limits[:400]


def test_a_label_of_one_class_is_rejected(toy, folder, tmp_path):
    negative = with_labels(toy, np.zeros(len(toy.stays)))
    with pytest.raises(BadInput, match='0 positive, 0 subjects of the rarer class'):
        apply_network(folder / 'net.safetensors', negative, [LABEL], tmp_path / 'out', FAST)
    assert not (tmp_path / 'out').exists()


def test_help_names_every_option():
    ran = run_command(Path.cwd(), '--help')
    assert ran.returncode == 0 and 'None' not in ran.stdout and '(default: )' not in ran.stdout
    assert all(f'--{name}' in ran.stdout for name in ('checkpoint', 'to_labels', 'no_gru', 'folds', 'debug'))


def test_labels_with_commas_and_systems_are_found(toy):
    assert parse_labels(f'{LABEL}, Mortality,{LABEL}', toy) == [LABEL, 'Mortality']
    assert set(ApplySettings().systems) == set(APPLIED_SYSTEMS)


def test_a_network_that_reads_some_columns_has_an_untrained_twin(toy, folder, tmp_path):
    net = load_checkpoint(folder / 'net.safetensors')
    reads = [c for c in net.meta['columns'] if c.startswith('mask')]
    save_checkpoint(net, tmp_path / 'masks.safetensors', reads=reads)
    changed = Cohort(
        toy.events.assign(value=toy.events['value'].where(toy.events['channel'] != 'Glucose', 150.0)),
        toy.stays,
        toy.channels,
        toy.tasks,
        toy.meta,
    )
    for block in ('network', 'untrained'):
        found = [Material(cohort, tmp_path / 'masks.safetensors').features(block) for cohort in (toy, changed)]
        np.testing.assert_array_equal(*found)


# ---- labels of a file


def write_labels(toy, path, **changes):
    "A file of labels: identifiers with leading zeros, in another order."
    ids = [f'{stay:09d}' for stay in toy.stays['stay_id']]
    frame = pd.DataFrame(dict(Fall=ids, Own=toy.stays[LABEL].to_numpy(), Other=toy.stays['Mortality'].to_numpy()))
    frame = frame.sample(frac=1, random_state=0).assign(**changes)
    frame.to_csv(path, index=False) if path.suffix == '.csv' else frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize('suffix', ['.csv', '.parquet'])
def test_labels_of_a_file_are_those_of_the_cohort(toy, folder, tmp_path, suffix):
    labels = write_labels(toy, tmp_path / f'labels{suffix}')
    args = ['--checkpoint', folder / 'net.safetensors', '--cohort', folder / 'cohort', '--labels', labels]
    args += ['--out', 'out', '--systems', 'network-ridge', '--replicates', 50]
    done = run_command(tmp_path, *args)
    assert done.returncode == 0 and '2 fits made' in done.stdout, done.stderr
    results = pd.read_parquet(tmp_path / 'out' / 'results.parquet').set_index('label')
    settings = replace(FAST, systems=('network-ridge',), replicates=50)
    direct = apply_network(folder / 'net.safetensors', toy, [LABEL, 'Mortality'], tmp_path / 'direct', settings)
    np.testing.assert_array_equal(results['auroc'], direct.scores['auroc'])
    again = run_command(tmp_path, *args, '--label', 'Other,Mortality')
    assert '1 fits made, 1 kept' in again.stdout or '0 fits made, 2 kept' in again.stdout, again.stderr


def test_what_does_not_match_is_counted(toy, folder, tmp_path):
    ids = [f'{stay:09d}' for stay in toy.stays['stay_id']]
    frame = pd.DataFrame(dict(Fall=ids, Own=toy.stays[LABEL].to_numpy())).iloc[10:]
    frame = pd.concat([frame, frame.iloc[[0]], pd.DataFrame(dict(Fall=['x1', 'x2', None], Own=[1.0, 0.0, 1.0]))])
    frame.to_csv(tmp_path / 'labels.csv', index=False)
    args = ['--checkpoint', folder / 'net.safetensors', '--cohort', folder / 'cohort', '--labels', 'labels.csv']
    done = run_command(tmp_path, *args, '--out', 'out', '--systems', 'network-ridge', '--replicates', 50)
    n = len(frame)
    assert done.returncode == 0, done.stderr
    assert (
        f"note: 2 of {n} rows ({2 / n:.1%}) dropped: labels.csv: no stay of this cohort, of the form 'A9'"
        in done.stderr
    )
    assert f'note: 1 of {n} rows' in done.stderr and 'no identifier' in done.stderr and 'merged' in done.stderr
    assert f'labels.csv: 10 of {len(toy.stays)} stays have no row, and no label' in done.stderr


@pytest.mark.parametrize(
    ('changes', 'options', 'says'),
    [
        (dict(Own='perhaps'), dict(label='Own'), 'column Own: rows 0, 1, 2 and'),
        (dict(Own=1), dict(label='Own'), 'column Own: every label is 1'),
        (dict(Fall='12345x'), {}, 'ids is a stay of this cohort: theirs are of the form'),
        ({}, dict(label='Ohn'), "did you mean 'Own'?"),
        ({}, dict(labels='none.csv'), 'none.csv: no such file'),
        (dict(los_hours=1), {}, 'column los_hours: the cohort has one of this name'),
    ],
)
def test_a_wrong_file_of_labels_is_one_line(toy, folder, tmp_path, monkeypatch, capsys, changes, options, says):
    options = dict(labels=write_labels(toy, tmp_path / 'labels.csv', **changes)) | options
    options |= dict(checkpoint=folder / 'net.safetensors', cohort=folder / 'cohort', out='out')
    code, text = fails(monkeypatch, capsys, tmp_path, options)
    assert code == 2 and text.startswith('error: ') and text.count('\n') == 1 and says in text, text
    assert not (tmp_path / 'out').exists()


def test_truth_values_are_labels(toy, tmp_path):
    frame = pd.DataFrame(dict(case=toy.stays['stay_id'], Own=toy.stays[LABEL] == 1))
    frame.assign(Own=frame['Own'].astype(object).where(frame.index > 0)).to_csv(tmp_path / 'labels.csv', index=False)
    expected = frame['Own'].astype(float).to_numpy()
    np.testing.assert_array_equal(toy.with_labels(tmp_path / 'labels.csv').stays['Own'][1:], expected[1:])
    np.testing.assert_array_equal(toy.with_labels(frame).stays['Own'], expected)


def test_two_labels_of_one_stay_must_agree(toy):
    one = str(toy.stays['stay_id'].iloc[0])
    rows = pd.DataFrame(dict(case=[one, f'00{one}', *toy.stays['stay_id'].astype(str).iloc[1:3]], Own=[1, 0, 1, 0]))
    with pytest.raises(BadInput, match="labels: column Own: 1 stays have both 0 and 1, the first in rows 0, 1"):
        toy.with_labels(rows)


def test_an_index_of_numbers_is_no_identifier(toy):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(dict(case=rng.permutation(toy.stays['stay_id']), side=rng.normal(size=len(toy.stays))))
    frame['late'] = (frame['case'] < toy.stays['stay_id'].median()).astype(int)
    expected = (toy.stays['stay_id'] < toy.stays['stay_id'].median()).astype(float)
    for given, options in [
        (frame, {}),
        (frame.sort_values('side'), {}),
        (frame.sort_values('side'), dict(id_column='case')),
    ]:
        found = toy.with_labels(given, ['late'], **options).stays['late']
        np.testing.assert_array_equal(found, expected)
    by_index = frame.set_index('case').sort_values('side')
    np.testing.assert_array_equal(toy.with_labels(by_index, ['late']).stays['late'], expected)
    with pytest.raises(BadInput, match='no column of identifiers'):
        toy.with_labels(pd.DataFrame(dict(late=expected, early=1 - expected)).iloc[::-1])


def test_columns_that_are_no_labels_are_left_out_unless_they_were_named(toy):
    stays = toy.stays['stay_id']
    frame = pd.DataFrame(dict(STAY_ID=stays, stay_name=stays, a=toy.stays[LABEL], b=0, comment='fine'))
    with pytest.warns(InputWarning) as said:
        found = toy.with_labels(frame)
    assert [task.name for task in found.tasks[len(toy.tasks) :]] == ['a']
    assert 'left out: labels: column b: every label is 0' in str(said[0].message) and 'comment' in str(said[0].message)
    assert any('column b' in note for note in found.meta['label_notes'])
    with pytest.raises(BadInput, match='column b: every label is 0'):
        toy.with_labels(frame, ['a', 'b'])
    with pytest.raises(BadInput, match='every label is 0'):
        toy.with_labels(frame[['STAY_ID', 'b']])


def test_the_index_that_pandas_writes_is_no_identifier(toy, tmp_path):
    frame = pd.DataFrame(dict(stay_id=toy.stays['stay_id'], own=toy.stays[LABEL]))
    frame.to_csv(tmp_path / 'labels.csv')
    np.testing.assert_array_equal(toy.with_labels(tmp_path / 'labels.csv').stays['own'], toy.stays[LABEL])


def test_leading_zeros_of_texts_count(toy):
    named = Cohort(toy.events, toy.stays.assign(stay_name=[f'{i:05d}' for i in range(240)]), toy.channels, toy.tasks)
    rows = pd.DataFrame(dict(case=['00001', '1', '00002'], Own=[1, 0, 0]))
    with pytest.warns(InputWarning, match="no stay of this cohort, of the form '9'"):
        found = named.with_labels(rows)
    assert found.stays['Own'].iloc[:4].tolist()[1:3] == [1, 0] and found.stays['Own'].notna().sum() == 2
    assert found.tasks[-1].name == 'Own' and found.meta['losses'][0]['n'] == 1 and 'have no row' in found.meta['note']


def test_a_classifier_learns_labels_of_a_frame_and_the_cohort_can_be_saved(toy, folder, tmp_path):
    own = toy.stays.set_index('stay_id')[LABEL].rename('Own')
    joined = toy.with_labels(own)
    by_task = TransferClassifier(folder / 'net.safetensors', repeats=1).fit(joined, 'Own')
    direct = TransferClassifier(folder / 'net.safetensors', repeats=1).fit(toy, LABEL)
    np.testing.assert_array_equal(by_task.coef_, direct.coef_)
    assert Cohort.load(joined.save(tmp_path / 'cohort')).tasks[-1].name == 'Own'
    assert by_task.evaluate(joined, replicates=20).n > 0


# ---- labels and fits that say little


def test_a_label_with_too_few_subjects_is_left_out_and_said(toy, folder, tmp_path):
    stays = toy.stays.assign(Rare=(np.arange(len(toy.stays)) == 0).astype(float))
    cohort = Cohort(toy.events, stays, toy.channels, [*toy.tasks, replace(toy.tasks[0], name='Rare')], toy.meta)
    settings = replace(FAST, systems=('network-ridge',))
    with pytest.warns(InputWarning, match="left out: label 'Rare'"):
        result = apply_network(folder / 'net.safetensors', cohort, [LABEL, 'Rare'], tmp_path / 'out', settings)
    assert result.labels == [LABEL] and "Left out: label 'Rare'" in (tmp_path / 'out' / 'report.md').read_text()


def test_ridge_at_its_strongest_penalty_is_said_in_the_report(toy, folder, tmp_path):
    by_chance = np.random.default_rng(0).integers(0, 6, len(toy.stays)) == 0
    settings = replace(FAST, systems=('network-ridge', 'statistics-ridge'), folds=3, repeats=1)
    result = apply_network(
        folder / 'net.safetensors', with_labels(toy, by_chance.astype(float)), [LABEL], tmp_path / 'out', settings
    )
    row = result.scores.set_index('system').loc['network-ridge']
    assert row['constant'] == 0 and row['at_strongest'] > 0 and row['narrow'] > 0
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert 'network-ridge: chosen at the strongest penalty in' in text and 'test stays are predicted between' in text


def test_sentences_of_several_labels_are_written_once(applied, folder):
    text = (folder / 'out' / 'report.md').read_text(encoding='utf-8')
    assert text.count('every system was fitted once, to one set of labels') == 1
    assert 'All 2 labels: every system was fitted once' in text
    assert '| Label | Use | With the network | Best without it |' in text
    assert f'{LABEL}: An untrained network' in text and 'Mortality: An untrained network' in text


def test_a_curve_without_a_draw_says_so():
    curve = pd.DataFrame(dict(label='Rare', system=['network-ridge', 'LR'], labels=50, n_draws=[0, 0]))
    (sentence,) = explain_draws(curve, 10)
    assert sentence.startswith('Rare: network-ridge, LR: no draw has') and 'probability' not in sentence


@pytest.mark.skipif(chromium() is None, reason='needs Chromium')
def test_a_phone_reads_the_report_without_scrolling_sideways(applied, folder):
    with Browser(390, 844) as browser:
        browser.ask(
            'Emulation.setDeviceMetricsOverride',
            browser.session,
            width=390,
            height=844,
            deviceScaleFactor=1,
            mobile=True,
        )
        assert complaints(browser.open((folder / 'out' / 'report.html').as_uri())) == []
        assert browser.value('[document.documentElement.scrollWidth, window.innerWidth]') == [390, 390]
