"The plan, its keys, whole runs at toy size through papermill and Dask, and the command lines as a user meets them."

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import portalocker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import in_this_process
from nbclient.exceptions import DeadKernelError

from rnn_transfer.data import Cohort, PreparedCohort
from rnn_transfer.estimators.extraction import extract_cohort_features
from rnn_transfer.evaluation.claim_register import CLAIMS
from rnn_transfer.evaluation.claim_rules import RULES_FILE, RULES_SHA256
from rnn_transfer.evaluation.hospitals import read_hospital_rules
from rnn_transfer.evaluation.label_notes import describe_exploratory
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment import commands
from rnn_transfer.experiment.cluster import local_cluster, local_workers, step_resources
from rnn_transfer.experiment.draws import count_planned_draws, describe_draws, why_exploratory
from rnn_transfer.experiment.execute import execute_step
from rnn_transfer.experiment.notebooks import STEP_NOTEBOOKS, notebook_parameters, notebooks_dir, skip_examples
from rnn_transfer.experiment.plan import plan_steps, with_dependencies
from rnn_transfer.experiment.profiles import PROFILES, check_options
from rnn_transfer.experiment.provenance import cohort_hash, make_manifest, read_cohort_description
from rnn_transfer.experiment.run import describe_plan, run_experiment
from rnn_transfer.experiment.status import (
    describe_status,
    estimate_time_left,
    parse_step_name,
    read_states,
    render_index,
)
from rnn_transfer.experiment.store import fill_in_keys, hash_code, one_at_a_time, only_driver, step_state
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities import code_hashes
from rnn_transfer.utilities.code_hashes import find_modules, hash_modules
from rnn_transfer.utilities.errors import BadInput

FEW = dict(models=['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'untrained-LR-2', 'no-removal-LR-2'], variants=['no-removal'])
TINY = (
    dict(
        splits=1,
        fractions=[0.5, 1.0],
        seeds=[1],
        hidden=[4],
        lr=1e-2,
        max_updates=20,
        patience=2,
        replicates=50,
        n_held_out=2,
    )
    | FEW
)
SETTINGS = 'lr=1e-2;max_updates=20;patience=2;replicates=50;n_held_out=2;' + ';'.join(
    f'{k}={v}' for k, v in FEW.items()
)  # of TINY, for the command line
TRANSFER = 'split-0/fraction-1/seed-0'  # a step of TINY


def bin(name):
    return str(Path(sys.executable).parent / name)


def cli(name, *args, cwd=None):
    return subprocess.run([bin(name), *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=500)


def steps_of(run, names, folder):
    "A new run folder with some finished steps of another."
    for name in names:
        shutil.copytree(run / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "One whole run at toy size: every notebook through papermill on two Dask workers."
    d = tmp_path_factory.mktemp('paper')
    toy = toy_cohort()
    for table in (toy.events, toy.stays):
        table['stay_id'] += 734_000_000  # ids that no other number looks like
    toy.stays['subject_id'] += 825_000_000
    toy.save(d / 'cohort')
    outcomes = run_experiment(d / 'cohort', d / 'run', 'quick', workers=2, **TINY)
    return d, outcomes


# ---- plan


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.5, 1.0]), min_size=1, unique=True),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_plan_is_complete_and_in_order(splits, fractions, few, rest):
    steps = plan_steps(dict(splits=splits, fractions=fractions, seeds=[few, rest]))
    seen = set()
    for s in steps:
        assert set(s.needs) <= seen and s.name not in seen
        seen.add(s.name)
    assert sum(s.kind == 'transfer' for s in steps) == splits * sum(few if f <= 0.05 else rest for f in fractions)


def test_linear_systems_have_draws_of_their_own():
    options = dict(splits=2, fractions=[0.05, 0.1, 0.2, 0.5, 1.0], seeds=[4, 3, 2], linear_seeds=[6, 3])
    models = ['LR', 'RNN-C', 'MN-LR-2:fine', 'GBT', 'shuffled-MN-LR-2']
    steps = {s.name: s.parameters['models'] for s in plan_steps(options | dict(models=models)) if s.kind == 'transfer'}
    n = {f: sum(name.startswith(f'split-0/fraction-{f:g}/') for name in steps) for f in options['fractions']}
    assert n == {0.05: 6, 0.1: 6, 0.2: 3, 0.5: 3, 1.0: 2}
    linear = ['LR', 'MN-LR-2:fine', 'shuffled-MN-LR-2']
    for fraction, trained in ((0.05, 4), (0.1, 3), (0.2, 3), (0.5, 2)):
        for seed in range(n[fraction]):
            expected = models if seed < trained else linear
            assert steps[f'split-1/fraction-{fraction:g}/seed-{seed}'] == expected
    assert steps['split-0/fraction-1/seed-0'] == models
    assert steps['split-0/fraction-1/seed-1'] == ['RNN-C', 'MN-LR-2:fine', 'shuffled-MN-LR-2']


def test_a_draw_with_nothing_to_fit_is_not_planned():
    options = dict(splits=1, seeds=[3], linear_seeds=[5], models=['LR', 'GBT'], fractions=[0.5, 1.0])
    names = [s.name for s in plan_steps(options) if s.kind == 'transfer']
    assert [name for name in names if 'fraction-1/' in name] == ['split-0/fraction-1/seed-0']
    assert len(names) == 5 + 1 and plan_steps(options)[-1].needs == names


def test_without_the_option_a_step_has_all_models():
    for profile in ('quick', 'open'):
        steps = [s for s in plan_steps(PROFILES[profile]) if s.kind == 'transfer']
        assert all(s.parameters['models'] == PROFILES[profile]['models'] for s in steps)
        assert not any('linear_seeds' in s.parameters for s in steps)
    one = plan_steps(PROFILES['quick'] | {'transfer.models': ['LR', 'RNN-C'], 'linear_seeds': [3]})
    assert one[-2].parameters['models'] == ['LR'] and one[-2].name == 'split-1/fraction-0.05/seed-2'


def test_profiles_with_few_draws_or_networks_are_exploratory():
    why = {name: why_exploratory(profile) for name, profile in PROFILES.items()}
    assert {name for name in why if why[name]} == {'quick', 'open'}
    for name in ('repeated', 'paper'):
        p = PROFILES[name]
        assert p['seeds'] == [20, 10, 5] and p['linear_seeds'] == [50, 20] and p['inits'] == 4
        assert {f'MN-LR-2@{i}' for i in range(1, 5)} <= set(p['models'])
    assert PROFILES['paper']['rnnc_hidden'] == PROFILES['paper']['hidden']
    assert why_exploratory(PROFILES['paper'] | dict(inits=1)) == '2 of 3 networks'
    given = PROFILES['paper'] | dict(pretrained='pretrained/0123456789abcdef.safetensors')
    assert why_exploratory(given) == '1 of 3 networks' and make_manifest(given, 'paper', {})['exploratory'] is True
    manifest = make_manifest(PROFILES['open'], 'open', {})
    assert manifest['exploratory'] is True and manifest['exploratory_reason'] == why['open']
    assert make_manifest(PROFILES['repeated'], 'repeated', {})['exploratory'] is False


def test_a_plan_counts_the_networks_that_are_read_and_the_draws_that_are_made():
    read, trained = ['LR', 'MN-LR-2', 'MN-LR-2@1', 'MN-LR-2@2'], dict(inits=2, fractions=[0.05, 1.0])
    enough = trained | dict(seeds=[20, 10, 5])
    assert why_exploratory(enough | dict(models=read)) == ''
    assert why_exploratory(enough | dict(models=read[:2])) == '1 of 3 networks'
    assert 'networks: 1\n' in describe_draws(enough | dict(models=read[:2]))
    assert why_exploratory(enough | {'models': read[:2], 'transfer.models': read}) == ''
    linear = trained | dict(seeds=[2], linear_seeds=[50, 20])
    assert why_exploratory(linear | dict(models=read)) == ''
    assert 'exploratory' not in describe_draws(linear | dict(models=read))
    assert why_exploratory(linear | dict(models=[*read, 'RNN-C'])).startswith('2 of 5 draws')
    assert why_exploratory(linear | dict(models=[*read, 'GBT'])) == ''  # no claim is about it
    fewer = enough | dict(models=read, inits=0)
    assert why_exploratory(fewer) == '1 of 3 networks' and why_exploratory(fewer | {'pretrain.inits': 2}) == ''


@pytest.mark.parametrize('change', [{}, dict(seeds=[2]), dict(models=['LR', 'RNN-C']), dict(inits=1)])
def test_a_plan_and_the_report_of_what_it_gives_say_the_same(change):
    options = dict(
        seeds=[5], fractions=[0.1, 1.0], inits=2, models=['LR', 'RNN-C', 'MN-LR-2', 'MN-LR-2@1', 'MN-LR-2@2']
    )
    options |= change
    planned = count_planned_draws(options)
    ev = toy_evaluation({name: 0.5 for name, _ in planned}, (0.1, 1.0), seeds=options['seeds'][0])
    assert why_exploratory(options).replace('; ', ' and ') in describe_exploratory(ev)
    assert bool(why_exploratory(options)) == bool(describe_exploratory(ev))


def test_dotted_options_of_pretraining_count_for_the_systems():
    options = PROFILES['quick'] | dict(models=['LR', 'MN-LR-2@1', 'AE-LR-2'], variants=[])
    with pytest.raises(BadInput, match='MN-LR-2@1 reads the network mimic-net@1'):
        check_options(options)
    with pytest.raises(BadInput, match='AE-LR-2 reads the network autoencoder'):
        check_options(options | {'pretrain.inits': 1})
    check_options(options | {'pretrain.inits': 1, 'pretrain.variants': ['autoencoder']})
    with pytest.raises(BadInput, match='MN-LR-2@1 reads the network'):
        check_options(options | {'inits': 1, 'pretrain.inits': 0})


def test_the_manifest_names_the_rules_of_verdicts_by_their_hashes():
    assert make_manifest(PROFILES['quick'], 'quick', {})['rules'] == {
        RULES_FILE: RULES_SHA256,
        'hospitals_rules.csv': read_hospital_rules().sha256,
    }


@pytest.mark.parametrize('profile', ['repeated', 'paper'])
def test_every_claim_can_have_a_verdict(profile):
    "All systems of a claim that have networks have five of them, by the paper's rule for lambda and on the fine grid."
    compared = {m for claim in CLAIMS for m in re.findall(r'(?:MN|untrained)-LR-[12]', claim.compared)}
    compared |= {'untrained-LR-2'}  # "the same features of an untrained network"
    assert {'MN-LR-1', 'MN-LR-2'} <= compared
    names = [f'{m}{by}{init}' for m in compared for by in ('', ':fine') for init in ('', '@1', '@2', '@3', '@4')]
    assert set(names) <= set(PROFILES[profile]['models'])


def test_a_folder_of_steps_can_be_asked_for():
    steps = plan_steps(PROFILES['repeated'])
    part = with_dependencies(steps, 'split-1/fraction-0.1')
    assert len(part) == 3 + 50 and {s.kind for s in part} == {'data', 'model', 'pretrain', 'transfer'}
    assert len(with_dependencies(steps, 'split-0/')) == 2 + 1 + 4 * 50 + 2 * 20 + 5
    with pytest.raises(BadInput, match='no such step'):
        with_dependencies(steps, 'split-0/fraction-0.')


def test_profiles_only_use_parameters_that_notebooks_have():
    for p in PROFILES.values():
        check_options(p)


def test_papermill_reads_the_same_parameters():
    "Its parser trips over signs in comments and then passes the parameter unseen."
    for n in STEP_NOTEBOOKS.values():
        assert list(papermill.inspect_notebook(str(notebooks_dir() / f'{n}.ipynb'))) == list(notebook_parameters(n)), n


def test_no_toy_default_of_a_notebook_reaches_a_run():
    declared = {notebook: set(notebook_parameters(notebook)) for notebook in STEP_NOTEBOOKS.values()}
    for profile in PROFILES.values():
        for s in plan_steps(profile):
            assert declared[s.notebook] - set(s.parameters) == set(), s.name
    for s in plan_steps(PROFILES['paper']):
        assert set(s.parameters) <= declared[s.notebook], s.name


@pytest.mark.parametrize('option', ['learning_rate', 'pretrain.fraction', 'tansfer.lr', 'patiense'])
def test_mistyped_parameters_are_refused_before_anything_starts(tmp_path, option):
    toy_cohort(60).save(tmp_path / 'c')
    with pytest.raises(BadInput, match=re.escape(option)):
        run_experiment(tmp_path / 'c', tmp_path / 'run', **TINY | {option: 1})
    assert not (tmp_path / 'run').exists() or not any(tmp_path.glob('run/*'))


def test_every_option_of_a_step_changes_its_key_and_those_after_it(monkeypatch):
    monkeypatch.setattr('rnn_transfer.experiment.store.hash_code', cache(hash_code))  # the code stays the same
    base = fill_in_keys(plan_steps(PROFILES['quick']), 'f')
    for option, value, first in (
        ('masks', False, 'data'),
        ('model.seed', 1, 'model'),
        ('pretrain.lr', 0.5, 'pretrain'),
        ('transfer.lr', 0.5, 'transfer'),
        ('evaluate.replicates', 7, 'evaluate'),
    ):
        other = fill_in_keys(plan_steps(PROFILES['quick'] | {option: value}), 'f')
        order = list(STEP_NOTEBOOKS)
        for a, b in zip(base, other):
            assert (a.key != b.key) == (order.index(a.kind) >= order.index(first)), (option, a.name)


# ---- whole runs


def test_a_run_leaves_what_contract_2_says(finished):
    d, outcomes = finished
    run = d / 'run'
    assert {o.state for o in outcomes} == {'done'}
    for p in (
        'manifest.json',
        'results.parquet',
        'results.csv',
        'report.html',
        'split-0/pretrain/mimic-net.safetensors',
        'split-0/fraction-0.5/seed-0/predictions.parquet',
        'split-0/fraction-1/seed-0/weights.parquet',
    ):
        assert (run / p).exists(), p
    results = pd.read_parquet(run / 'results.parquet')
    columns = [
        'split',
        'task',
        'task_kind',
        'model',
        'fraction',
        'seed',
        'n_train',
        'n_positive',
        'auroc',
        'auroc_low',
        'auroc_high',
        'auprc',
        'auprc_low',
        'auprc_high',
        'brier',
        'lambda',
        'hidden',
        'n_features',
        'n_near_zero',
        'seconds',
    ]
    assert list(results.columns[: len(columns)]) == columns and len(results) == 2 * 3 * results['model'].nunique()
    assert {'LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'untrained-LR-2', 'no-removal-LR-2'} <= set(results['model'])
    assert results.loc[results['reason'].isna(), 'auroc'].between(0, 1).all()


def test_nothing_is_run_twice(finished):
    d, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (d / 'run').rglob('*.parquet')}
    assert {o.state for o in run_experiment(d / 'cohort', d / 'run', 'quick', **TINY)} == {'kept'}
    assert before == {p: p.stat().st_mtime_ns for p in (d / 'run').rglob('*.parquet')}


def test_only_what_depends_on_a_change_is_stale(finished):
    d, _ = finished
    about = read_cohort_description(d / 'cohort')
    steps = fill_in_keys(plan_steps(PROFILES['quick'] | TINY | {'transfer.patience': 1}), cohort_hash(about))
    states = {s.kind: step_state(s, d / 'run') for s in steps}
    assert (
        states['pretrain'] == 'done'
        and states['transfer'] == 'stale: parameter patience changed'
        and states['evaluate'] == 'stale: inputs changed'
    )


def test_a_moved_run_is_still_finished(finished, tmp_path):
    d, _ = finished
    shutil.copytree(d / 'run', tmp_path / 'elsewhere')
    assert {o.state for o in run_experiment(d / 'cohort', tmp_path / 'elsewhere', 'quick', **TINY)} == {'kept'}


def assert_same_predictions(*runs):
    "What the evaluation reads, bit for bit; that it makes the same of it is asked of an interrupted run."
    for name in ('predictions', 'weights', 'path'):
        a, b = (pd.read_parquet(run / TRANSFER / f'{name}.parquet') for run in runs)
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_same_seed_same_results_whatever_the_workers(finished, tmp_path):
    d, _ = finished
    with in_this_process():
        run_experiment(d / 'cohort', tmp_path / 'run', 'quick', only=TRANSFER, **TINY)
    assert_same_predictions(d / 'run', tmp_path / 'run')


def test_nothing_published_names_a_machine_or_a_patient(finished):
    d, _ = finished
    texts = {
        p: p.read_text()
        for p in (d / 'run').rglob('*')
        if p.suffix in ('.ipynb', '.html', '.json', '.csv', '.md', '.svg') and p.is_file()
    }
    assert sum(p.suffix == '.ipynb' for p in texts) == 6
    for p, text in texts.items():
        assert (
            str(d) not in text and str(Path.home()) + '/' not in text and not re.search(r'ipykernel_\d|/tmp/', text)
        ), p
        numbers = {number.replace(',', '') for number in re.findall(r'(?<![\d.])\d[\d,]*', text)}
        assert not {n for n in numbers if re.fullmatch(r'(734|825)00[01]\d{3}', n)}, p


def test_too_few_phenotypes_are_refused_before_anything_starts(tmp_path):
    toy_cohort().save(tmp_path / 'c')
    with pytest.raises(BadInput, match='50 held-out phenotypes, but only'):
        run_experiment(tmp_path / 'c', tmp_path / 'run', **TINY | dict(n_held_out=50))
    assert not (tmp_path / 'run').exists()


def test_what_a_cohort_says_of_itself_is_part_of_the_key(tmp_path):
    d = toy_cohort(60).save(tmp_path / 'c')
    about = json.loads((d / 'cohort.json').read_text())
    before = cohort_hash(read_cohort_description(d))
    (d / 'cohort.json').write_text(json.dumps(about | dict(held_out_prevalence=[0, 1])))
    assert cohort_hash(read_cohort_description(d)) != before
    (d / 'cohort.json').write_text('[]')
    with pytest.raises(BadInput, match='not the description of a cohort'):
        read_cohort_description(d)


def test_a_failing_step_is_kept_and_stops_only_what_needs_it(finished, tmp_path, monkeypatch):
    d, _ = finished
    monkeypatch.setattr('rnn_transfer.experiment.run.check_splits', lambda *_: None)  # it would stop the run
    steps_of(d / 'run', ['data', 'model'], tmp_path / 'run')
    with pytest.raises(BadInput, match='split-0/pretrain: cell.*50 held-out phenotypes, but only') as e:
        run_experiment(
            d / 'cohort',
            tmp_path / 'run',
            command='rnn_transfer_paper --cohort c',
            **TINY | {'pretrain.n_held_out': 50},
        )
    head, line = str(e.value).split('\n')
    assert head.startswith('1 of 6 steps failed, 3 that need them were left out') and line.endswith(
        'again: rnn_transfer_paper --cohort c --only split-0/pretrain'
    )
    said = cli('rnn_transfer_status', tmp_path / 'run').stdout
    assert '1 failed' in said and re.search(
        'failed: split-0/pretrain: cell.*50 held-out phenotypes, but only.*--only split-0/pretrain', said
    )
    assert str(tmp_path) not in next(tmp_path.glob('run/split-0/pretrain/*.failed.ipynb')).read_text()
    assert (tmp_path / 'run/model/done.json').exists() and not (tmp_path / 'run/split-0/pretrain/done.json').exists()
    failed = nbformat.read(tmp_path / 'run/split-0/pretrain/02_pretrain.failed.ipynb', 4)
    assert any(o.output_type == 'error' for c in failed.cells if c.cell_type == 'code' for o in c.outputs)
    page = (tmp_path / 'run/index.html').read_text()
    assert (
        '<a href="split-0/pretrain/02_pretrain.failed.ipynb">' in page
        and '50 held-out phenotypes, but only' in page
        and 'report.html' not in page
        and 'split=0, fraction=1.0, seed=0' in page
    )
    (tmp_path / 'run/split-0/pretrain/02_pretrain.ipynb').write_text('{}')
    (tmp_path / 'run/split-0/pretrain/done.json').write_text('{"key": "old"}')  # of an earlier success
    assert '02_pretrain.failed.ipynb' in render_index(tmp_path / 'run') and '1 failed' in describe_status(
        tmp_path / 'run'
    )


def test_the_index_escapes_what_a_cohort_says_of_itself(tmp_path):
    (tmp_path / 'manifest.json').write_text(
        json.dumps(dict(steps={'data': 'x'}, cohort=dict(source='A<script>alert(1)</script>'), profile='quick'))
    )
    page = render_index(tmp_path)
    assert '<script' not in page and 'A&lt;script' in page


def test_a_second_driver_is_refused(tmp_path):
    first, second = only_driver(tmp_path / 'run'), only_driver(tmp_path / 'run')
    with first, pytest.raises(BadInput, match='another driver'), second:
        pass


def test_a_new_driver_sweeps_only_what_a_run_left(tmp_path):
    "Somebody may name a folder of their own as run folder, or a worker may still be at work in it."
    ours = [
        tmp_path / n
        for n in (
            '.results.csv.0123456789ab.tmp.csv',
            'split-0/fraction-1/seed-0/.done.json.0123456789ab.tmp.json',
            '.executing/model.0123456789ab.ipynb',
        )
    ]
    theirs = [tmp_path / n for n in ('.notes.tmp', '.cache.tmpdir/a', 'mine/.done.json.0123456789ab.tmp.json')]
    for p in ours + theirs:
        p.parent.mkdir(parents=True, exist_ok=True)
        p.touch()
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'f')[1]
    with one_at_a_time(step, tmp_path):
        with only_driver(tmp_path):
            pass
        assert all(p.exists() for p in ours + theirs), 'a worker is at work'
    with only_driver(tmp_path):
        pass
    assert not any(p.exists() for p in ours) and all(p.exists() for p in theirs)


def test_time_left_knows_that_a_step_has_one_worker():
    t = pd.DataFrame(
        dict(
            step=['model', 'split-0/pretrain', 'split-1/pretrain', 'evaluate'],
            kind=['model', 'pretrain', 'pretrain', 'evaluate'],
            state=['done', 'done', 'stale', 'stale'],
            seconds=[5, 3600, 3600, 600],
        )
    )
    assert estimate_time_left(t, 16) == pytest.approx(4200) and estimate_time_left(t[:2], 2) is None
    noisy = pd.DataFrame(
        dict(
            step=['model', *(f'split-0/fraction-{f}/seed-0' for f in (1, 0.9, 0.01))],
            kind=['model'] + ['transfer'] * 3,
            state=['done'] * 3 + ['waiting'],
            seconds=[5, 900, 700, None],
        )
    )
    assert estimate_time_left(noisy, 1) == pytest.approx(5), 'no step is shorter than the start of a kernel'


def test_a_dead_kernel_is_tried_once_more(tmp_path, monkeypatch):
    toy_cohort(60).save(tmp_path / 'cohort')
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'f')[0]
    calls = []

    def once(*a, **k):
        calls.append(1)
        if len(calls) == 1:
            raise DeadKernelError('Kernel died')
        return papermill_run(*a, **k)

    papermill_run = papermill.execute_notebook
    monkeypatch.setattr(papermill, 'execute_notebook', once)
    assert execute_step(step, str(tmp_path), 'cohort').state == 'done' and len(calls) == 2


def test_a_killed_kernel_is_tried_once_more(tmp_path):
    import signal
    import threading
    import time

    from kill_resume import left_behind

    toy_cohort(60).save(tmp_path / 'cohort')
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'f')[0]
    killed = []

    def kill():
        end = time.time() + 60
        while not killed and time.time() < end:
            for p in left_behind(tmp_path, 0):
                os.kill(p, signal.SIGKILL)
                killed.append(p)
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    out = execute_step(step, str(tmp_path), 'cohort')
    thread.join()
    assert out.state == 'done' and len(killed) == 1, out


def test_a_worker_with_other_code_refuses(tmp_path):
    toy_cohort(60).save(tmp_path / 'cohort')
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'f')[0]
    step.parts['version'] = '0.0.0'
    out = execute_step(step, str(tmp_path), 'cohort')
    assert out.state == 'failed' and 'other code for 00_data' in out.why and not (tmp_path / 'data/done.json').exists()


def changed_kinds(monkeypatch, module: str) -> set[str]:
    "The kinds of step that are stale after one line of a module changed."
    before = fill_in_keys(plan_steps(PROFILES['quick']), 'a cohort')
    text = code_hashes._module_text

    def changed(path):
        return text(path) + ('x = 1' if path.as_posix().endswith(f'rnn_transfer/{module}') else '')

    monkeypatch.setattr(code_hashes, '_module_text', changed)
    after = fill_in_keys(plan_steps(PROFILES['quick']), 'a cohort')
    return {old.kind for old, new in zip(before, after) if old.parts['modules'] != new.parts['modules']}


@pytest.mark.parametrize(
    'module, kinds',
    [
        ('evaluation/measures.py', {'evaluate'}),
        ('learning/trees.py', {'transfer', 'evaluate'}),
        ('learning/training.py', {'pretrain', 'transfer', 'evaluate'}),
        ('cohorts/hourly.py', {'data', 'model', 'pretrain', 'transfer', 'evaluate'}),
    ],
)
def test_a_changed_module_makes_the_steps_that_use_it_stale(monkeypatch, module, kinds):
    assert changed_kinds(monkeypatch, module) == kinds


def test_how_runs_are_executed_is_no_part_of_a_key():
    for notebook in STEP_NOTEBOOKS.values():
        source = (notebooks_dir() / f'{notebook}.ipynb').read_text(encoding='utf-8')
        assert source and set(hash_code(notebook)) == {'notebook', 'modules'}
    names = {path.parent.name for path in find_modules('from rnn_transfer.evaluate import run_evaluate')}
    assert not names & {'experiment', 'sources'}


def test_a_module_that_is_edited_while_we_run_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(code_hashes, '_package_path', lambda: tmp_path)
    for name, text in dict(a='from . import b', b='', c='').items():
        (tmp_path / f'{name}.py').write_text(text)
    before = hash_modules('from rnn_transfer import a')
    (tmp_path / 'b.py').write_text('from rnn_transfer import c')
    after = hash_modules('from rnn_transfer import a')
    assert set(before) == {'a', 'b'} and set(after) == {'a', 'b', 'c'}
    assert before['a'] == after['a'] and before['b'] != after['b']


def test_a_module_is_parsed_once_for_all_plans(monkeypatch):
    code_hashes._imported_names.cache_clear()
    parsed, parse = [], code_hashes.ast.parse
    monkeypatch.setattr(code_hashes.ast, 'parse', lambda text: parsed.append(text) or parse(text))
    for _ in range(2):
        hash_modules('from rnn_transfer.evaluate import run_evaluate')
    assert len(parsed) > 20 and len(set(parsed)) == len(parsed)


def test_declared_parameters_are_no_ones_to_change():
    notebook_parameters('02_pretrain')['variants'].append('another')
    assert 'another' not in notebook_parameters('02_pretrain')['variants']


def test_a_step_finished_by_an_older_version_is_stale_with_a_reason(tmp_path):
    "It remembered the notebook's hash alone."
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'a cohort')[0]
    old = {name: value for name, value in step.parts.items() if name != 'modules'}
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'done.json').write_text(json.dumps(dict(key='0', parts=old, outputs={}, seen={})))
    assert step_state(step, tmp_path) == 'stale: modules changed'


def test_a_stale_step_names_the_modules_and_parameters_that_changed(tmp_path):
    step = fill_in_keys(plan_steps(PROFILES['quick']), 'a cohort')[0]
    modules = step.parts['modules'] | {'cohorts.channels': '0', 'cohorts.hourly': '0'}
    old = step.parts | dict(modules=modules, parameters=step.parts['parameters'] | dict(hours=1))
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'done.json').write_text(json.dumps(dict(key='0', parts=old, outputs={}, seen={})))
    expected = 'stale: module cohorts.channels, module cohorts.hourly, parameter hours changed'
    assert step_state(step, tmp_path) == expected


def test_an_example_cell_is_no_part_of_a_key(tmp_path, monkeypatch):
    "Only what a step executes makes it stale: an example before Run may change, a cell of Run may not."
    source = nbformat.read(notebooks_dir() / '00_data.ipynb', 4)
    codes = []
    for heading in (0, len(source.cells)):
        nb = nbformat.from_dict(source)
        run = next(i for i, c in enumerate(nb.cells) if c.source.startswith('## Run'))
        nb.cells.insert(run if heading == 0 else heading, nbformat.v4.new_code_cell('1 + 1'))
        nbformat.write(nb, tmp_path / '00_data.ipynb')
        monkeypatch.setattr('rnn_transfer.experiment.notebooks.notebooks_dir', lambda: tmp_path)
        codes.append(hash_code('00_data')['notebook'])
        nb.cells.pop(run if heading == 0 else -1)
    monkeypatch.undo()
    assert codes[0] == hash_code('00_data')['notebook'] != codes[1]


def test_a_copy_skips_examples_and_nothing_else():
    nb = nbformat.v4.new_notebook()
    sources = ['#| export\ndef f(): return 1', 'f()', 'import math', 'a = 1', 'f() + a']
    nb.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nb.cells[3].metadata['tags'] = ['parameters']
    nb.cells.insert(4, nbformat.v4.new_markdown_cell('## Run'))
    assert skip_examples(nb) == 1
    assert [c.source for c in nb.cells if 'skip-execution' in c.metadata.get('tags', [])] == ['f()']


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(portalocker, 'lock', none)
    with pytest.raises(BadInput, match='this file system has no locks'), only_driver(tmp_path / 'run'):
        pass


def test_an_executed_notebook_may_be_saved_again(finished, tmp_path):
    d, _ = finished
    shutil.copytree(d / 'run', tmp_path / 'run')
    for p in (tmp_path / 'run').rglob('*.ipynb'):
        p.write_text(p.read_text() + '\n')
    (tmp_path / 'run/tables/.DS_Store').touch()
    steps = fill_in_keys(plan_steps(PROFILES['quick'] | TINY), cohort_hash(read_cohort_description(d / 'cohort')))
    assert {step_state(s, tmp_path / 'run') for s in steps} == {'done'}


@pytest.mark.parametrize(
    'options, message',
    [
        ({'fraction': 0.1}, 'the plan itself sets it'),
        ({'transfer.seed': 5}, 'the plan itself sets it'),
        ({'data.run': 'x'}, 'the plan itself sets it'),
        ({'device': 'cdua'}, 'expected auto, cpu, cuda'),
        ({'lr': 'fast'}, 'expected a number'),
        ({'hidden': [0]}, 'expected whole numbers above 0'),
        ({'models': ['LRR']}, "'LRR'"),
        ({'normaliser': 'trian'}, 'expected train'),
        ({'replicates': 'many'}, 'expected a whole number'),
        ({'models': ['MN-LR-2@3']}, 'raise inits'),
        ({'masks': 1}, 'expected True or False'),
        ({'workers': 0}, 'workers 0'),
        ({'only': 'split-7/pretrain'}, 'no such step'),
        ({'variants': ['no-removal', 'typo']}, 'expected some of no-removal'),
        ({'replicates': -5}, 'expected 0 or more'),
        ({'inits': -1}, 'expected 0 or more'),
        ({'hidden': [32.5]}, 'expected whole numbers above 0'),
        ({'hidden': []}, 'expected at least one'),
        ({'models': []}, 'expected at least one'),
        ({'lambdas': []}, 'expected at least one'),
        ({'lambdas': [0.0]}, 'expected numbers above 0'),
        ({'autoencoder_updates': -3}, 'expected 0 or more'),
        ({'lr': float('nan')}, 'expected a number above 0'),
        ({'n_held_out': 0}, 'expected a number above 0'),
        ({'gpus': 0}, 'gpus 0: expected the fraction of a card'),
        ({'seeds': [4, 3, 2, 1]}, 'up to three whole numbers'),
        ({'linear_seeds': [3, 2, 1]}, 'one or two whole numbers, up to 10 %'),
        ({'linear_seeds': [0]}, 'one or two whole numbers, up to 10 %'),
        ({'gpus': 'half'}, 'gpus half: expected the fraction'),
        ({'low': '5%'}, 'expected a fraction from 0 to 1'),
        ({'high': 5}, 'expected a fraction from 0 to 1'),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_before_anything_starts(tmp_path, options, message):
    toy_cohort(60).save(tmp_path / 'c')
    with pytest.raises(BadInput, match=message):
        run_experiment(tmp_path / 'c', tmp_path / 'run', **TINY | options)
    assert not (tmp_path / 'run').exists()


# ---- the same thing as a person types it


def test_features_of_a_checkpoint(finished, tmp_path):
    d, _ = finished
    r = cli(
        'rnn_transfer_features',
        '--cohort',
        d / 'cohort',
        '--checkpoint',
        d / 'run/split-0/pretrain/mimic-net.safetensors',
        '--out',
        tmp_path / 'z.parquet',
    )
    assert r.returncode == 0, r.stderr
    z = pd.read_parquet(tmp_path / 'z.parquet')
    data = PreparedCohort.load(d / 'run')
    from rnn_transfer.model import extract_features, load_checkpoint

    np.testing.assert_allclose(
        z.drop(columns='stay_id'),
        extract_features(load_checkpoint(d / 'run/split-0/pretrain/mimic-net.safetensors'), data.X),
        atol=1e-5,
    )
    assert list(z['stay_id']) == list(data.stays['stay_id'])
    other = toy_cohort(30)
    other.channels[0].name = 'Pulse'
    other.events['channel'] = other.events['channel'].cat.rename_categories({'Heart rate': 'Pulse'})
    other.save(tmp_path / 'other')
    with pytest.raises(BadInput, match='reads Heart rate, which this cohort does not have'):
        extract_cohort_features(Cohort.load(tmp_path / 'other'), d / 'run/split-0/pretrain/mimic-net.safetensors')


@pytest.mark.parametrize(
    'args, message',
    [
        (('rnn_transfer_cohort', 'eicu'), "source 'eicu': expected synthetic"),
        (('rnn_transfer_cohort', 'physionet2012'), '--path is missing'),
        (
            ('rnn_transfer_cohort', 'mimic3_benchmarks', '--path', 'x', '--corrected', 'all'),
            '--corrected: mimic3_benchmarks has no such option; it has --path',
        ),
        (('rnn_transfer_cohort', 'synthetic', '--out', '/proc/none/c'), '--out /proc/none/c: /proc cannot be written'),
        (('rnn_transfer_verify', '--cohort', 'c', '--export', 'e'), 'give --cohort, or --export and --hashes'),
        (('rnn_transfer_cohort', 'physionet2012', '--path', 'nowhere'), 'nowhere'),
        (('rnn_transfer_paper', '--cohort', 'nowhere'), 'no cohort.json'),
        (('rnn_transfer_paper', '--seeds', 'few'), '--seeds few: expected whole numbers'),
        (('rnn_transfer_paper', '--set', 'patience'), '--set patience: expected name=value'),
        (
            ('rnn_transfer_paper', '--profile', 'nope', '--dry-run'),
            "profile 'nope': expected quick, open, repeated, paper",
        ),
        (('rnn_transfer_paper', '--fractions', '2'), 'fractions [2.0]: expected numbers above 0 and at most 1'),
        (('rnn_transfer_paper', '--seeds', '4,3,2,1'), 'seeds [4, 3, 2, 1]: expected up to three whole numbers'),
        (('rnn_transfer_paper', '--splits', '0'), 'splits 0: expected a whole number above 0'),
        (('rnn_transfer_paper', '--dry-run'), '--dry-run needs --cohort'),
        (('rnn_transfer_features', '--cohort', 'nowhere'), '--checkpoint is missing'),
        (('rnn_transfer_export', '--path', 'nowhere', '--out', 'x'), 'nowhere'),
        (('rnn_transfer_verify',), 'give --cohort, or --export and --hashes'),
        (
            ('rnn_transfer_features', '--cohort', 'nowhere', '--checkpoint', 'x.safetensors', '--out', 'z.txt'),
            'ending in .parquet or .csv',
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, args, message, monkeypatch, capsys):
    "In this process; the next test starts a program."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [*args])
    with pytest.raises(SystemExit) as stopped:
        getattr(commands, args[0])()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith('error: ') and said.count('\n') == 1 and message in said, said
    assert not list(tmp_path.iterdir())


def test_a_program_ends_in_one_line_and_leaves_nothing(tmp_path):
    r = cli('rnn_transfer_cohort', 'eicu', cwd=tmp_path)
    assert r.returncode == 2 and r.stderr.startswith("error: source 'eicu': expected") and r.stderr.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path):
    r = cli('rnn_transfer_cohort', 'eicu', '--debug', cwd=tmp_path)
    assert r.returncode == 1 and 'Traceback' in r.stderr


@pytest.mark.parametrize(
    'name',
    [
        'rnn_transfer_cohort',
        'rnn_transfer_paper',
        'rnn_transfer_features',
        'rnn_transfer_status',
        'rnn_transfer_export',
        'rnn_transfer_verify',
        'rnn_transfer_pretrain',
        'rnn_transfer_apply',
        'rnn_transfer_join',
        'rnn_transfer_combine',
    ],
)
def test_help_is_for_people(name):
    r = cli(name, '--help')
    assert r.returncode == 0 and 'usage' in r.stdout and '--debug' in r.stdout and 'None' not in r.stdout


def test_dry_run_says_what_and_why(finished, tmp_path):
    d, _ = finished
    r = cli(
        'rnn_transfer_paper',
        '--cohort',
        d / 'cohort',
        '--out',
        d / 'run',
        '--splits',
        1,
        '--fractions',
        '.5,1',
        '--seeds',
        1,
        '--hidden',
        4,
        '--dry-run',
        '--set',
        SETTINGS + ';transfer.batch=64',
    )
    assert r.returncode == 0 and 'split-0/fraction-1/seed-0' in r.stdout, r.stderr
    assert (
        re.search(r'^3 of 6 steps to do; about \d+\.\d minutes with', r.stdout, re.M)
        and 'parameter batch changed' in r.stdout
    )
    said = describe_plan(d / 'cohort', tmp_path, 'quick', TINY, 2, 'split-0/pretrain')
    assert re.search('^3 of 3 steps to do; no step of kind data, model, pretrain was timed here yet$', said, re.M)
    assert re.search(
        r'^few labels: 1 draw of the labels and 1 network: exploratory .*: 0\.02 with \d+ draws, ', said, re.M
    )


# ---- what a person sees


def test_status_of_a_finished_and_of_a_broken_run(finished, tmp_path):
    d, _ = finished
    shutil.copytree(d / 'run', tmp_path / 'run')
    assert cli('rnn_transfer_status', tmp_path / 'run').stdout == '6 done of 6 steps; no driver is at work\n'
    (tmp_path / 'run/.executing/split-0+fraction-1+seed-0.left.ipynb').write_text('{}')  # of a driver that was killed
    (tmp_path / 'run/evaluate/done.json').unlink()
    (tmp_path / 'run/split-0/pretrain/done.json').write_text('{"key": "old"}')
    with only_driver(tmp_path / 'run'):
        out = cli('rnn_transfer_status', tmp_path / 'run').stdout
    assert out.startswith('4 done, 1 waiting, 1 stale of 6 steps; a driver is at work')
    r = cli('rnn_transfer_status', tmp_path)
    assert r.returncode == 2 and 'is this the folder of a run?' in r.stderr


def test_index_links_every_executed_notebook(finished):
    d, _ = finished
    page = (d / 'run/index.html').read_text()
    links = re.findall(r'<a href="([^"]+\.ipynb)"', page)
    assert (
        len(links) == 6
        and all((d / 'run' / link).exists() for link in links)
        and 'LR 0.' in page
        and 'synthetic' in page
    )
    assert all(re.search(rf'<td>{s}</td><td>\d+</td>', page) for s in read_states(d / 'run')['seconds']), (
        'seconds and peak memory of each run'
    )


def test_the_numbers_in_a_steps_name():
    assert (
        parse_step_name('split-1/fraction-1e-05/seed-2') == dict(split=1, fraction=1e-5, seed=2)
        and parse_step_name('evaluate') == {}
    )


def test_one_step_and_what_it_needs():
    steps = plan_steps(PROFILES['quick'])
    assert [s.name for s in with_dependencies(steps, 'split-1/pretrain')] == ['data', 'model', 'split-1/pretrain']
    with pytest.raises(BadInput, match='no such step'):
        with_dependencies(steps, 'split-7')


def test_gpu_runs_claim_a_card():
    steps = plan_steps(PROFILES['quick'])
    assert {s.kind for s in steps if step_resources(s, True)} == {'pretrain', 'transfer'} and not any(
        step_resources(s, False) for s in steps
    )
    assert (
        local_workers(8, 2) == [0, 1] + [None] * 6
        and local_workers(4, 1, 0.5) == [0, 0, None, None]
        and local_workers(2) == [None, None]
    )
    on_a_card = {share: local_workers(99, 1, share).count(0) for share in (0.05, 0.06, 0.1, 1 / 3, 0.6, 1, 1 / 93)}
    assert list(on_a_card.values()) == [20, 16, 10, 3, 1, 1, 93], 'never more than fit on a card'


def at_work(folder, name):
    "A run on a card, in a worker: which card it sees, and how many are at work when it begins."
    import os
    import time
    from pathlib import Path

    mark = Path(folder) / name
    mark.touch()
    n = len(list(Path(folder).iterdir()))
    time.sleep(0.3)
    mark.unlink()
    return os.environ.get('CUDA_VISIBLE_DEVICES'), n


def work_and_count(file):
    "A job that writes a line when it begins, and takes a while."
    import time

    with Path(file).open('a') as f:
        f.write(f'{os.getpid()}\n')
    time.sleep(3)
    return os.getpid()


def test_a_worker_that_slept_goes_on_with_its_step(tmp_path):
    "As on a laptop that was closed: Dask would give up a worker that was silent, and begin its step again."
    import signal
    import time

    import dask
    from dask.distributed import Client

    begun = tmp_path / 'begun'
    with (
        dask.config.set({'distributed.scheduler.worker-ttl': '1s'}),
        local_cluster([None]) as local,
        Client(local) as client,
    ):
        job = client.submit(work_and_count, str(begun), pure=False)
        while not (begun.exists() and begun.read_text().endswith('\n')):
            time.sleep(0.05)
        worker = int(begun.read_text())
        os.kill(worker, signal.SIGSTOP)
        time.sleep(12)
        os.kill(worker, signal.SIGCONT)
        assert job.result(timeout=60) == worker and begun.read_text().split() == [str(worker)]


def test_a_card_serves_one_run_at_a_time(tmp_path):
    from dask.distributed import Client

    with local_cluster(local_workers(3, cards=1)) as local, Client(local) as client:
        client.wait_for_workers(3)
        jobs = [client.submit(at_work, str(tmp_path), str(i), resources={'GPU': 1}, pure=False) for i in range(4)]
        assert client.gather(jobs) == [('0', 1)] * 4


# ---- a cluster, and faults


def test_scheduler_and_workers_over_tcp_give_the_same_results(finished, tmp_path):
    from kill_resume import Cluster

    d, _ = finished
    steps_of(d / 'run', ['data', 'model'], tmp_path / 'run')
    with Cluster() as c:
        run_experiment(d / 'cohort', tmp_path / 'run', 'quick', scheduler=c.address, only=TRANSFER, **TINY)
        assert re.search(
            r'about \d+\.\d minutes with 2 workers',
            describe_plan(
                d / 'cohort', tmp_path / 'run', 'quick', TINY | {'evaluate.seed': 1}, 16, scheduler=c.address
            ),
        ), 'those of the scheduler'
    assert_same_predictions(d / 'run', tmp_path / 'run')


@pytest.mark.parametrize('sent, code', [('SIGINT', 130), pytest.param('SIGTERM', 143, marks=pytest.mark.slow)])
def test_an_interrupt_is_one_line_and_leaves_a_resumable_run(finished, tmp_path, sent, code):
    "Ctrl-C reaches every process of the group, the workers and kernels too; a termination only the driver."
    import signal
    import time

    d, _ = finished
    run = tmp_path / 'run'
    args = [
        '--cohort',
        d / 'cohort',
        '--out',
        run,
        '--splits',
        1,
        '--fractions',
        1,
        '--seeds',
        1,
        '--hidden',
        4,
        '--set',
        SETTINGS,
    ]
    p = subprocess.Popen(
        [bin('rnn_transfer_paper'), *map(str, args), '--workers', '2'],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a suite that runs in the background does not hear it
    while not (run / 'data' / 'done.json').exists() and p.poll() is None:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(p.pid, signal.SIGINT) if sent == 'SIGINT' else p.send_signal(signal.SIGTERM)
    error = p.communicate(timeout=120)[1]
    last = [line for line in error.splitlines() if line.startswith('error')]
    assert (
        p.returncode == code
        and len(last) == 1
        and 'the same command goes on from here' in last[0]
        and 'Traceback' not in error
    ), error
    assert re.match(
        r'[1-4] done, [1-4] waiting of 5 steps; no driver is at work', cli('rnn_transfer_status', run).stdout
    )
    when = (run / 'data' / 'done.json').stat().st_mtime_ns
    again = cli('rnn_transfer_paper', *args)
    assert again.returncode == 0 and (run / 'data' / 'done.json').stat().st_mtime_ns == when, again.stderr
    a, b = (pd.read_parquet(r / 'results.parquet').drop(columns='seconds') for r in (d / 'run', run))
    pd.testing.assert_frame_equal(a.query('fraction == 1').reset_index(drop=True), b, check_exact=True)


def test_no_scheduler_answers(tmp_path):
    toy_cohort(60).save(tmp_path / 'c')
    with pytest.raises(BadInput, match='no Dask scheduler answers'):
        run_experiment(tmp_path / 'c', tmp_path / 'run', scheduler='tcp://127.0.0.1:1', **TINY)


def test_sharing_a_card_is_the_business_of_a_cluster(tmp_path):
    toy_cohort(60).save(tmp_path / 'c')
    with pytest.raises(BadInput, match='gpus: on a cluster'):
        run_experiment(tmp_path / 'c', tmp_path / 'run', scheduler='tcp://127.0.0.1:1', gpus=0.5, **TINY)


@pytest.mark.slow
def test_killed_twenty_times_and_resumed():
    r = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('kill_resume.py')), '--moments', '20'],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert r.returncode == 0, r.stdout + r.stderr


def test_damaged_results_are_noticed_and_made_again(finished, tmp_path):
    d, _ = finished
    shutil.copytree(d / 'run', tmp_path / 'run')
    p = tmp_path / 'run/split-0/pretrain/mimic-net.safetensors'
    blob = bytearray(p.read_bytes())
    blob[-1] ^= 1
    p.write_bytes(blob)
    (tmp_path / 'run/tables/headline.txt').unlink()
    with in_this_process():
        outcomes = {o.name: o.state for o in run_experiment(d / 'cohort', tmp_path / 'run', 'quick', **TINY)}
    assert [n for n, state in outcomes.items() if state == 'done'] == ['split-0/pretrain', 'evaluate']
    a, b = (pd.read_parquet(r / 'results.parquet') for r in (d / 'run', tmp_path / 'run'))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_a_corrupted_checkpoint_is_one_line_and_a_resumable_run(finished, tmp_path, monkeypatch):
    d, _ = finished
    shutil.copytree(d / 'run', tmp_path / 'run')
    p = tmp_path / 'run/split-0/pretrain/mimic-net.safetensors'
    steps = fill_in_keys(plan_steps(PROFILES['quick'] | TINY), cohort_hash(read_cohort_description(d / 'cohort')))
    transfer = next(s for s in steps if s.kind == 'transfer')
    whole = p.read_bytes()
    p.write_bytes(whole[:100])
    shutil.rmtree(tmp_path / 'run/split-0/features')
    (tmp_path / 'run' / transfer.name / 'done.json').unlink()
    with in_this_process():
        out = execute_step(transfer, str(tmp_path / 'run'), '')
        assert out.state == 'failed' and 'mimic-net.safetensors' in out.why and '\n' not in out.why, out
        p.write_bytes(whole)
        assert execute_step(transfer, str(tmp_path / 'run'), '').state == 'done'


def test_a_full_disk_is_one_line_and_a_resumable_run(finished, tmp_path):
    "On a file system of a few megabytes where the machine allows one."
    d, _ = finished
    disk = tmp_path / 'disk'
    disk.mkdir()
    if (
        os.name != 'posix'
        or os.geteuid()
        or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=300k', 'none', disk], capture_output=True).returncode
    ):
        pytest.skip('needs the right to mount a tmpfs')
    try:
        args = [
            '--cohort',
            d / 'cohort',
            '--out',
            disk / 'run',
            '--splits',
            1,
            '--fractions',
            1,
            '--seeds',
            1,
            '--hidden',
            4,
            '--set',
            'max_updates=5;n_held_out=2',
            '--only',
            'data',
        ]
        r = cli('rnn_transfer_paper', *args)
        lines = [line for line in r.stderr.splitlines() if line.startswith('error')]
        assert r.returncode == 2 and len(lines) == 1 and 'No space left' in r.stderr and 'Traceback' not in r.stderr, (
            r.stderr
        )
        subprocess.run(['mount', '-o', 'remount,size=60m', disk], check=True)
        r = cli('rnn_transfer_paper', *args)
        assert r.returncode == 0, r.stderr
    finally:
        subprocess.run(['umount', '-l', disk], check=False)


def test_a_read_only_folder_is_one_line(finished, tmp_path):
    d, _ = finished
    disk = tmp_path / 'disk'
    disk.mkdir()
    if (
        os.name != 'posix'
        or os.geteuid()
        or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', disk], capture_output=True).returncode
    ):
        pytest.skip('needs the right to mount a tmpfs')
    try:
        r = cli(
            'rnn_transfer_paper',
            '--cohort',
            d / 'cohort',
            '--out',
            disk / 'run',
            '--splits',
            1,
            '--set',
            'n_held_out=2',
        )
        assert r.returncode == 2 and r.stderr.count('\n') == 1 and 'Read-only file system' in r.stderr, r.stderr
    finally:
        subprocess.run(['umount', '-l', disk], check=False)


@pytest.mark.slow
def test_the_open_demo_of_mimic3_runs_and_says_that_it_proves_nothing(shared, tmp_path):
    r = cli('rnn_transfer_cohort', 'mimic3', '--path', shared / 'data' / 'mimic3-demo', '--out', tmp_path / 'cohort')
    assert (
        r.returncode == 0
        and '113 stays (81 train, 14 val, 18 test)' in r.stdout
        and '136 stays      100 subjects' in r.stdout
        and 'far too few' in r.stdout
    ), r.stderr
    command = ['rnn_transfer_paper', '--cohort', tmp_path / 'cohort', '--out', tmp_path / 'run', '--workers', 2]
    r = cli(*command)
    assert r.returncode == 2 and '10 test positives (min_test_positives)' in r.stderr
    r = cli(*command, '--set', 'min_test_positives=1')
    assert r.returncode == 0, r.stderr
    for text in (r.stdout, (tmp_path / 'run/report.html').read_text()):
        assert 'they prove nothing about the method' in text
