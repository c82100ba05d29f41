"A source that is entered in one place is known everywhere."

import importlib.util
import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from test_site import builder

from rnn_transfer.data import Cohort
from rnn_transfer.experiment.commands import rnn_transfer_cohort
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.sources.known_sources import SOURCES, Source, complete_comment, describe_known_sources, run_defaults
from rnn_transfer.testing import toy_cohort

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = set(inspect.signature(rnn_transfer_cohort).parameters) - {'source', 'out', 'debug'}


def module_of(name):
    return import_module(f'rnn_transfer.sources.{SOURCES[name].module or name}')


def bug_form_of(text, sources):
    "docs/sources.py as a module."
    spec = importlib.util.spec_from_file_location('docs_sources', ROOT / 'docs' / 'sources.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.bug_form(text, sources)


def help_of_cohort(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['rnn_transfer_cohort', '--help'])
    with pytest.raises(SystemExit):
        rnn_transfer_cohort()
    return ' '.join(capsys.readouterr().out.split())


@pytest.fixture
def eicu(monkeypatch):
    "A source that is entered in `SOURCES`, and has a module with its function."
    asked = {}
    module = ModuleType('rnn_transfer.sources.eicu')

    def cohort(path, corrected=(), progress=None):
        asked.update(path=path, corrected=corrected, progress=progress)
        return toy_cohort(60)

    module.cohort = cohort
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SOURCES, 'eicu', Source(('path', 'corrected'), profile='open', sites=('north', 'south')))
    return asked


@pytest.mark.parametrize('name', SOURCES)
def test_an_entry_agrees_with_its_module_and_its_command(name):
    source = SOURCES[name]
    assert set(source.needs) <= set(source.options) <= OPTIONS and source.profile in PROFILES
    parameters = inspect.signature(module_of(name).cohort).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    assert takes_any or set(source.options) <= set(parameters)
    menu = {page for _, pages in builder().MENU for page in pages}
    assert f'sources/{SOURCES[name].module or name}.ipynb' in menu


def test_every_option_belongs_to_a_source():
    assert {option for source in SOURCES.values() for option in source.options} == OPTIONS


def test_a_new_source_can_be_built(eicu, tmp_path, capsys):
    rnn_transfer_cohort('eicu', path='folder', corrected='ages,units', out=str(tmp_path / 'c'))
    assert eicu['path'] == 'folder' and eicu['corrected'] == ('ages', 'units') and eicu['progress'] is not None
    assert len(Cohort.load(tmp_path / 'c').stays) == 60 and '60 stays' in capsys.readouterr().out
    for options, message in (({}, '--path is missing'), (dict(path='f', n=3), '--n: eicu has no such option')):
        with pytest.raises(SystemExit):
            rnn_transfer_cohort('eicu', out=str(tmp_path / 'other'), **options)
        assert message in capsys.readouterr().err


def test_help_and_messages_name_a_new_source(eicu, monkeypatch, capsys):
    said = help_of_cohort(monkeypatch, capsys)
    assert 'physionet2019, table (own) or eicu' in said
    assert 'mimic3, mimic4, meds: fix what is wrong in the reference; all, or names (default: none); eicu too' in said
    with pytest.raises(SystemExit):
        rnn_transfer_cohort('nothing')
    assert 'table, eicu' in capsys.readouterr().err


def test_help_names_every_source_of_an_option(monkeypatch, capsys):
    assert describe_known_sources() in help_of_cohort(monkeypatch, capsys)
    code = inspect.getsource(inspect.getmodule(rnn_transfer_cohort))
    for option in OPTIONS:
        comment = next(line.split('  # ')[1] for line in code.splitlines() if line.startswith(f'    {option}: '))
        assert complete_comment(option, comment) == comment, option
    assert 'mimic3, ' in complete_comment('path', 'mimic3_benchmarks: the folder')  # a name within another counts not


def test_the_form_for_bugs_offers_every_source(eicu):
    text = (ROOT / '.github' / 'ISSUE_TEMPLATE' / 'bug.yml').read_text(encoding='utf-8')
    assert 'options: [synthetic, mimic3' in text and 'table, eicu, my own, none]' not in text
    assert 'table, eicu, my own, none]' in bug_form_of(text, list(SOURCES))


def test_defaults_of_make_paper(eicu):
    assert run_defaults('eicu') == '--profile open --pretrain-sites north --transfer-sites south'
    assert run_defaults('physionet2012') == '--profile open' and run_defaults('mimic3') == '--profile quick'
    assert run_defaults('physionet2019') == '--profile hospitals --pretrain-sites A --transfer-sites B'
    assert run_defaults('physionet2019', between_sites=False) == '--profile hospitals'


@pytest.mark.parametrize(
    'asked, defaults, given',
    [
        ([], 'd("synthetic", True)', []),
        (['SOURCE=eicu', 'PROFILE=paper'], 'd("eicu", True)', ['--profile "paper"']),
        (['SOURCE=physionet2019', 'FROM=B', 'TO=A'], 'False', ['--pretrain-sites "B"', '--transfer-sites "A"']),
        (['SOURCE=physionet2019', 'FROM=', 'TO='], 'd("physionet2019", False)', []),
    ],
)
def test_make_paper_asks_the_entry_and_what_is_asked_for_wins(asked, defaults, given):
    env = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'ARGS')}  # of make test
    command = ['make', '-n', 'paper', *asked]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    line = next(line for line in ran.stdout.splitlines() if 'rnn_transfer_paper' in line)
    assert defaults in line.partition('print(')[2]
    options = line.partition('print(')[2].partition("')")[2].split(' --')
    assert [f'--{option.strip()}' for option in options[1:]] == given


@pytest.mark.parametrize(
    'asked, folder',
    [
        ([], 'runs/physionet2019'),
        (['FROM=B', 'TO=A'], 'runs/physionet2019-B-A'),
        (['FROM=', 'TO='], 'runs/physionet2019-all-all'),
        (['FROM=A;St Mary', 'TO=a/1, C'], 'runs/physionet2019-A+St_Mary-a_1+_C'),
        (['FROM=B', 'TO=A', 'OUT=elsewhere'], 'elsewhere'),
    ],
)
def test_each_direction_has_a_folder(asked, folder):
    env = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'ARGS', 'FROM', 'TO', 'OUT')}
    command = ['make', '-n', 'paper', 'SOURCE=physionet2019', *asked]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    line = next(line for line in ran.stdout.splitlines() if 'rnn_transfer_paper' in line)
    assert f'--out "{folder}" ' in line
