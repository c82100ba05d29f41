"Two halves of a run, fitted apart, give the results of the whole."

import json
import shutil

import pandas as pd
import pytest
from in_process import in_this_process

from rnn_transfer.data import run_data
from rnn_transfer.evaluate import run_evaluate
from rnn_transfer.evaluation.provenance import _settings_table, _time_table
from rnn_transfer.experiment.combine import combine_runs
from rnn_transfer.experiment.run import run_experiment
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.model import run_model
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

SETTINGS = TrainSettings(max_updates=3, eval_every=1, patience=2)
LINEAR, TRAINED = ['LR', 'MN-LR-2'], ['RNN-C']
STEPS = ['data', 'model', 'split-0/pretrain']


def mark_finished(run, models, transfer):
    "What the batch leaves: a manifest, and a record of each step."
    for name in [*STEPS, *transfer]:
        record = dict(key='k', parts={}, outputs={f'{name}/x': 'h'}, seen={})
        (run / name / 'done.json').write_text(json.dumps(record))
    manifest = dict(steps=dict.fromkeys([*STEPS, *transfer], 'k'), options=dict(models=models, replicates=20))
    (run / 'manifest.json').write_text(json.dumps(manifest))


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    run = tmp_path_factory.mktemp('start')
    run_data(toy_cohort(), run)
    run_model(run, [3])
    run_pretrain(run, n_held_out=2, hidden=[3], settings=SETTINGS, variants=[])
    return run


def fit(start, folder, models, seeds):
    "A run folder with these systems."
    shutil.copytree(start, folder)
    for seed in seeds:
        run_transfer(folder, fraction=0.5, seed=seed, models=models, settings=SETTINGS)
    mark_finished(folder, models, [f'split-0/fraction-0.5/seed-{seed}' for seed in seeds])
    return folder


def test_two_halves_give_the_results_of_the_whole(start, tmp_path):
    whole = fit(start, tmp_path / 'whole', LINEAR + TRAINED, [0])
    halves = [fit(start, tmp_path / 'linear', LINEAR, [0]), fit(start, tmp_path / 'trained', TRAINED, [0])]
    both = combine_runs(*halves, tmp_path / 'both')
    results = [run_evaluate(run, replicates=20).results.drop(columns='seconds') for run in (whole, both)]
    pd.testing.assert_frame_equal(*results)
    manifest = json.loads((both / 'manifest.json').read_text())
    assert manifest['options']['models'] == LINEAR + TRAINED
    assert [part['models'] for part in manifest['combined']] == [LINEAR, TRAINED]
    third = fit(start, tmp_path / 'third', ['MN-LR-1'], [0])
    three = combine_runs(both, third, tmp_path / 'three')
    fits = pd.read_parquet(three / 'split-0/fraction-0.5/seed-0/fits.parquet')
    assert set(fits['model']) == {*LINEAR, *TRAINED, 'MN-LR-1'}


def test_label_subsets_that_one_run_has_are_kept(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0, 1]), fit(start, tmp_path / 'b', TRAINED, [0])
    both = combine_runs(linear, trained, tmp_path / 'both')
    fits = {p.parent.name: pd.read_parquet(p) for p in both.glob('split-0/fraction-0.5/*/fits.parquet')}
    assert set(fits['seed-0']['model']) == {*LINEAR, *TRAINED} and set(fits['seed-1']['model']) == set(LINEAR)


def test_a_combined_step_took_the_time_of_its_parts(start, tmp_path):
    "The seconds of the shared steps count once, those of both fits together; unknown in a part is unknown."
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0, 1]), fit(start, tmp_path / 'b', TRAINED, [0, 1])
    first, second = (f'split-0/fraction-0.5/seed-{seed}' for seed in (0, 1))
    for run, name, seconds in ((linear, first, 3.25), (trained, first, 100), (trained, second, 50)):
        file = run / name / 'done.json'
        file.write_text(json.dumps(json.loads(file.read_text()) | dict(seconds=seconds)))
    for run in (linear, trained):
        file = run / 'split-0/pretrain/done.json'
        file.write_text(json.dumps(json.loads(file.read_text()) | dict(seconds=7200)))
    both = combine_runs(linear, trained, tmp_path / 'both')
    records = {name: json.loads((both / name / 'done.json').read_text()) for name in (first, second)}
    assert records[first]['seconds'] == 103.25 and 'seconds' not in records[second]
    times = _time_table(both).frame.set_index('kind')
    assert times.loc['pre-training', 'hours'] == 2 and times.loc['transfer', ['steps', 'timed']].tolist() == [2, 1]
    assert times.loc['transfer', 'hours'] == pytest.approx(103.25 / 3600)


def test_a_model_in_both_or_other_networks_are_errors_that_leave_nothing(start, tmp_path):
    linear = fit(start, tmp_path / 'a', LINEAR, [0])
    with pytest.raises(BadInput, match='LR, MN-LR-2 fitted in both runs'):
        combine_runs(linear, linear, tmp_path / 'both')
    other = fit(start, tmp_path / 'b', TRAINED, [0])
    record = other / 'split-0/pretrain/done.json'
    record.write_text(record.read_text().replace('"h"', '"other"'))
    with pytest.raises(BadInput, match='step split-0/pretrain wrote other files'):
        combine_runs(linear, other, tmp_path / 'both')
    record.unlink()
    with pytest.raises(BadInput, match='split-0/pretrain is not finished'):
        combine_runs(linear, other, tmp_path / 'both')
    assert not (tmp_path / 'both').exists()


def test_a_run_that_went_on_elsewhere_names_both_machines(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0, 1])
    file = trained / 'split-0/fraction-0.5/seed-1/done.json'
    record = json.loads(file.read_text())
    made = (record.get('made') or {}) | dict(versions={'torch': '2.11.0'}, hardware={'gpu': 'NVIDIA H200'})
    file.write_text(json.dumps(record | dict(made=made)))
    parts = json.loads((combine_runs(linear, trained, tmp_path / 'both') / 'manifest.json').read_text())['combined']
    assert [[machine['steps'] for machine in part['machines']] for part in parts] == [[1], [1, 1]]
    assert parts[1]['machines'][1]['hardware'] == {'gpu': 'NVIDIA H200'}


def test_a_continued_run_names_the_machine_of_the_steps_it_keeps(tmp_path):
    toy_cohort().save(tmp_path / 'cohort')

    def again():
        with in_this_process():
            run_experiment(tmp_path / 'cohort', tmp_path / 'run', only='data', progress=False)
        return json.loads((tmp_path / 'run' / 'manifest.json').read_text())

    assert 'machines' not in again() and 'machines' not in again()
    file = tmp_path / 'run' / 'data' / 'done.json'
    record = json.loads(file.read_text())
    card = dict(hardware={'gpu': 'NVIDIA H200'}, versions=dict(torch='2.11.0'))
    file.write_text(json.dumps(record | dict(made=record['made'] | card)))
    assert again()['machines'] == [card | dict(steps=1)]
    settings = _settings_table(tmp_path / 'run').frame.set_index('Setting')['Value']
    assert settings['machine 1'] == '1 of the steps: gpu NVIDIA H200; torch 2.11.0'


def test_a_run_is_never_replaced_and_unfinished_steps_are_counted(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0, 1])
    with pytest.raises(BadInput, match='it is one of the two runs'):
        combine_runs(linear, trained, trained)
    with pytest.raises(BadInput, match='something other than a combined run'):
        combine_runs(linear, trained, start)
    (trained / 'split-0/fraction-0.5/seed-1/done.json').unlink()
    both = combine_runs(linear, trained, tmp_path / 'both')
    parts = json.loads((both / 'manifest.json').read_text())['combined']
    assert [part['unfinished'] for part in parts] == [0, 1]
    assert combine_runs(linear, trained, tmp_path / 'both') == both
