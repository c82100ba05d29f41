"Checklists: the numbers of their items, what is filled and what is left, and facts against the data they come from."

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_transfer.data import run_data
from rnn_transfer.utilities.files import load_resource
from rnn_transfer.testing import toy_cohort
from rnn_transfer.evaluation import checklists as K
from rnn_transfer.evaluation.results import toy_evaluation

TRIPOD = [
    '1',
    '2',
    '3a',
    '3b',
    '3c',
    '4',
    '5a',
    '5b',
    '6a',
    '6b',
    '6c',
    '7',
    '8a',
    '8b',
    '8c',
    '9a',
    '9b',
    '9c',
    '10',
    '11',
    '12a',
    '12b',
    '12c',
    '12d',
    '12e',
    '12f',
    '12g',
    '13',
    '14',
    '15',
    '16',
    '17',
    '18a',
    '18b',
    '18c',
    '18d',
    '18e',
    '18f',
    '19',
    '20a',
    '20b',
    '20c',
    '21',
    '22',
    '23a',
    '23b',
    '24',
    '25',
    '26',
    '27a',
    '27b',
    '27c',
]
REFORMS = [f'{m}{"abcdefg"[k]}' for m, n in enumerate([3, 5, 7, 3, 6, 3, 3, 2], 1) for k in range(n)]

SAID = dict(
    profile='quick',
    options=dict(
        hidden=[32, 64], lr=1e-3, lambdas=[0.1, 1, 1e4], choose='nll', max_updates=1500, patience=3, batch=128
    ),
    commit='0123456789abcdef',
    versions=dict(rnn_transfer='0.1.0', python='3.11'),
    hardware=dict(system='Linux', machine='x86_64', cpus=2, memory_gb=24),
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    "The toy cohort's data, with what a real source would tell."
    p = run_data(toy_cohort(), tmp_path_factory.mktemp('run'))
    p.meta |= dict(
        citation='Somebody 2020',
        url='https://example.org',
        cleaning=[{'parameter': 'pH', 'missing code': 2, 'outside range': 3}],
    )
    return p


@pytest.fixture(scope='module')
def ev(prepared):
    tasks = [t.name for t in prepared.tasks]
    ev = toy_evaluation({'LR': 0.4, 'MN-LR-2': 0.9}, kinds={tasks[0]: 'phenotype', tasks[-1]: 'mortality'})
    ev.about |= dict(
        flow=[dict(step='stays', stays=300, subjects=250), dict(step='with a reading', stays=240, subjects=200)]
    )
    return ev


# ---------------------------------------------------------------- the lists


@pytest.mark.parametrize('name,numbers', [('tripod', TRIPOD), ('reforms', REFORMS)])
def test_items_are_those_of_the_published_list(name, numbers):
    t = K.checklist(name)
    assert t['item'].tolist() == numbers and t[['section', 'topic', 'asked']].map(bool).all().all()
    assert (t['answer'].notna() | t['left'].notna()).all(), 'an item that nobody answers'


@pytest.mark.parametrize('file', K.CHECKLISTS.values())
def test_each_list_names_its_source_and_what_was_checked(file):
    told = load_resource(file)
    assert {'name', 'source', 'doi', 'wording', 'checked'} <= set(told) and told['doi'].startswith('10.')


@pytest.mark.parametrize('name', K.CHECKLISTS)
def test_every_fact_that_an_answer_speaks_of_is_known_to_a_full_run(name, ev, prepared):
    facts = K.collect_facts(ev, SAID, prepared)
    spoken = {f for a in K.checklist(name)['answer'] for f in K.required_facts(a)}
    assert spoken <= set(facts) and not [f for f in spoken if not facts[f]]
    assert all(isinstance(v, str) for v in facts.values())


# ---------------------------------------------------------------- filling

ITEMS = pd.DataFrame(
    [
        dict(item=str(k), section='s', topic='t', asked='a', answer=a, left=l)
        for k, (a, l) in enumerate(
            [('{x} and {y}', None), ('{x}', 'more'), (None, 'all'), ('said', None), ('said', 'more')]
        )
    ]
)


@given(st.fixed_dictionaries({}, optional=dict(x=st.sampled_from(['1', '', None]), y=st.sampled_from(['2', '', None]))))
def test_a_sentence_is_never_half_filled(facts):
    found = K.fill_items(ITEMS, facts)
    x, y = (bool(facts.get(k)) for k in 'xy')
    author = 'for the author'
    assert found['state'].tolist() == [
        'filled' if x and y else author,
        'in part' if x else author,
        author,
        'filled',
        'in part',
    ]
    assert (
        not found['answer'].str.contains('[{}]|None', regex=True).any()
        and ((found['answer'] == '') == (found['state'] == author)).all()
    )
    assert ((found['left'] == '') == (found['state'] == 'filled')).all()


def test_counts_add_up(ev, prepared):
    for name, list_ in (('TRIPOD+AI', K.fill_tripod), ('REFORMS', K.fill_reforms)):
        found = list_(ev, SAID, prepared)
        n = [int(x) for x in re.findall(r'\b\d+\b', K.summarise_items(found, name))]
        assert n[1] == len(found) == n[0] + n[2] + n[3] and K.summarise_items(found, name).startswith(name)
        assert n[0] >= len(found) // 4, 'software should fill what it can'


def test_less_known_is_never_more_filled(ev, prepared):
    full, bare = K.fill_tripod(ev, SAID, prepared), K.fill_tripod(ev)
    rank = {s: k for k, s in enumerate(K.STATES)}
    assert (full['state'].map(rank) <= bare['state'].map(rank)).all() and (
        bare['state'].map(rank) > full['state'].map(rank)
    ).any()
    assert 'the run does not tell: hardware' in K.fill_reforms(ev, {}, prepared).set_index('item').loc['2c', 'left']


def test_facts_of_ones_own_come_first(ev, prepared):
    found = K.fill_reforms(ev, SAID, prepared, dict(cleaning='By hand.')).set_index('item')
    assert found.loc['4b', 'answer'] == 'By hand.'


# ---------------------------------------------------------------- facts


def test_facts_of_the_cohort_are_counts_of_its_tables(ev, prepared):
    facts, stays = K.cohort_facts(ev, prepared), prepared.stays
    test = stays[stays['partition'] == 'test']
    task = prepared.tasks[0].name
    assert (
        facts['test'] == f'{len(test)} stays of {test["subject_id"].nunique()} subjects'
        and facts['test'] in facts['partitions']
    )
    assert (
        f'{task} {int(stays.loc[stays["partition"] != "test", task].sum())} of' in facts['prevalence']
        and f'{int(test[task].sum())} of {len(test)}' in facts['prevalence']
    )
    assert (
        facts['flow'] == 'stays 300 (250 subjects); with a reading 240 (200 subjects)'
        and '5 values' in facts['cleaning']
        and facts['hours'] == '48'
    )
    assert (
        facts['source'].startswith('Synthetic data')
        and 'Somebody 2020' in facts['dataset']
        and 'https://example.org' in facts['dataset']
    )


def test_stays_without_a_measurement_are_counted(ev, prepared):
    cohort = toy_cohort()
    seen = cohort.events[cohort.events['hour'] < 48].groupby('channel', observed=True)['stay_id'].nunique()
    n = len(cohort.stays)
    for channel, share in re.findall(r'([A-Z][\w ]+?) ([\d.]+) %', K.missingness(prepared).split(': ')[1]):
        assert float(share) == pytest.approx(100 * (1 - seen[channel] / n), abs=0.06)


def test_inputs_are_described_as_they_were_made():
    facts = K.grid_facts(dict(hours=24, masks=False, short='length', normaliser='phenotyping'))
    assert (
        '24 hours' in facts['preparation']
        and 'true length' in facts['preparation']
        and 'mimic3-benchmarks' in facts['preparation']
        and 'measured' not in facts['missing']
    )


def test_settings_are_those_of_the_manifest():
    facts = K.setting_facts(SAID)
    assert (
        facts['software'] == 'rnn_transfer 0.1.0, commit 0123456789ab'
        and facts['hardware'] == 'Linux, x86_64, 2 cores, 24 GB of memory'
    )
    assert (
        '32, 64' in facts['tuning']
        and '0.1, 1, 10000' in facts['tuning']
        and '1,500 updates' in facts['tuning']
        and 'negative log-likelihood' in facts['tuning']
        and '--profile quick' in facts['command']
    )
    assert not any(K.setting_facts({}).values()) and not any(K.setting_facts(dict(profile=None)).values())


@pytest.mark.parametrize(
    'options,said',
    [
        (
            {'patience': 6, 'transfer.patience': 15},
            'early stopping with patience 6 in pre-training and early stopping with patience 15 on target tasks',
        ),
        (
            {'eval_every': 50, 'transfer.eval_every': 10},
            'every 50 updates (or every epoch, if longer) in pre-training and a look at the validation loss every 10 updates (or every epoch, if longer) on target tasks',
        ),
        (
            {'max_updates': 3000, 'transfer.max_updates': 1500},
            'at most 3,000 updates in pre-training and at most 1,500 updates on target tasks',
        ),
        (
            {'max_updates': 3000, 'pretrain.max_updates': 9000},
            'at most 9,000 updates in pre-training and at most 3,000 updates on target tasks',
        ),
        ({'max_updates': 3000, 'pretrain.max_updates': 3000}, 'at most 3,000 updates.'),
        (
            {'max_updates': 3000, 'autoencoder_updates': 500},
            'at most 3,000 updates, at most 500 updates for the autoencoder',
        ),
        ({'pretrain.autoencoder_updates': 700}, 'at most 700 updates for the autoencoder'),
        ({'pretrain.lr': 0.01}, 'Adam with learning rate 0.01 in pre-training.'),
    ],
)
def test_options_of_one_step_are_said_beside_those_of_the_other(options, said):
    tuning = K.setting_facts(dict(options=options))['tuning']
    assert said in tuning and tuning.startswith('Tuning: ') and tuning.endswith('.')


def test_an_option_that_both_steps_share_is_said_once():
    tuning = K.setting_facts(SAID)['tuning']
    assert (
        tuning.count('patience') == 1
        and 'in pre-training' not in tuning
        and 'autoencoder' not in tuning
        and 'every' not in tuning
    )


def test_what_the_authors_saw_of_the_test_set_is_theirs_to_say(ev, prepared):
    row = K.fill_reforms(ev, SAID, prepared).set_index('item').loc['5d']
    assert (
        row['state'] == 'in part'
        and 'before the test set was seen' in row['left']
        and 'after seeing' not in row['answer']
    )


def test_numbers_are_those_of_the_results(ev):
    facts = K.result_facts(ev)
    a = ev.averages().query("model == 'LR' and task_kind == 'mortality' and fraction == 1").iloc[0]
    assert (
        f'mortality, LR .{round(1000 * a["value"]):03d}' in facts['performance']
        and '200 bootstrap draws' in facts['intervals']
        and facts['models'] == 'LR and MN-LR-2'
        and facts['failures'].startswith('0 of 8 fits')
    )
    assert '10 % and 100 % of the labels' in facts['fractions'] and '(1 draws a size)' in facts['fractions']


def test_without_replicates_no_interval_is_claimed(prepared):
    ev = toy_evaluation({'LR': 0.4}, kinds={prepared.tasks[0].name: 'phenotype'}, replicates=0)
    assert K.result_facts(ev)['intervals'] == ''
    assert K.fill_reforms(ev, SAID, prepared).set_index('item').loc['7b', 'state'] == 'for the author'
