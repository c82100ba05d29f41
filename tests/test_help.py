"help() shows the comments of parameters; nothing else about a name changes."

import importlib
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sklearn.base import clone

import rnn_transfer as rt
from rnn_transfer.utilities.help_texts import describe_parameters

WITHOUT_PARAMETERS = {'BENCHMARK_CHANNELS', 'BadInput', 'InputWarning', 'SYSTEMS'}


@pytest.mark.parametrize('name', sorted(set(rt.__all__) - WITHOUT_PARAMETERS))
def test_help_of_every_public_name_has_the_comments_of_its_parameters(name):
    value = getattr(rt, name)
    text = pydoc.plain(pydoc.render_doc(value))
    parameters = [p for p in inspect.signature(value).parameters if p not in ('args', 'kwargs')]
    assert 'Parameters\n' in text and '----------\n' in text
    for parameter in parameters:
        assert re.search(rf'^\W*{parameter}( : .+)?$', text, re.M), parameter


@pytest.mark.parametrize(
    'method, comment',
    [
        ('TransferClassifier.fit', 'with labelled stays in train and val'),
        ('TransferClassifier.evaluate', 'bootstrap replicates of subjects'),
        ('Cohort.load', 'folder with the three files'),
        ('Cohort.from_wide', 'one row a stay and hour, one column a variable'),
        ('MIMICNetFeatures.transform', "stays with the network's channels, or some of them"),
    ],
)
def test_help_of_a_method_has_the_comments_of_its_parameters(method, comment):
    name, _, attribute = method.partition('.')
    assert comment in pydoc.plain(pydoc.render_doc(getattr(getattr(rt, name), attribute)))


def test_nothing_but_the_docstring_changes():
    model = rt.TransferClassifier('net.safetensors', penalty='lasso')
    assert list(inspect.signature(rt.TransferClassifier).parameters)[:2] == ['checkpoint', 'features']
    assert clone(model).get_params() == model.get_params()
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()
    assert pickle.loads(pickle.dumps(rt.auroc)) is rt.auroc
    assert rt.auroc.__doc__.startswith('Area under the ROC curve, ties counted one half.\n\nParameters\n')
    assert rt.auroc.__doc__.count('Parameters\n') == 1


def test_import_reads_no_comments():
    code = 'import sys, rnn_transfer; print([m for m in sys.modules if m.startswith(("rnn_transfer.", "fastcore"))])'
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == '[]'


REFERRING = re.compile(r'\b(as|see) `|\blikewise\b|\bas (fit|X|y)\b')


@pytest.mark.parametrize('name', rt.__all__)
def test_help_says_itself_what_a_parameter_means(name):
    value = getattr(rt, name)
    own = [f for f in vars(value).values() if inspect.isfunction(f)] if inspect.isclass(value) else []
    methods = [f.__func__ for f in vars(value).values() if isinstance(f, classmethod)] if inspect.isclass(value) else []
    for of in [value, *own, *methods]:
        text = describe_parameters(of) if callable(of) and of.__module__.startswith('rnn_transfer') else ''
        assert not (found := REFERRING.search(text)), (
            f'{of.__qualname__}: {text[found.start() - 60 : found.end() + 40]}'
        )


SCRIPTS = tomllib.loads((Path(__file__).parents[1] / 'pyproject.toml').read_text())['project']['scripts']


@pytest.mark.parametrize('command', SCRIPTS)
def test_options_say_themselves_what_they_mean(command):
    module, _, name = SCRIPTS[command].partition(':')
    text = describe_parameters(inspect.unwrap(getattr(importlib.import_module(module), name)))
    assert 'Parameters' in text and not REFERRING.search(text)
