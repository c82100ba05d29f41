"Names from users are data: in figures, paths, HTML, CSV and Markdown."

import json
import warnings
from html.parser import HTMLParser

import pandas as pd
import pytest
from in_process import in_this_process
from test_paper import TINY

from rnn_transfer.cohorts.channels import Channel, Task
from rnn_transfer.data import Cohort
from rnn_transfer.experiment.run import run_experiment
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.display import figure_text, markdown_table, undrawable_names
from rnn_transfer.utilities.files import write_csv

NASTY = [
    'Bill 1: $10% over $20',
    '=1+cmd|calc',
    '<script>alert(1)</script>',
    'a & b "quoted" \'single\'',
    '{run} {} ../../etc',
    '肺炎',
    'x' * 200,
    'back\\slash / slash',
    'Sepsis',
    'SEPSIS',
    'a->b',
    '@SUM(A1) | pipe',
    '$$',
    '%s %(x)d',
]


class Tags(HTMLParser):
    "The tags and the text of a page."

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope='module')
def nasty(tmp_path_factory):
    "A whole run at toy size of a cohort whose names are nasty, in a folder with braces."
    toy, place = toy_cohort(), tmp_path_factory.mktemp('with {braces} and $')
    names = iter(NASTY)
    tasks = {task.name: next(names) for task in toy.tasks}
    channels = [Channel(**(vars(c) | dict(name=f'{c.name} $a$ | <b> {{x}}'))) for c in toy.channels]
    renamed = {old.name: new.name for old, new in zip(toy.channels, channels)}
    events = toy.events.assign(channel=toy.events['channel'].astype(object).map(renamed))
    meta = dict(source='A & B <i>hospital</i> $x$', licence='<b>none</b>', synthetic=True)
    new_tasks = [Task(tasks[t.name], t.kind, f'{t.definition} <u>') for t in toy.tasks]
    Cohort(events, toy.stays.rename(columns=tasks), channels, new_tasks, meta).save(place / 'cohort')
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        with in_this_process():
            run_experiment(place / 'cohort', place / 'run', 'quick', progress=False, **TINY)
        run_experiment(place / 'cohort', place / 'kernel', 'quick', workers=1, only='data', progress=False, **TINY)
    return place / 'run', [str(w.message) for w in seen]


def test_a_run_with_nasty_names_ends_in_a_report(nasty):
    run, _ = nasty
    results = pd.read_parquet(run / 'results.parquet')
    assert set(results['task']) <= set(NASTY) and len(results)


def test_the_report_holds_names_as_text(nasty):
    run, _ = nasty
    for name in ('report.html', 'index.html'):
        page = Tags((run / name).read_text(encoding='utf-8'))
        assert 'script' not in page.tags and 'i' not in page.tags and 'u' not in page.tags
    assert 'A & B <i>hospital</i> $x$' in ' '.join(Tags((run / 'report.html').read_text()).texts)


def test_workers_and_kernels_find_their_folder(nasty):
    run = nasty[0].with_name('kernel')
    assert (run / 'data' / '00_data.ipynb').exists() and (run / 'data' / 'done.json').exists()


def test_no_name_becomes_a_path(nasty):
    run, _ = nasty
    assert not [p for p in run.rglob('*') if any(name in p.name for name in ('script', 'etc', 'Bill', 'cmd'))]


def test_csv_files_hold_no_formula(nasty):
    run, _ = nasty
    for file in [run / 'results.csv', *(run / 'tables').glob('*.csv')]:
        for column in pd.read_csv(file, dtype=str, keep_default_na=False).items():
            texts = column[1][pd.to_numeric(column[1], errors='coerce').isna()]  # -4.6e-05 is a number
            assert not texts.str.match(r'[=@\t\r]|[+-].*[A-Za-z(|!]').any(), (file, column[0])


def test_a_table_for_spreadsheets_keeps_numbers_and_plain_texts(tmp_path):
    frame = pd.DataFrame(dict(a=['=1+1', '-2+3+cmd|x', '-0.5', 'sepsis', None], b=[-1.5, 2, 3, 4, 5]))
    write_csv(frame, tmp_path / 'a.csv')
    back = pd.read_csv(tmp_path / 'a.csv', keep_default_na=False, dtype=dict(a=str))
    assert (
        back['a'].tolist() == ["'=1+1", "'-2+3+cmd|x", '-0.5', 'sepsis', '']
        and back['b'].tolist() == frame['b'].tolist()
    )


def test_markdown_cells_stay_cells():
    lines = markdown_table(pd.DataFrame({'a|b': ['x|y', '<script>', 'p < .05']})).splitlines()
    assert [line.replace('\\|', '').count('|') for line in lines] == [2] * 5
    assert '<script>' not in lines[3] and 'p < .05' in lines[4]


@pytest.mark.parametrize('name', NASTY)
def test_a_figure_writes_a_name_without_mathematics(name, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    ax.set_title(figure_text(name))
    ax.set_yticks([0.5], [figure_text(name)])
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')
        figure.savefig(tmp_path / 'a.png')
    assert len(figure_text(name).replace('\\$', '$')) <= 60


def test_names_without_glyphs_are_known():
    boxes = undrawable_names(['Heart rate', '\U0001f9ec', 'Ω µ ≥'])
    assert 'Heart rate' not in boxes and 'Ω µ ≥' not in boxes


def test_executed_copies_say_nothing_of_missing_math(nasty):
    run, messages = nasty
    assert not [m for m in messages if 'math' in m.lower()]
    manifest = json.loads((run / 'manifest.json').read_text())
    assert manifest['cohort']['source'] == 'A & B <i>hospital</i> $x$'
