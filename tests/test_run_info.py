"What a report says of the design of its run: who was tested, what the labels are, which rules apply."

import pandas as pd
import pytest

from rnn_transfer.apply.run import _describe_cohort
from rnn_transfer.cohorts.channels import Task
from rnn_transfer.cohorts.label_facts import compare_conventions
from rnn_transfer.cohorts.summary import stay_notices
from rnn_transfer.data import PreparedCohort, run_data
from rnn_transfer.estimators.shipped import shipped_network
from rnn_transfer.evaluation import label_notes
from rnn_transfer.evaluation.captions import explain_overlap, run_info
from rnn_transfer.evaluation.hospitals import _why_other_design
from rnn_transfer.evaluation.label_notes import label_fact_rows
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment.commands import describe_cohort
from rnn_transfer.model import grid_metadata
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import read_checkpoint_description
from rnn_transfer.utilities.errors import BadInput

RULED = dict(source='PhysioNet/CinC Challenge 2019', same_tasks=True, profile='hospitals')
RULED |= dict(changed=['pretrain_sites', 'transfer_sites'])
DESIGN = dict(given=False, sites=(['A'], ['B']), hours=24)


def test_labels_are_counted_among_the_stays_that_are_tested(tmp_path):
    "The facts of a cohort are over all its sites."
    cohort = toy_cohort()
    cohort.stays['site'] = ['A', 'B'] * (len(cohort.stays) // 2) + ['A'] * (len(cohort.stays) % 2)
    run_data(cohort, tmp_path, pretrain_sites=['A'], transfer_sites=['B'])
    prepared = PreparedCohort.load(tmp_path)
    info = run_info(tmp_path, prepared)
    test = prepared.stays.query("partition == 'test' and site == 'B'")
    for task in prepared.tasks:
        assert info['label_counts'][task.name] == (test[task.name].notna().sum(), (test[task.name] == 1).sum())
    ev = toy_evaluation()
    task = ev.results['task'].iloc[0]
    facts = [dict(task=task, labels=rule, stays='test', n=500, positive=100) for rule in ('measured', 'all')]
    ev.info |= dict(label_facts=facts, label_counts={task: (40, 10)}, n_test=60)
    row = label_fact_rows(ev).set_index('task').loc[task]
    assert row[['n', 'positive', 'n_all', 'prevalence']].tolist() == [40, 10, 60, 0.25] and pd.isna(row['auroc'])


def both_conventions(task, measured, every):
    "Facts of a task: (stays with a label, positives) of each convention."
    rows = [('measured', *measured), ('all', *every)]
    return [dict(task=task, labels=rule, stays='test', n=n, positive=k) for rule, n, k in rows]


def test_the_old_convention_of_labels_has_a_table_of_its_own():
    ev = toy_evaluation()
    shock, sepsis = both_conventions('Shock', (50, 20), (80, 20)), both_conventions('Sepsis', (80, 3), (80, 3))
    ev.info |= dict(labels='measured', label_facts=shock + sepsis + both_conventions('Other', (5, 2), (9, 2)))
    assert label_notes.section(ev).names == ['labels', 'label_conventions']
    table = label_notes.section(ev)['label_conventions']
    shown = table.shown.set_index('Task')
    assert list(shown.index) == ['Shock', 'Sepsis'] and table.folded  # the tasks of the run
    assert shown.loc['Shock'].tolist()[:5] == ['62.5 %', '20 of 50', '.400', '20 of 80', '.250']
    # 20 positives, all measured, against 60: 30 were not measured, 30 were
    assert shown.loc['Shock'].iloc[5].startswith(f'{(30 + 30 / 2) / 60:.3f} ['[1:])
    assert shown.loc['Sepsis'].tolist()[1] == '<5 of 80' and shown.loc['Sepsis'].iloc[5] == '–'
    hidden = table.frame.set_index('task')['positive_all']
    assert pd.isna(hidden['Sepsis']) and hidden['Shock'] == 20
    assert table.note.endswith('In this run not measured is null.')
    ev.info['labels'] = 'all'
    assert label_notes.conventions_table(ev).note.endswith('In this run not measured is 0.')


def test_a_cohort_that_states_one_convention_or_other_stays_has_no_such_table():
    ev = toy_evaluation()
    both = both_conventions('Shock', (50, 20), (80, 20))
    for info in (
        dict(label_facts=both[:1]),
        dict(label_facts=[]),
        dict(label_facts=both, label_counts=dict(Shock=(9, 5))),
    ):
        ev.info = toy_evaluation().info | dict(n_test=80) | info
        assert label_notes.conventions_table(ev) is None
        assert 'label_conventions' not in label_notes.section(ev).names


@pytest.mark.parametrize('measured, every', [((90, 20), (80, 20)), ((50, 30), (80, 20)), ((50, 10), (50, 20))])
def test_facts_of_two_conventions_that_contradict_each_other_are_named(measured, every):
    with pytest.raises(BadInput, match='label_facts of Shock: positives .* contradict each other'):
        compare_conventions(both_conventions('Shock', measured, every), 'test')


@pytest.mark.parametrize(
    'info, design, why',
    [
        ({}, {}, ''),
        ({}, dict(sites=(['B'], ['A'])), ''),
        (dict(source='PhysioNet/CinC Challenge 2012 + PhysioNet/CinC Challenge 2019'), {}, 'for other data'),
        (dict(same_tasks=False), {}, 'the same tasks'),
        ({}, dict(given=True), 'that this run trains'),
        ({}, dict(sites=(['A', 'C'], ['B'])), 'one against the other'),
        ({}, dict(sites=([], ['B'])), 'one against the other'),
        ({}, dict(hours=48), 'a window of 24 hours'),
    ],
)
def test_rules_between_hospitals_are_for_the_runs_that_they_were_fixed_for(info, design, why):
    ev = toy_evaluation()
    ev.info |= RULED | info | dict(design=DESIGN | design)
    found = _why_other_design(ev)
    assert (why in found) if why else not found


@pytest.mark.parametrize('sites, seen', [(['A'], True), ([], True), (['B'], False)])
def test_a_given_network_that_has_seen_the_stays_is_named(sites, seen):
    network = dict(cohort=dict(source='two hospitals'), fingerprint='2', pretrain_sites=['A'])
    assert bool(explain_overlap(network, dict(source='two hospitals', fingerprint='1'), sites)) == seen


A2019, P2012 = dict(source='PhysioNet/CinC Challenge 2019', sites=dict(A=[], B=[])), 'PhysioNet/CinC Challenge 2012'
OWN = dict(source='own data', name='own data')


@pytest.mark.parametrize(
    'cohort, sites, says',
    [
        (A2019, ['A'], 'learned from PhysioNet 2019, hospital A too'),
        (A2019, [], 'learned from PhysioNet 2019, hospital A too'),
        (A2019, ['B'], ''),
        (dict(source=P2012), [], 'learned from PhysioNet 2012 too'),
        (dict(source='mimic3'), [], 'and MIMIC-III is of the same hospital'),
        (dict(source='meds', version='own', database='MIMIC-IV'), [], 'and MIMIC-IV is of the same hospital'),
        (dict(source='mimic3', synthetic=True), [], ''),
        (OWN, [], ''),
        (dict(source='x', joined=[dict(source=P2012, name='old'), OWN]), [], 'learned from PhysioNet 2012 too'),
        (dict(source='x', joined=[dict(source=P2012, name='old'), OWN]), ['own data'], ''),
        (dict(source='x', joined=[dict(source=P2012, name='old'), OWN]), ['old'], 'learned from PhysioNet 2012 too'),
    ],
)
def test_the_network_that_ships_is_known_by_the_databases_it_has_seen(cohort, sites, says):
    shipped = read_checkpoint_description(shipped_network().with_suffix('.json'))
    found = explain_overlap(shipped, cohort | dict(fingerprint='1'), sites)
    assert says in found and bool(says) == bool(found)


def test_a_network_states_the_databases_of_the_stays_it_learned_from(tmp_path):
    cohort = toy_cohort()
    cohort.meta |= dict(source='mimic3', synthetic=False)
    run_data(cohort, tmp_path)
    network = dict(cohort=grid_metadata(PreparedCohort.load(tmp_path))['cohort'])
    assert network['cohort']['databases'] == ['MIMIC-III']
    union = dict(source='both', joined=[dict(source='mimic3_benchmarks', name='mimic3'), OWN], fingerprint='1')
    assert 'learned from MIMIC-III too' in explain_overlap(network, union, ['mimic3'])
    assert not explain_overlap(network, union, ['own data'])


def test_a_cohort_that_names_no_source_has_no_known_overlap():
    assert not explain_overlap(dict(cohort=dict(source='two hospitals')), {})


def test_notices_of_a_cohort_are_of_its_own_window():
    cohort = toy_cohort()
    cohort.tasks.append(Task('Death', 'mortality'))
    cohort.stays['Death'] = 1.0
    cohort.stays['los_hours'] = 30.0
    assert stay_notices(cohort.stays, cohort.events, cohort.tasks)
    cohort.meta['hours'] = 24
    assert 'before hour' not in describe_cohort(cohort)
    cohort.meta.pop('hours')
    assert 'end before hour 48' in describe_cohort(cohort)


def test_an_application_is_described_with_its_databases():
    cohort = toy_cohort()
    cohort.meta |= dict(source=P2012, synthetic=False)
    shipped = read_checkpoint_description(shipped_network().with_suffix('.json'))
    assert 'learned from PhysioNet 2012 too' in explain_overlap(shipped, _describe_cohort(cohort))
    cohort.meta |= dict(source='x', joined=[dict(source='mimic3', name='old'), OWN])
    assert 'MIMIC-III is of the same hospital' in explain_overlap(shipped, _describe_cohort(cohort))
