"Two halves of a run, fitted apart, give the results of the whole."

import json
import shutil

import pandas as pd
import pytest
from in_process import in_this_process
from toy_run import make_toy_run

from rnn_transfer.evaluate import run_evaluate
from rnn_transfer.evaluation.provenance import _parts_table, _settings_table, _time_table
from rnn_transfer.experiment.combine import combine_runs
from rnn_transfer.experiment.plan import Step
from rnn_transfer.experiment.run import run_experiment
from rnn_transfer.experiment.status import read_states, render_index
from rnn_transfer.experiment.store import input_hashes, output_hashes
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

SETTINGS = TrainSettings(max_updates=3, eval_every=1, patience=2)
LINEAR, TRAINED = ['LR', 'MN-LR-2'], ['RNN-C']
STEPS = ['data', 'model', 'split-0/pretrain']
SEED_0 = 'split-0/fraction-0.5/seed-0'


def mark_done(run, name, needs):
    "The record that the batch leaves of a step."
    step = Step(name, '03_transfer', {}, needs)
    record = dict(key='k', parts={}, outputs=output_hashes(step, run), seen=input_hashes(step, run))
    (run / name / 'done.json').write_text(json.dumps(record))


def mark_finished(run, models, transfer):
    "What the batch leaves: a manifest, and a record of each step."
    for name, needs in zip(STEPS, ([], STEPS[:1], STEPS[1:2])):
        mark_done(run, name, needs)
    for name in transfer:
        mark_done(run, name, STEPS[2:])
    manifest = dict(steps=dict.fromkeys([*STEPS, *transfer], 'k'), options=dict(models=models, replicates=20))
    (run / 'manifest.json').write_text(json.dumps(manifest))


def change_manifest(run, **changes):
    "Other steps, options or parts in a run's manifest."
    file = run / 'manifest.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    return make_toy_run(tmp_path_factory.mktemp('start'), 3, SETTINGS)


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
    (other / 'split-0/pretrain/split.json').write_text('{"split": 0}')
    mark_finished(other, TRAINED, ['split-0/fraction-0.5/seed-0'])
    with pytest.raises(BadInput, match='split-0/pretrain wrote other files .* before the copy must run again'):
        combine_runs(linear, other, tmp_path / 'both')
    for name in ('split-0/pretrain', 'split-0/fraction-0.5/seed-0'):
        (other / name / 'done.json').unlink()
    with pytest.raises(BadInput, match='b: step split-0/pretrain is not finished'):
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


def own_network(start, folder):
    "A run that pre-trained for itself, from other initial weights, and fitted its systems on that."
    shutil.copytree(start, folder)
    shutil.rmtree(folder / 'split-0')
    run_pretrain(folder, n_held_out=2, hidden=[3], settings=SETTINGS, variants=[], seed=1)
    run_transfer(folder, fraction=0.5, seed=0, models=TRAINED, settings=SETTINGS)
    mark_finished(folder, TRAINED, [SEED_0])
    return folder


def test_fits_of_the_network_from_before_the_copy_are_not_combined(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), own_network(start, tmp_path / 'b')
    with pytest.raises(BadInput, match='pretrain wrote other files'):
        combine_runs(linear, trained, tmp_path / 'both')
    for name in STEPS:
        shutil.rmtree(trained / name)
        shutil.copytree(linear / name, trained / name)
    with pytest.raises(BadInput, match=f'b: step {SEED_0} is stale: what it was made from changed; .* --only {SEED_0}'):
        combine_runs(linear, trained, tmp_path / 'both')
    assert not (tmp_path / 'both').exists()
    run_transfer(trained, fraction=0.5, seed=0, models=TRAINED, settings=SETTINGS)
    mark_done(trained, SEED_0, STEPS[2:])
    assert read_states(combine_runs(linear, trained, tmp_path / 'both'))['state'].eq('done').all()


def test_steps_of_an_earlier_plan_and_changed_or_damaged_files_are_not_combined(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0, 1])
    plan = json.loads((trained / 'manifest.json').read_text())['steps']
    changed = {name: 'new' if '/seed-' in name else key for name, key in plan.items()}
    change_manifest(trained, steps=changed)
    message = f'b: step {SEED_0} is stale: the manifest plans it with other options.*, or all 2 stale steps'
    with pytest.raises(BadInput, match=message):
        combine_runs(linear, trained, tmp_path / 'both')
    change_manifest(trained, steps=plan)
    file, record = trained / SEED_0 / 'fits.parquet', trained / SEED_0 / 'done.json'
    before = file.read_bytes(), record.read_text()
    pd.read_parquet(file).assign(seconds=9).to_parquet(file)
    with pytest.raises(BadInput, match='its files changed'):
        combine_runs(linear, trained, tmp_path / 'both')
    file.write_bytes(before[0])
    record.write_text('{')
    with pytest.raises(BadInput, match='its done.json is damaged'):
        combine_runs(linear, trained, tmp_path / 'both')
    record.write_text(before[1])
    both = combine_runs(linear, trained, tmp_path / 'both')
    with pytest.raises(BadInput, match='both: step split-0/pretrain is stale: .*; combine the parts of that run again'):
        (both / 'split-0/pretrain/split.json').unlink()
        combine_runs(both, trained, tmp_path / 'three')


def test_steps_taken_out_of_a_manifest_are_not_asked_for(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0, 1])
    plan = json.loads((trained / 'manifest.json').read_text())['steps']
    record = trained / SEED_0.replace('seed-0', 'seed-1') / 'done.json'
    record.write_text(record.read_text().replace('"k"', '"old"'))
    change_manifest(trained, steps={name: key for name, key in plan.items() if 'seed-1' not in name})
    both = combine_runs(linear, trained, tmp_path / 'both')
    assert list(both.glob('split-0/fraction-0.5/*')) == [both / SEED_0]
    assert [part['unfinished'] for part in json.loads((both / 'manifest.json').read_text())['combined']] == [0, 0]


def test_runs_of_different_splits_are_said_to_be_that(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0])
    shutil.copytree(trained / 'split-0/pretrain', trained / 'split-1/pretrain')
    mark_done(trained, 'split-1/pretrain', STEPS[1:2])
    change_manifest(trained, steps=dict.fromkeys([*STEPS, 'split-1/pretrain', SEED_0], 'k'))
    for runs in ([linear, trained], [trained, linear]):
        with pytest.raises(BadInput, match='a: it plans no step split-1/pretrain; the runs have different splits'):
            combine_runs(*runs, tmp_path / 'both')


def test_options_of_the_whole_experiment_are_the_same_in_both_runs(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0])
    common = dict(batch=128, choose='nll')
    mine = common | dict(models=LINEAR, fractions=[0.5], seeds=[1], linear_seeds=[2], device='cpu', replicates=20)
    mine |= dict(fast_gru=True)
    yours = common | dict(models=TRAINED, fractions=[0.5, 1], seeds=[3], linear_seeds=[], device='cuda', gpus=0.5)
    yours |= dict(fast_gru=False)
    change_manifest(linear, options=mine)
    for name, value, shown in (('batch', 64, '64, and 128'), ('transfer.lr', 0.01, '0.01, and not set')):
        change_manifest(trained, options=yours | {name: value})
        with pytest.raises(BadInput, match=f'b: option {name} is {shown} in .*a; runs to combine may differ in models'):
            combine_runs(linear, trained, tmp_path / 'both')
    change_manifest(trained, options=yours | {'pretrain.device': 'cpu'})
    both = combine_runs(linear, trained, tmp_path / 'both')
    parts = json.loads((both / 'manifest.json').read_text())['combined']
    assert [part['options'] for part in parts] == [mine, yours | {'pretrain.device': 'cpu'}]


def test_the_report_shows_every_part_of_a_combined_run(start, tmp_path):
    linear, trained = fit(start, tmp_path / 'a', LINEAR, [0]), fit(start, tmp_path / 'b', TRAINED, [0])
    for run, commit, hardware in ((linear, 'c0ffee', dict(cpus=2)), (trained, 'decade', dict(gpu='NVIDIA H200'))):
        options = json.loads((run / 'manifest.json').read_text())['options'] | dict(
            seeds=[len(hardware)], device='auto'
        )
        change_manifest(run, options=options, commit=commit, hardware=hardware, profile='open', changed=['models'])
    assert _parts_table(linear) is None
    both = combine_runs(linear, trained, tmp_path / 'both')
    parts = _parts_table(both).frame
    assert parts['models'].tolist() == ['LR, MN-LR-2', 'RNN-C'] and parts['commit'].tolist() == ['c0ffee', 'decade']
    assert parts['device'].tolist() == ['auto', 'auto'] and parts['unfinished'].tolist() == ['0', '0']
    assert parts['machine'].tolist() == ['cpus 2', 'gpu NVIDIA H200'] and 'fast_gru' in parts
    settings = _settings_table(both).frame.set_index('Setting')['Value'].to_dict()
    assert settings == dict(models='LR, MN-LR-2, RNN-C', replicates='20')
    run_evaluate(both, replicates=20)
    page = (both / 'report.html').read_text()
    assert all(text in page for text in ('The parts of this run', 'decade', 'RNN-C'))


@pytest.mark.parametrize('kept_options, device', [(True, 'auto'), (False, '–')])
def test_the_published_combined_run_is_read_and_one_that_keeps_no_options(root, tmp_path, kept_options, device):
    manifest = json.loads((root / 'docs/results/physionet2012/manifest.json').read_text())
    if not kept_options:  # as combined runs were written before
        manifest['combined'] = [{k: v for k, v in part.items() if k != 'options'} for part in manifest['combined']]
    (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
    parts, settings = _parts_table(tmp_path).frame, _settings_table(tmp_path).frame
    assert parts['run'].tolist() == ['linear', 'shuffled', 'trained', 'ridge', 'tuned', 'trees']
    drawn = ['5, 5, 5', '5', '20, 10, 5', '5', '5, 5, 5', '20, 10, 5']
    assert parts['seeds'].tolist() == drawn and set(parts['device']) == {device}
    assert ['NVIDIA H200' in text for text in parts['machine']] == [False, False, True, False, True, False]
    assert parts['machine'][2].startswith('126 steps: ') and '54 steps: ' in parts['machine'][2]
    assert 'commit' not in set(settings['Setting'])


def test_a_run_of_two_places_is_combined_and_a_new_plan_is_not(tmp_path):
    "The runner's own records: pre-training copied, other systems fitted, then another plan without running it."
    toy_cohort().save(tmp_path / 'cohort')
    tiny = dict(splits=1, n_held_out=2, fractions=[1.0], seeds=[1], hidden=[3], variants=[], replicates=10)
    tiny |= dict(max_updates=2, eval_every=1, patience=1)
    a, b = tmp_path / 'a', tmp_path / 'b'
    with in_this_process():
        run_experiment(tmp_path / 'cohort', a, progress=False, models=LINEAR, **tiny)
        for name in STEPS:
            shutil.copytree(a / name, b / name)
        outcomes = run_experiment(tmp_path / 'cohort', b, progress=False, models=TRAINED, **tiny)
        assert [o.state for o in outcomes] == ['kept'] * 3 + ['done'] * 2
        both = combine_runs(a, b, tmp_path / 'both')
        assert set(run_evaluate(both, replicates=10).models) == {*LINEAR, *TRAINED}
        assert 'RNN-C 0.' in render_index(b) and 'h = 3' in render_index(b)
        new = tiny | dict(batch=64)
        run_experiment(tmp_path / 'cohort', b, progress=False, models=TRAINED, only='data', **new)
    assert 'RNN-C 0.' not in render_index(b) and 'h = 3' not in render_index(b)
    with pytest.raises(BadInput, match='b: step split-0/pretrain is stale: the manifest plans it with other options'):
        combine_runs(a, b, tmp_path / 'both')
    with pytest.raises(BadInput, match='step split-0/fraction-1/seed-0 was made with other options'):
        run_evaluate(b, replicates=10)
