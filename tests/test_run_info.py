"What a report says of the design of its run: who was tested, what the labels are, which rules apply."

import pandas as pd
import pytest

from rnn_transfer.cohorts.channels import Task
from rnn_transfer.cohorts.summary import stay_notices
from rnn_transfer.data import run_data
from rnn_transfer.evaluation.captions import explain_overlap, run_info
from rnn_transfer.evaluation.hospitals import _why_other_design
from rnn_transfer.evaluation.label_notes import label_fact_rows
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment.commands import describe_cohort
from rnn_transfer.testing import toy_cohort

RULED = dict(source='PhysioNet/CinC Challenge 2019', same_tasks=True)
DESIGN = dict(given=False, sites=(['A'], ['B']), hours=24)


def test_labels_are_counted_among_the_stays_that_are_tested(tmp_path):
    "The facts of a cohort are over all its sites."
    cohort = toy_cohort()
    cohort.stays['site'] = ['A', 'B'] * (len(cohort.stays) // 2) + ['A'] * (len(cohort.stays) % 2)
    run_data(cohort, tmp_path, pretrain_sites=['A'], transfer_sites=['B'])
    from rnn_transfer.data import PreparedCohort

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
