"Sections and figures of the report: what is left out, which labels move, and what a figure that shows nothing becomes."

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_transfer.evaluation import labels_saved, learning_curves
from rnn_transfer.evaluation.layout import ReportTable, Section, name_fractions
from rnn_transfer.evaluation.plotting import LineEnd, label_ends, new_figure, spread_labels
from rnn_transfer.evaluation.toy import toy_evaluation

heights = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=8).map(sorted)


@given(heights, st.floats(0.01, 0.3))
def test_labels_keep_their_distance_and_their_order(y, gap):
    assert (np.diff(spread_labels(y, gap)) >= gap - 1e-9).all()


@given(heights, st.floats(0.01, 0.3))
def test_a_label_that_collides_with_none_stays(y, gap):
    new = spread_labels(y, gap)
    free = np.diff(y, prepend=-np.inf, append=np.inf) >= len(y) * gap
    assert (new[free[:-1] & free[1:]] == np.array(y)[free[:-1] & free[1:]]).all()
    assert np.mean(new) == pytest.approx(np.mean(y))


def test_only_labels_that_move_have_a_leader_line():
    _, axes = new_figure(4, 3)
    ax = axes[0, 0]
    ax.set_ylim(0, 1)
    label_ends(ax, [LineEnd(0.2, 1, 'a', 'k'), LineEnd(0.21, 1, 'b', 'k'), LineEnd(0.8, 1, 'c', 'k')])
    found = {t.get_text(): (t.arrow_patch is not None, t.xyann[1]) for t in ax.texts}
    assert found['c'] == (False, 0.8)
    assert found['a'][0] and found['b'][0] and found['a'][1] < 0.2 and found['b'][1] > 0.21


def test_a_section_leaves_out_what_is_not_there():
    table = ReportTable('t', 'T', pd.DataFrame(dict(a=[1])), pd.DataFrame(dict(a=['1'])))
    section = Section('Question', [None, 'First.', table, '', 'Last.'])
    assert section.items == ['First.', table, 'Last.'] and section.names == ['t'] and section['t'] is table
    assert section.sentences == 'First. Last.'
    with pytest.raises(KeyError, match="'u'"):
        section['u']


def test_a_level_that_is_never_reached_is_a_sentence():
    section = labels_saved.section(toy_evaluation({'LR': 2.5, 'MN-LR-2': -1.5}, (0.05, 1.0)))
    assert section.names == ['efficiency'] and isinstance(section.items[0], ReportTable)
    assert 'not reached' in section.sentences


def test_a_sentence_on_all_tables_is_in_none_of_their_notes():
    kinds = dict(Shock='phenotype', Mortality='mortality')
    section = learning_curves.section(toy_evaluation(kinds=kinds))
    assert section.sentences and not any(section.sentences in section[name].note for name in section.names)


def test_importing_a_section_does_not_import_matplotlib():
    code = 'import sys, rnn_transfer.evaluate; assert "matplotlib" not in sys.modules'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_a_sentence_holds_up_to_the_next_one():
    frame = pd.DataFrame(dict(a=['1']))
    a, b, c = (ReportTable(name, name, frame, frame) for name in 'abc')
    section = Section('Question', [a, 'One.', 'Two.', b, 'Three.', c])
    assert [section.sentences_for(name) for name in 'abc'] == ['', 'One. Two.', 'Three.']


def test_labels_of_a_fraction_are_counted_once_however_many_systems_saw_them():
    ev = toy_evaluation({"LR": 0.4, "pooled-LR": 0.4})
    known = name_fractions(toy_evaluation({"LR": 0.4}))
    rows = ev.results
    rows.loc[rows["model"] == "pooled-LR", ["n_train", "n_positive"]] = [12_887, 1_596]
    twice = rows[(rows["model"] == "LR") & (rows["task"] == rows["task"].iloc[0])].assign(
        model="SAPS-I", n_train=np.nan
    )
    ev.results = pd.concat([twice, twice.assign(model="SOFA"), rows], ignore_index=True)
    assert name_fractions(ev) == known
