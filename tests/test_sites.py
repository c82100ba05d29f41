"Two hospitals in one cohort: which stays each step reads, and what cannot be run."

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import in_this_process
from scipy.special import expit

from rnn_transfer import pretrain
from rnn_transfer.cohorts.alignment import describe_alignment
from rnn_transfer.cohorts.channels import Task
from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.cohorts.sites import check_roles, used_in_pretraining
from rnn_transfer.data import Cohort, run_data
from rnn_transfer.evaluation.captions import run_info
from rnn_transfer.evaluation.scoring import evaluate_run
from rnn_transfer.experiment.commands import _drop_only, rnn_transfer_paper
from rnn_transfer.experiment.each_site import leave_one_site_out
from rnn_transfer.experiment.hospitals import check_same_sites
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.experiment.provenance import check_splits, read_cohort_description
from rnn_transfer.experiment.run import _fill_in_options, check_experiment, describe_plan, run_experiment
from rnn_transfer.learning.fits import labelled_rows
from rnn_transfer.learning.splits import count_prevalences, draw_splits, remove_leakage
from rnn_transfer.learning.systems import ABLATION_NETWORKS
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.learning.zero_shot import fit_correction, network_logits
from rnn_transfer.model import init_network, load_checkpoint, read_checkpoint, run_model, save_checkpoint
from rnn_transfer.pretrain import adopt_network, run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

QUICK = TrainSettings(lr=0.05, max_updates=4, eval_every=2, device='cpu')
A_TO_B = dict(pretrain_sites=['A'], transfer_sites=['B'])
SYSTEMS = ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'MN-FT', 'multi-task', 'GBT', 'LR:cv', 'AE-LR-2', 'no-removal-LR-2']


def two_sites(n=240, shift=0.0):
    "The toy cohort with sites A, B and C by subject; numbers of B are shifted."
    cohort = toy_cohort(n)
    sites = np.array(['A', 'B', 'A', 'B', 'A', 'C'])[cohort.stays['subject_id'] % 6]
    cohort.stays['site'] = sites
    of_b = cohort.events['stay_id'].isin(cohort.stays['stay_id'][sites == 'B'])
    numbers = cohort.events['channel'].isin([c.name for c in cohort.channels if c.kind == 'continuous'])
    cohort.events.loc[of_b & numbers, 'value'] += shift
    return cohort


def with_permuted_labels(cohort, sites):
    "The same cohort with the labels of some sites in another order within each partition, so that counts stay."
    stays, names = cohort.stays.copy(), [task.name for task in cohort.tasks]
    for _, rows in stays[stays['site'].isin(sites)].groupby(['site', 'partition']).groups.items():
        stays.loc[rows, names] = stays.loc[np.random.default_rng(1).permutation(rows), names].to_numpy()
    return Cohort(cohort.events, stays, cohort.channels, cohort.tasks, cohort.meta)


def pretrained(cohort, folder, same_tasks=False, variants=('no-removal', 'autoencoder'), **sites):
    "A run up to pre-training."
    data = run_data(cohort, folder, **A_TO_B | sites)
    run_model(folder, [4])
    options = dict(n_held_out=2, hidden=[4], settings=QUICK, variants=variants, inits=1, same_tasks=same_tasks)
    return data, run_pretrain(folder, **options)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sites')
    return folder, *pretrained(two_sites(), folder, variants=tuple(ABLATION_NETWORKS))


def sites_of(data, rows):
    return set(data.stays['site'].iloc[rows])


# ---- which stays


def test_label_subsets_and_tests_are_of_the_transfer_site_alone(run):
    _, data, manifest = run
    for task in [*manifest['target'], 'Mortality']:
        for fraction in (0.1, 0.5, 1.0):
            rows = labelled_rows(data, task, fraction, 0)
            assert all(sites_of(data, part) == {'B'} for part in rows if len(part))
        assert len(rows.test) == ((data.stays['partition'] == 'test') & (data.stays['site'] == 'B')).sum()


def test_every_training_of_pretraining_reads_the_source_site_alone(tmp_path, monkeypatch):
    seen, train = [], pretrain.train_network
    data = run_data(two_sites(), tmp_path, **A_TO_B)

    def spy(net, X, y, X_val, y_val, *args, **kwargs):
        seen.append((X, X_val))
        return train(net, X, y, X_val, y_val, *args, **kwargs)

    monkeypatch.setattr(pretrain, 'train_network', spy)
    run_model(tmp_path, [4])
    run_pretrain(tmp_path, n_held_out=2, hidden=[4], settings=QUICK, inits=1)
    site = {x.tobytes(): s for x, s in zip(np.array(data.X), data.stays['site'])}
    partition = {x.tobytes(): p for x, p in zip(np.array(data.X), data.stays['partition'])}
    assert len(seen) == 2 + len(ABLATION_NETWORKS)
    for X, X_val in seen:
        assert {site[x.tobytes()] for x in [*X, *X_val]} == {'A'}
        assert {partition[x.tobytes()] for x in X} == {'train'} and {partition[x.tobytes()] for x in X_val} == {'val'}


@pytest.mark.parametrize('same_tasks', [False, True])
def test_no_label_of_the_transfer_site_is_read_in_pretraining(tmp_path, same_tasks):
    one, other = two_sites(), with_permuted_labels(two_sites(), ['B', 'C'])
    assert one.fingerprint != other.fingerprint
    manifests = [pretrained(c, tmp_path / name, same_tasks)[1] for c, name in ((one, 'a'), (other, 'b'))]
    assert manifests[0] == manifests[1]
    files = sorted(p.name for p in (tmp_path / 'a' / 'split-0' / 'pretrain').iterdir())
    assert 'mimic-net.safetensors' in files and 'autoencoder.safetensors' in files
    for name in files:
        a, b = ((tmp_path / run / 'split-0' / 'pretrain' / name).read_bytes() for run in 'ab')
        if name.endswith('.json') and name != 'split.json':  # the fingerprint is that of the whole cohort
            a, b = (
                {k: v for k, v in json.loads(x).items() if k not in ('fingerprint', 'description_sha256')}
                for x in (a, b)
            )
        assert a == b, name


def test_labels_of_the_source_site_do_not_reach_transfer(tmp_path):
    "With the labels of A permuted, every system that reads no pre-trained network predicts the same for B."
    systems = ['LR', 'GBT', 'masks-LR', 'untrained-LR-2']
    found = []
    for name, cohort in (('a', two_sites()), ('b', with_permuted_labels(two_sites(), ['A', 'C']))):
        pretrained(cohort, tmp_path / name, same_tasks=True, variants=())
        run_transfer(tmp_path / name, fraction=0.5, models=systems, settings=QUICK)
        found.append(pd.read_parquet(tmp_path / name / 'split-0' / 'fraction-0.5' / 'seed-0' / 'predictions.parquet'))
    pd.testing.assert_frame_equal(*found)


def test_removal_is_by_subject_among_the_stays_of_the_source(run):
    _, data, manifest = run
    used = used_in_pretraining(data.stays, ['A'], ['B'])
    keep, flow = remove_leakage(data.stays, manifest['target'], used)
    left = data.stays[keep & (data.stays['partition'] != 'test')]
    assert set(left['site']) == {'A'} and not (left[manifest['target']] == 1).any(axis=None)
    of_a = data.stays[data.stays['site'] == 'A']
    bad = of_a['subject_id'][(of_a[manifest['target']] == 1).any(axis=1)]
    expected = of_a[(of_a['partition'] != 'test') & ~of_a['subject_id'].isin(bad)]
    assert left['stay_id'].tolist() == expected['stay_id'].tolist()
    counts = flow.set_index(['partition', 'step'])['stays']
    assert counts['test', 'left'] == ((data.stays['partition'] == 'test') & (data.stays['site'] == 'B')).sum()
    assert manifest['removal'] == flow.to_dict('records')


def test_what_is_held_out_is_decided_at_the_source(run):
    _, data, manifest = run
    prevalence = count_prevalences(data.stays[data.stays['site'] == 'A'], data.phenotypes)
    assert manifest['target'] == draw_splits(data.tasks, prevalence, 2, 2, 0.05, 0.3)[0].target


def test_positives_are_counted_where_the_tests_are(tmp_path):
    "A phenotype without a test positive at B is never held out of a run from A to B, though A has some."
    cohort, names = two_sites(), [t.name for t in two_sites().tasks if t.kind == 'phenotype']
    here = (cohort.stays['site'] == 'B') & (cohort.stays['partition'] == 'test')
    cohort.stays.loc[here, names] = 0
    able = names[2:4]
    cohort.stays.loc[here, able] = 1
    numbers = dict(n_splits=1, n_held_out=2, low=0.0, high=1.0, min_test_positives=5)
    data = run_data(cohort, tmp_path / 'run', **A_TO_B)
    run_model(tmp_path / 'run', [4])
    manifest = run_pretrain(tmp_path / 'run', hidden=[4], settings=QUICK, variants=(), **numbers)
    assert manifest['target'] == able
    assert all((data.stays.loc[here, name] == 1).sum() >= 5 for name in manifest['target'])
    with pytest.raises(BadInput, match='only 2 of .* and 5 test positives'):
        run_pretrain(tmp_path / 'run', hidden=[4], settings=QUICK, variants=(), **numbers | dict(n_held_out=3))


def test_the_plan_draws_by_the_options_and_sites_of_pretraining(tmp_path):
    cohort, names = two_sites(), [t.name for t in two_sites().tasks if t.kind == 'phenotype']
    here = (cohort.stays['site'] == 'B') & (cohort.stays['partition'] == 'test')
    cohort.stays.loc[here, names] = 0
    about = read_cohort_description(cohort.save(tmp_path / 'cohort'))
    options = PROFILES['quick'] | dict(A_TO_B, splits=1, n_held_out=1, low=0.0, high=1.0, min_test_positives=1)
    with pytest.raises(BadInput, match='only 0 of'):
        check_splits(tmp_path / 'cohort', about, options)
    check_splits(tmp_path / 'cohort', about, options | {'pretrain.min_test_positives': 0})
    check_splits(tmp_path / 'cohort', about, options | dict(transfer_sites=['C']))
    options |= dict(transfer_sites=['C'])
    for changed in ({'pretrain.n_held_out': len(names)}, {'pretrain.low': 0.99}, {'pretrain.high': 0.0}):
        with pytest.raises(BadInput, match='held-out phenotypes'):
            check_splits(tmp_path / 'cohort', about, options | changed)


def test_all_systems_fit_and_are_scored_on_the_transfer_site(run):
    folder, data, manifest = run
    fits = run_transfer(folder, models=SYSTEMS, settings=QUICK)
    assert fits['reason'].isna().all() and len(fits) == len(SYSTEMS) * (len(manifest['target']) + 1)
    ev = evaluate_run(folder, replicates=20)
    of_b = data.stays[(data.stays['site'] == 'B') & (data.stays['partition'] == 'test')]
    assert set(ev.results['n_test']) == {len(of_b)} == {ev.info['n_test']}
    for task in manifest['target']:
        assert set(ev.results.query('task == @task')['n_test_positive']) == {int(of_b[task].sum())}
    assert 'Pre-training saw stays of A alone' in ev.info['roles'] and 'are of B alone' in ev.info['roles']
    steps = {step['step']: step['stays'] for step in ev.info['flow']}
    assert steps['transfer, test, of B'] == len(of_b) and 'pre-training, test, of A' not in steps


# ---- scales


def test_each_site_has_its_own_scale_unless_asked_otherwise(tmp_path):
    cohort = two_sites(shift=50.0)
    site, train = cohort.stays['site'].to_numpy(), (cohort.stays['partition'] == 'train').to_numpy()
    raw = cohort.grid()
    scales = {s: Normalizer.fit(raw.X[train & (site == s)], raw.columns) for s in 'AB'}
    own = run_data(cohort, tmp_path / 'own', **A_TO_B)
    source = run_data(cohort, tmp_path / 'source', target_scale='source', **A_TO_B)
    assert own.meta['scale'] == scales['A'].scale and own.meta['transfer_scale'] == scales['B'].scale
    expected = {s: scales[s].transform(raw.X.copy(), raw.columns) for s in 'AB'}
    np.testing.assert_array_equal(own.X[site == 'B'], expected['B'][site == 'B'])
    np.testing.assert_array_equal(own.X[site == 'A'], expected['A'][site == 'A'])
    np.testing.assert_array_equal(own.X[site == 'C'], expected['A'][site == 'C'])
    np.testing.assert_array_equal(source.X, expected['A'])
    assert 'transfer_scale' not in source.meta


def test_without_roles_nothing_changes(tmp_path):
    plain, named = toy_cohort(), two_sites()
    run_data(plain, tmp_path / 'a')
    run_data(named, tmp_path / 'b', pretrain_sites=[], transfer_sites=[])
    for name in ('grid.npy', 'statistics.parquet', 'stays.parquet'):
        assert (tmp_path / 'a' / 'data' / name).read_bytes() == (tmp_path / 'b' / 'data' / name).read_bytes()
    stated = [json.loads((tmp_path / run / 'data' / 'data.json').read_text()) for run in 'ab']
    assert stated[0].keys() == stated[1].keys()
    assert {key for key in stated[0] if stated[0][key] != stated[1][key]} == {'fingerprint'}


def test_features_follow_the_scale_of_the_transfer_site(tmp_path):
    "The cache of features is not taken for that of a run to another site."
    cohort = two_sites(shift=50.0)
    folder, states = tmp_path / 'run', []
    for sites in (['B'], ['C'], ['B']):
        pretrained(cohort, folder, transfer_sites=sites, variants=())
        run_transfer(folder, models=['MN-LR-2'], settings=QUICK)
        states.append(len(list((folder / 'split-0' / 'features').glob('mimic-net-*.npy'))))
    assert states == [1, 2, 2]


# ---- the same tasks


def test_same_tasks_are_learned_and_transferred_to(tmp_path):
    data, manifest = pretrained(two_sites(), tmp_path, same_tasks=True)
    assert manifest['source'] == manifest['target'] == data.phenotypes
    assert manifest['left_out'].keys() == {'no-removal'}
    net = load_checkpoint(tmp_path / 'split-0' / 'pretrain' / 'mimic-net.safetensors')
    assert net.meta['tasks'] == data.phenotypes and net.meta['target'] == [] and net.meta['pretrain_sites'] == ['A']
    fits = run_transfer(tmp_path, models=['LR', 'MN-LR-2', 'multi-task', 'no-removal-LR-2'], settings=QUICK)
    assert set(fits['task']) == {*data.phenotypes, 'Mortality'}
    assert fits.query('model == "no-removal-LR-2"')['reason'].notna().all()
    assert fits.query('model != "no-removal-LR-2"')['reason'].isna().all()
    assert 'has learned the same tasks' in evaluate_run(tmp_path, replicates=20).info['roles']


def test_zero_shot_is_the_classifier_of_the_source_and_reads_no_label(tmp_path):
    data, _ = pretrained(two_sites(), tmp_path / 'a', same_tasks=True, variants=())
    net = load_checkpoint(tmp_path / 'a' / 'split-0' / 'pretrain' / 'mimic-net.safetensors')
    logits = net(torch.from_numpy(np.array(data.X))).detach().numpy()
    pretrained(with_permuted_labels(two_sites(), ['B']), tmp_path / 'b', same_tasks=True, variants=())
    models, found = ['zero-shot', 'recalibrated', 'zero-shot:full-val', 'MN-LR-2'], {}
    for run in 'ab':
        fits = run_transfer(tmp_path / run, fraction=0.5, models=models, settings=QUICK)
        reasons = fits.set_index(['task', 'model'])['reason']
        assert (
            all('has not learned' in reasons['Mortality', m] for m in models[:3])
            and not reasons['Mortality', models[3]]
        )
        table = pd.read_parquet(tmp_path / run / 'split-0' / 'fraction-0.5' / 'seed-0' / 'predictions.parquet')
        found[run] = table.set_index(['model', 'task', 'stay_id'])['p'].sort_index()
    for k, task in enumerate(net.meta['tasks']):
        p = found['a']['zero-shot', task]
        rows = data.stays['stay_id'].isin(p.index)
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits[rows, k])), rtol=1e-5)
        pd.testing.assert_series_equal(p, found['b']['zero-shot', task])
        pd.testing.assert_series_equal(p, found['a']['zero-shot:full-val', task])
        corrected = found['a']['recalibrated', task]
        assert (np.argsort(corrected.to_numpy()) == np.argsort(p.to_numpy())).all()
        y = data.stays[task].to_numpy()[labelled_rows(data, task, 0.5, 0).labelled]
        x = logits[labelled_rows(data, task, 0.5, 0).labelled, k]
        a, b = fit_correction(x.astype(float), y)
        np.testing.assert_allclose(corrected, 1 / (1 + np.exp(-a - b * logits[rows, k])), rtol=1e-4)


def test_same_tasks_add_the_classifier_of_the_source_to_a_run(tmp_path):
    two_sites().save(tmp_path / 'cohort')
    options = dict(A_TO_B, same_tasks=True)
    plan = describe_plan(tmp_path / 'cohort', tmp_path / 'run', options=options)
    assert 'split-0/pretrain' in plan and 'split-1' not in plan
    filled = _fill_in_options(tmp_path / 'cohort', 'quick', options)[0]
    assert filled['models'] == [*PROFILES['quick']['models'], 'zero-shot', 'recalibrated']
    held_out = [profile for profile in PROFILES.values() if not profile['same_tasks']]
    assert not {'zero-shot', 'recalibrated'} & {m for profile in held_out for m in profile['models']}


@pytest.mark.parametrize('sites', [dict(pretrain_sites=[], transfer_sites=[]), dict(transfer_sites=['A'])])
def test_same_tasks_at_one_site_are_rejected(tmp_path, sites):
    with pytest.raises(BadInput, match='do not overlap'):
        pretrained(two_sites(), tmp_path, same_tasks=True, **sites)


# ---- a given network


@pytest.fixture
def given(tmp_path):
    "A network that has learned two phenotypes elsewhere, and knows three of the four channels and one more."
    cohort = two_sites(120)
    known = Cohort(cohort.events, cohort.stays, cohort.channels, cohort.tasks)
    grid = known.grid()
    meta = dict(columns=grid.columns, channels=[vars(c) for c in cohort.channels], hours=48, masks=True, short='carry')
    meta |= dict(scale=Normalizer.fit(grid.X, grid.columns).scale, tasks=['Phenotype A', 'Phenotype B'])
    return save_checkpoint(
        init_network(len(grid.columns), 6, 2, seed=9), tmp_path / 'given' / 'net.safetensors', **meta
    )


def test_an_output_of_a_given_network_is_found_by_its_definition(tmp_path, given):
    "Two rules of one name: the output of the cohort's own rule is read, under whatever name."
    cohort = two_sites()
    tasks = [Task(t.name, t.kind, f'{t.name} in the first 24 h') for t in cohort.tasks]
    meta = read_checkpoint(given).description
    meta = {key: meta[key] for key in ('columns', 'channels', 'hours', 'masks', 'short', 'scale')}
    names = ['Phenotype A', 'Phenotype A (south)', 'Phenotype B']
    rules = [['another rule'], ['Phenotype A in the first 48 h'], ['a third one']]
    meta |= dict(tasks=names, definitions=dict(zip(names, rules)))
    net = init_network(len(meta['columns']), 6, 3, seed=9)
    path = save_checkpoint(net, tmp_path / 'two' / 'net.safetensors', **meta)
    run = tmp_path / 'run'
    own = Cohort(cohort.events, cohort.stays, cohort.channels, tasks)
    data = run_data(own, run, transfer_sites=['B'], pretrained=path)
    run_model(run, [6])
    manifest = adopt_network(run, path, same_tasks=True)
    assert manifest['outputs'] == {'Phenotype A': 'Phenotype A (south)', 'Phenotype B': 'Phenotype B'}
    assert 'Phenotype B: the network has learned another rule of this name: a third one.' in manifest['output_notes']
    run_transfer(run, models=['zero-shot'], settings=QUICK)
    found = pd.read_parquet(next(run.rglob('predictions.parquet'))).query("task == 'Phenotype A'").set_index('stay_id')
    logits = pd.DataFrame(network_logits(load_checkpoint(path, columns=data.columns), data), data.stays['stay_id'])
    np.testing.assert_allclose(found['p'], expit(logits.loc[found.index, 1]), rtol=1e-5)
    assert not np.allclose(found['p'], expit(logits.loc[found.index, 0]), rtol=1e-3)
    assert "is the output 'Phenotype A (south)' of the network" in run_info(run, data)['roles']


@pytest.mark.parametrize('same_tasks', [False, True])
def test_a_given_network_replaces_pretraining(tmp_path, given, same_tasks):
    cohort = two_sites()
    events = cohort.events[cohort.events['channel'] != cohort.channels[0].name]
    events = events.assign(channel=events['channel'].astype(str))
    fewer = Cohort(events, cohort.stays, cohort.channels[1:], cohort.tasks)
    data = run_data(fewer, tmp_path / 'run', transfer_sites=['B'], pretrained=given)
    run_model(tmp_path / 'run', [6])
    manifest = adopt_network(tmp_path / 'run', given, ['no-removal'], 1, same_tasks)
    copied = tmp_path / 'run' / 'split-0' / 'pretrain' / 'mimic-net.safetensors'
    assert copied.read_bytes() == given.read_bytes()
    assert set(data.phenotypes) - set(manifest['target']) == {'Phenotype A', 'Phenotype B'} == set(manifest['source'])
    assert manifest['same_tasks'] == ('both' if same_tasks else False)
    assert data.columns == load_checkpoint(given).meta['columns']
    assert len(data.statistics.columns) < len(cohort.statistics().columns)
    systems = ['LR', 'MN-LR-2', 'RNN-C', 'MN-FT', 'untrained-LR-2', 'no-removal-LR-2', 'MN-LR-2@1', 'multi-task']
    fits = run_transfer(tmp_path / 'run', models=systems, settings=QUICK)
    why = fits[fits['reason'].notna()]
    assert set(why['model']) == {'no-removal-LR-2', 'MN-LR-2@1', 'multi-task'}
    assert why['reason'].str.contains('a given network replaces pre-training').all()


def test_a_whole_run_with_a_given_network(tmp_path, given):
    two_sites().save(tmp_path / 'cohort')
    options = dict(fractions=[1.0], seeds=[1], lr=0.05, max_updates=4, replicates=20, models=['LR', 'MN-LR-2'])
    options |= dict(pretrained=str(given), transfer_sites=['B'], variants=[])
    with in_this_process():
        run_experiment(tmp_path / 'cohort', tmp_path / 'run', progress=False, **options)
    manifest = json.loads((tmp_path / 'run' / 'manifest.json').read_text())
    assert manifest['pretrained']['sha256'] == load_description(given)['sha256']
    assert manifest['options']['hidden'] == [6] and manifest['options']['splits'] == 1
    assert manifest['sites'] == dict(pretrain=[], transfer=['B'], same_tasks=False)
    assert 'A given network replaces pre-training.' in (tmp_path / 'run' / 'report.html').read_text()
    plan = describe_plan(tmp_path / 'cohort', tmp_path / 'run', options=options)
    assert '0 of 5 steps to do' in plan
    moved = tmp_path / 'elsewhere' / 'other.safetensors'
    moved.parent.mkdir()
    for suffix in ('.safetensors', '.json'):
        moved.with_suffix(suffix).write_bytes(given.with_suffix(suffix).read_bytes())
    plan = describe_plan(tmp_path / 'cohort', tmp_path / 'run', options=options | dict(pretrained=str(moved)))
    assert '0 of 5 steps to do' in plan
    net = load_checkpoint(given)
    save_checkpoint(init_network(net.config['n_columns'], 6, 2, seed=10), moved, **net.meta)
    plan = describe_plan(tmp_path / 'cohort', tmp_path / 'run', options=options | dict(pretrained=str(moved)))
    assert '5 of 5 steps to do' in plan and 'parameter pretrained changed' in plan


def load_description(path):
    return json.loads(path.with_suffix('.json').read_text())


def with_channels(cohort, **names):
    "The same cohort with channels of other names; one that becomes '' is left out."
    new = {c.name: names.get(c.name.replace(' ', '_'), c.name) for c in cohort.channels}
    channels = [replace(c, name=new[c.name]) for c in cohort.channels if new[c.name]]
    channel = cohort.events['channel'].astype(str).map(new)
    events = cohort.events.assign(channel=channel)[channel != '']
    return Cohort(events, cohort.stays, channels, cohort.tasks, cohort.meta)


def test_a_network_without_a_common_channel_is_rejected_before_anything_is_written(tmp_path, given, capsys):
    names = {c.name.replace(' ', '_'): f'Q{i}' for i, c in enumerate(two_sites().channels)}
    with_channels(two_sites(), **names).save(tmp_path / 'cohort')
    for dry_run in (True, False):
        with pytest.raises(SystemExit) as e:
            options = dict(cohort=str(tmp_path / 'cohort'), out=str(tmp_path / 'run'), workers=1, only='data')
            rnn_transfer_paper(pretrained=str(given), transfer_sites='B', dry_run=dry_run, **options)
        said = capsys.readouterr().err
        assert e.value.code == 2 and len(said.strip().splitlines()) == 1
        assert f'{given}: channels: none of the network (Heart rate, ' in said and 'Q0, Q1' in said
        assert not (tmp_path / 'run').exists()


def test_a_channel_in_another_unit_is_rejected_before_anything_is_written(tmp_path, given):
    cohort = two_sites()
    cohort.channels = [replace(c, unit='furlong') if c.name == 'Glucose' else c for c in cohort.channels]
    cohort.save(tmp_path / 'cohort')
    options = dict(pretrained=str(given), transfer_sites=['B'])
    with pytest.raises(BadInput, match=f'{given.name}: .*furlong'):
        describe_plan(tmp_path / 'cohort', tmp_path / 'run', options=options)


def test_what_becomes_of_the_channels_of_a_given_network_is_stored_and_said(tmp_path, given, capsys, monkeypatch):
    with_channels(two_sites(), Glucose='Lactate').save(tmp_path / 'cohort')
    expected = (
        'Channels of the given network: 4; 1 missing in the cohort and read as never measured: Glucose; '
        '1 more in the cohort, not read by the network: Lactate.'
    )
    out, more = tmp_path / 'run', 'lr=.05; max_updates=4; replicates=20; models=["LR", "MN-LR-2"]; variants=[]'
    call = dict(cohort=str(tmp_path / 'cohort'), out=str(out), pretrained=str(given), transfer_sites='B', workers=1)
    call |= dict(fractions='1', seeds='1', set=more)
    rnn_transfer_paper(**call, dry_run=True)
    assert capsys.readouterr().out.splitlines()[-1] == expected and not out.exists()
    with in_this_process():
        rnn_transfer_paper(**call)
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [expected, '', f'report: {out / "report.html"}']
    stored = json.loads((out / 'data' / 'data.json').read_text())['alignment']
    status = {row['channel']: row['status'] for row in stored}
    assert status.pop('Glucose') == 'missing' and status.pop('Lactate') == 'ignored'
    assert set(status.values()) == {'matched'}
    assert [row['note'] for row in stored if row['channel'] == 'Glucose'] == ['never measured']
    assert expected in (out / 'report.html').read_text()


def test_the_summary_of_all_sites_says_it_too(tmp_path, given):
    with_channels(two_sites(), Glucose='').save(tmp_path / 'cohort')
    options = dict(fractions=[1.0], seeds=[1], lr=0.05, max_updates=4, replicates=20, models=['LR', 'MN-LR-2'])
    with in_this_process():
        said = leave_one_site_out(tmp_path / 'cohort', tmp_path / 'runs', pretrained=str(given), variants=[], **options)
    assert '4; 1 missing in the cohort and read as never measured: Glucose.' in said


def test_a_cohort_that_fits_is_not_spoken_of(tmp_path, given):
    data = run_data(two_sites(), tmp_path / 'run', transfer_sites=['B'], pretrained=given)
    assert {row['status'] for row in data.meta['alignment']} == {'matched'}
    assert describe_alignment(data.meta['alignment']) == ''
    assert 'alignment' not in run_data(two_sites(), tmp_path / 'own', **A_TO_B).meta


def test_the_hint_of_a_failed_step_has_one_step(tmp_path, capsys, monkeypatch):
    two_sites().save(tmp_path / 'cohort')
    words = ['--cohort', str(tmp_path / 'cohort'), '--only', 'data', '--workers', '1']
    monkeypatch.setattr('sys.argv', ['rnn_transfer_paper', *words])
    monkeypatch.setattr('rnn_transfer.experiment.execute._run_step', lambda *a: 1 / 0)
    with in_this_process(), pytest.raises(SystemExit):
        rnn_transfer_paper(cohort=words[1], out=str(tmp_path / 'run'), only='data', workers=1)
    hint = capsys.readouterr().err.partition('again: ')[2].splitlines()[0]
    assert hint == f'rnn_transfer_paper --cohort {words[1]} --workers 1 --only data'
    assert _drop_only(['--only=data', '--out', 'only', '--on', 'x']) == ['--out', 'only']


# ---- one folder, one direction


@pytest.mark.parametrize('other', [dict(pretrain_sites=['B'], transfer_sites=['A']), dict()])
def test_a_run_between_other_sites_is_not_replaced(tmp_path, other):
    two_sites().save(tmp_path / 'cohort')
    run = tmp_path / 'run'
    with in_this_process():
        run_experiment(tmp_path / 'cohort', run, only='data', progress=False, **A_TO_B)
        before = {path: path.read_bytes() for path in sorted(run.rglob('*')) if path.is_file()}
        asked = 'B to A' if other else 'all sites to all sites'
        message = f'run: has a run from A to B, and this one is from {asked} and would replace it; name another folder'
        with pytest.raises(BadInput, match=message):
            run_experiment(tmp_path / 'cohort', run, only='data', progress=False, **other)
        with pytest.raises(BadInput, match=message):
            describe_plan(tmp_path / 'cohort', run, options=other)
        with pytest.raises(BadInput, match=message):
            check_experiment(tmp_path / 'cohort', run, options=other)
        assert before == {path: path.read_bytes() for path in sorted(run.rglob('*')) if path.is_file()}
        outcomes = run_experiment(tmp_path / 'cohort', run, only='data', progress=False, **A_TO_B)
    assert [outcome.state for outcome in outcomes] == ['kept']


def test_sites_in_another_order_and_a_damaged_manifest_are_no_reason(tmp_path):
    manifest = dict(steps={}, sites=dict(pretrain=['A', 'C'], transfer=['B'], same_tasks=False))
    (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
    check_same_sites(tmp_path, dict(pretrain_sites=['C', 'A'], transfer_sites=['B']))
    (tmp_path / 'manifest.json').write_text('{')
    check_same_sites(tmp_path, dict(pretrain_sites=[], transfer_sites=['B']))
    check_same_sites(tmp_path / 'none', dict(pretrain_sites=[], transfer_sites=['B']))


# ---- what cannot be run


def test_roles_that_cannot_be_filled():
    stays = pd.DataFrame(dict(site=list('AABBB'), partition=['train', 'val', 'train', 'val', 'test']))
    check_roles(stays, ['A'], ['B'])
    with pytest.raises(BadInput, match='transfer_sites A: no stay is in test'):
        check_roles(stays, ['A'], ['A'])
    with pytest.raises(BadInput, match='no column site'):
        check_roles(stays.drop(columns='site'), ['A'], [])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(transfer_sites='D'), "transfer_sites names 'D', which is not there; it has 'A', 'B', 'C'"),
        (dict(pretrain_sites='A', transfer_sites='A,B'), 'overlap in A, and a stay has one scale'),
        (dict(transfer_sites='B'), 'stays.parquet: column site: transfer_sites B without pretrain_sites'),
        (dict(transfer_sites='B'), 'add --pretrain-sites (there are A, B, C)'),
        (dict(pretrain_sites='A'), 'stays.parquet: column site: pretrain_sites A without transfer_sites'),
        (dict(pretrain_sites='A'), 'add --transfer-sites (there are A, B, C)'),
        (dict(pretrain_sites=','), 'expected names of sites'),
        (dict(set='same_tasks=True'), 'would see its own labels again'),
        (dict(pretrain_sites='A', transfer_sites='B', splits=2, set='same_tasks=True'), 'leave out --splits'),
        (dict(pretrained='nowhere.safetensors'), 'nowhere.json'),
        (dict(pretrain_sites='A', transfer_sites='B', set='target_scale=mine'), 'target, source'),
        (dict(set='same_tasks=both'), 'would see its own labels again'),
        (dict(pretrain_sites='A', transfer_sites='B', set='same_tasks=neither'), 'expected False, True, both'),
        (dict(pretrain_sites='A', transfer_sites='B', set='same_tasks=1'), 'expected True or False'),
        (dict(pretrain_sites='A', transfer_sites='B', set='same_tasks=both; n_held_out=8'), 'one must be left'),
    ],
)
def test_one_line_and_exit_code_2(tmp_path, capsys, options, message):
    two_sites().save(tmp_path / 'cohort')
    with pytest.raises(SystemExit) as e:
        rnn_transfer_paper(cohort=str(tmp_path / 'cohort'), out=str(tmp_path / 'run'), **options)
    said = capsys.readouterr().err
    assert e.value.code == 2 and message in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / 'run').exists()


def test_a_cohort_without_sites(tmp_path, capsys):
    toy_cohort().save(tmp_path / 'cohort')
    with pytest.raises(SystemExit) as e:
        rnn_transfer_paper(
            cohort=str(tmp_path / 'cohort'), out=str(tmp_path / 'run'), pretrain_sites='A', transfer_sites='B'
        )
    assert e.value.code == 2 and 'no column site' in capsys.readouterr().err
