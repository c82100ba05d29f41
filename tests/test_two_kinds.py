"Phenotypes that are held out and phenotypes that were learned, in one run between sites: two kinds that never mix."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from in_process import in_this_process
from sklearn.metrics import roc_auc_score
from test_sites import A_TO_B, QUICK, given, pretrained, two_sites  # noqa: F401

from rnn_transfer.cohorts.sites import used_in_pretraining
from rnn_transfer.data import Cohort, PreparedCohort, run_data
from rnn_transfer.evaluation import claims, controls, sparsity
from rnn_transfer.evaluation.features import used_features
from rnn_transfer.evaluation.hospitals import _why_other_design, hospital_verdicts, read_hospital_rules
from rnn_transfer.evaluation.limits import describe_limits
from rnn_transfer.evaluation.scoring import evaluate_run
from rnn_transfer.experiment.run import _fill_in_options, describe_plan, run_experiment
from rnn_transfer.learning.fits import labelled_rows
from rnn_transfer.learning.networks import read_split
from rnn_transfer.learning.splits import remove_leakage
from rnn_transfer.learning.systems import CARRIED_SYSTEMS
from rnn_transfer.model import load_checkpoint, run_model
from rnn_transfer.pretrain import adopt_network
from rnn_transfer.transfer import run_transfer
from rnn_transfer.utilities.errors import BadInput

POOLED = ['pooled-LR', 'pooled-GBT', 'pooled-RNN']
ALONE = ['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'MN-FT', 'GBT', 'no-removal-LR-2']
LEARNED_ONLY = ['zero-shot', 'recalibrated', *CARRIED_SYSTEMS, *POOLED]


def transferred(folder, same_tasks, models=(*ALONE, *LEARNED_ONLY, 'multi-task'), cohort=None):
    "Pre-training and one transfer step: the data, split.json, fits and predictions."
    cohort = two_sites() if cohort is None else cohort
    data, manifest = pretrained(cohort, folder, same_tasks=same_tasks, variants=('no-removal',))
    fits = run_transfer(folder, fraction=0.5, models=models, settings=QUICK)
    step = folder / 'split-0' / 'fraction-0.5' / 'seed-0'
    return data, manifest, fits, pd.read_parquet(step / 'predictions.parquet')


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp('both')
    return folder, *transferred(folder, 'both')


def test_each_task_has_one_kind(both):
    _, data, manifest, fits, _ = both
    assert manifest['same_tasks'] == 'both' and len(manifest['target']) == 2
    kinds = fits.groupby('task')['task_kind'].agg(set).to_dict()
    expected = {task: {'phenotype'} for task in manifest['target']} | {task: {'learned'} for task in manifest['source']}
    assert kinds == expected | dict(Mortality={'mortality'})
    assert set(manifest['source']) | set(manifest['target']) == set(data.phenotypes)


def test_what_needs_a_learned_task_has_no_other(both):
    fits = both[3]
    fitted = fits[fits['reason'].isna()].groupby('model')['task_kind'].agg(set)
    assert {model: fitted[model] for model in LEARNED_ONLY} == {model: {'learned'} for model in LEARNED_ONLY}
    assert all(fitted[model] == {'phenotype', 'learned', 'mortality'} for model in [*ALONE, 'multi-task'])
    reasons = fits[fits['reason'].notna()].groupby('model')['reason'].agg(set)
    assert reasons['zero-shot'] == {'the network has not learned this task'}
    assert reasons['pooled-LR'] == {'the source gives no label of this task'}


def test_networks_and_held_out_tasks_are_those_of_a_run_without_learned_ones(both, tmp_path):
    "Byte by byte the same network, and the same predictions of held-out tasks and mortality."
    folder, _, manifest, _, predictions = both
    _, other, _, expected = transferred(tmp_path, False, ALONE)
    assert other['target'] == manifest['target'] and 'same_tasks' not in other
    for name in ('mimic-net', 'mimic-net@1', 'no-removal'):
        place = f'split-0/pretrain/{name}.safetensors'
        assert (folder / place).read_bytes() == (tmp_path / place).read_bytes()
    meta = load_checkpoint(folder / 'split-0' / 'pretrain' / 'mimic-net.safetensors').meta
    assert (meta['tasks'], meta['target']) == (manifest['source'], manifest['target'])
    found = predictions[predictions['task'].isin([*manifest['target'], 'Mortality'])]
    found = found[found['model'].isin(ALONE)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


def test_pooled_models_see_the_source_stays_that_pretraining_saw(both, tmp_path):
    "Source labels in another order among subjects with a held-out phenotype change no pooled model."
    _, data, manifest, fits, predictions = both
    used = used_in_pretraining(data.stays, ['A'], ['B'])
    keep = remove_leakage(data.stays, manifest['target'], used).keep
    is_train = ((data.stays['site'] == 'A') & (data.stays['partition'] == 'train')).to_numpy()
    n_drawn = len(labelled_rows(data, manifest['source'][0], 0.5, 0).train)
    n_train = set(fits[fits['model'].isin(POOLED) & fits['reason'].isna()]['n_train'])
    assert n_train == {(is_train & keep).sum() + n_drawn} and (is_train & ~keep).any()
    cohort = two_sites()
    stays = cohort.stays.copy()
    removed = data.stays.loc[is_train & ~keep, 'stay_id']
    rows = stays['stay_id'].isin(removed)
    labels = stays.loc[rows, manifest['source']].to_numpy()
    stays.loc[rows, manifest['source']] = np.roll(labels, 1, axis=0)
    assert (np.roll(labels, 1, axis=0) != labels).any(0).all()
    cohort = Cohort(cohort.events, stays, cohort.channels, cohort.tasks, cohort.meta)
    other = transferred(tmp_path, 'both', POOLED, cohort)
    assert other[1]['target'] == manifest['target']
    found = predictions[predictions['model'].isin(POOLED)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, other[3])


def test_averages_are_of_one_kind(both):
    "Weighted AUROC recomputed from the predictions, for each kind alone."
    folder, _, manifest, _, predictions = both
    ev = evaluate_run(folder, replicates=20)
    assert ev.kinds == ['phenotype', 'learned', 'mortality'] and ev.info['same_tasks'] is False
    found = ev.averages().query('model == "MN-LR-2"').set_index('task_kind')
    of_model = predictions[predictions['model'] == 'MN-LR-2']
    for kind, tasks in dict(phenotype=manifest['target'], learned=manifest['source']).items():
        fits = [of_model[of_model['task'] == task] for task in tasks]
        auroc, positives = [roc_auc_score(f['y'], f['p']) for f in fits], [f['y'].sum() for f in fits]
        assert found.loc[kind, 'value'] == pytest.approx(np.average(auroc, weights=positives))
        assert found.loc[kind, 'n_tasks'] == len(tasks)
    assert '(learned)' in ev.info['roles'] and any('(learned)' in sentence for sentence in describe_limits(ev))


def without_learned(ev):
    "The same evaluation as if the learned tasks had never been run."
    keep = (ev.results['task_kind'] != 'learned').to_numpy()
    values = {metric: values[keep] for metric, values in ev.values.items()}
    results = ev.results[keep].reset_index(drop=True)
    rows = np.flatnonzero(keep)
    tasks = set(results['task'])
    positives = {task: v for task, v in ev.positives.items() if task in tasks}
    predicted = ev.predicted
    return replace(ev, results=results, values=values, positives=positives, predicted=lambda at: predicted(rows[at]))


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A whole run at toy size, two splits: what one holds out another has learned."
    folder = tmp_path_factory.mktemp('whole')
    two_sites().save(folder / 'cohort')
    options = dict(A_TO_B, same_tasks='both', n_held_out=2, hidden=[4], lr=0.05, max_updates=4, eval_every=2)
    options |= dict(fractions=[0.5, 1.0], seeds=[1], replicates=20, inits=0, variants=['no-removal'])
    options |= dict(models=['LR', 'RNN-C', 'MN-LR-1', 'MN-LR-2', 'MN-FT', 'shuffled-MN-LR-2', *LEARNED_ONLY])
    with in_this_process():
        run_experiment(folder / 'cohort', folder / 'run', 'quick', progress=False, **options)
    assert '0 of' in describe_plan(folder / 'cohort', folder / 'run', 'quick', options)
    return folder / 'run'


def test_a_whole_run_has_a_table_for_each_kind(whole):
    tables = {file.stem for file in (whole / 'tables').glob('*.csv')}
    kinds = ('phenotype', 'learned', 'mortality')
    assert {f'headline_{kind}' for kind in kinds} | {f'sources_{kind}' for kind in kinds} <= tables
    results = pd.read_csv(whole / 'results.csv')
    splits = [read_split(whole, split) for split in (0, 1)]
    for split in splits:
        rows = results[results['split'] == split['split']].groupby('task_kind')['task'].agg(set)
        assert rows['phenotype'] == set(split['target']) and rows['learned'] == set(split['source'])
    assert set(splits[0]['target']) <= set(splits[1]['source'])  # one task, two kinds, by split
    for name, column in dict(systems='model', labels='versus', calibration='model').items():
        d = pd.read_csv(whole / 'tables' / f'hospitals_{name}.csv')
        assert set(d[d[column] == 'zero-shot']['task_kind']) == {'learned'}, name
        assert {'phenotype', 'learned'} <= set(d['task_kind'])
    page = (whole / 'report.html').read_text(encoding='utf-8')
    assert 'Phenotypes that the network has learned, weighted AUROC' in page and 'No claim of this run counts' in page
    ev = evaluate_run(whole, replicates=20)
    ev.info['source'] = 'PhysioNet/CinC Challenge 2019'
    assert 'here some are held out' in _why_other_design(ev)
    shown = (whole / 'tables' / 'tasks.md').read_text(encoding='utf-8')
    assert '| learned |' in shown and '| phenotype |' in shown


def test_claims_and_counts_are_those_of_a_run_without_learned_tasks(whole):
    ev = evaluate_run(whole, replicates=20)
    alone = without_learned(ev)
    assert 'learned' in ev.kinds and 'learned' not in alone.kinds
    found, expected = claims.section(ev), claims.section(alone)
    assert found.names == expected.names == ['claims', 'claims_rules', 'claims_parts']
    for name in found.names:
        pd.testing.assert_frame_equal(found[name].frame, expected[name].frame)
    rules = read_hospital_rules().table
    pd.testing.assert_frame_equal(hospital_verdicts(ev, rules), hospital_verdicts(alone, rules))
    one, two = (sparsity.null_model_table(e, sparsity.read_paths(whole, e)) for e in (ev, alone))
    pd.testing.assert_frame_equal(one.frame, two.frame)
    assert 'has learned are left out' in one.note and 'left out' not in two.note
    d = controls.shuffled_frame(ev).set_index(['task_kind', 'fraction'])
    e = controls.shuffled_frame(alone).set_index(['task_kind', 'fraction'])
    for kind in ('phenotype', 'mortality'):
        pd.testing.assert_frame_equal(d.loc[kind], e.loc[kind])


def test_features_are_counted_over_held_out_tasks(whole):
    for split, w in used_features(whole).items():
        assert set(w.index) <= {*read_split(whole, split)['target'], 'Mortality'} and len(w)


# ---- a given network


@pytest.mark.parametrize('same_tasks', [True, 'both'])
def test_a_given_network_has_both_kinds(tmp_path, given, same_tasks):  # noqa: F811
    run = tmp_path / 'run'
    data = run_data(two_sites(), run, transfer_sites=['B'], pretrained=given)
    run_model(run, [6])
    manifest = adopt_network(run, given, same_tasks=same_tasks)
    assert manifest['same_tasks'] == 'both' and manifest['source'] == ['Phenotype A', 'Phenotype B']
    assert manifest['target'] == [name for name in data.phenotypes if name not in manifest['source']]
    fits = run_transfer(run, models=['MN-LR-2', 'zero-shot', 'pooled-LR'], settings=QUICK)
    fitted = fits[fits['reason'].isna()].groupby('model')['task_kind'].agg(set).to_dict()
    assert fitted == {'MN-LR-2': {'phenotype', 'learned', 'mortality'}, 'zero-shot': {'learned'}}


def test_a_given_network_that_has_learned_all_or_nothing_has_one_kind(tmp_path, given):  # noqa: F811
    names = {'Phenotype A': 'Asthma', 'Phenotype B': 'Burns'}
    for where, change, expected in (('none', names, False), ('all', {}, True)):
        cohort, run = two_sites(), tmp_path / where
        cohort.stays = cohort.stays.rename(columns=change)
        cohort.tasks = [replace(task, name=change.get(task.name, task.name)) for task in cohort.tasks]
        if not change:
            cohort.tasks = [task for task in cohort.tasks if task.kind != 'phenotype' or task.name in names]
        run_data(cohort, run, transfer_sites=['B'], pretrained=given)
        run_model(run, [6])
        manifest = adopt_network(run, given, same_tasks='both')
        assert manifest['same_tasks'] is expected
        assert manifest['target'] == PreparedCohort.load(run).phenotypes


# ---- options


def test_splits_are_drawn_and_the_classifier_of_the_source_is_added(tmp_path):
    two_sites().save(tmp_path / 'cohort')
    filled = _fill_in_options(tmp_path / 'cohort', 'quick', dict(A_TO_B, same_tasks='both'))[0]
    assert filled['splits'] == 2 and {'zero-shot', 'recalibrated'} <= set(filled['models'])


def test_other_words_and_one_site_are_rejected(tmp_path):
    with pytest.raises(BadInput, match="expected True, False or 'both'"):
        pretrained(two_sites(), tmp_path / 'a', same_tasks='neither')
    with pytest.raises(BadInput, match='do not overlap'):
        pretrained(two_sites(), tmp_path / 'b', same_tasks='both', pretrain_sites=[], transfer_sites=[])
