"The house style: documented names, short modules, plain words."

import ast
import re
from itertools import pairwise

import pytest
from shown import EXPORT, exported, parse
from test_notebooks import NBS, NOTEBOOKS, ROOT, cells

LIBRARY = ROOT / "rnn_transfer"
MODULES = sorted(p for p in LIBRARY.rglob("*.py") if p.name not in ("_modidx.py", "__init__.py"))
CHAPTERS = [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)]
# Words that have a plainer one (docs/pages/glossary.md has the terms); a quotation of the paper may keep its own.
PLAIN = re.compile(
    r"\b(mend(?:s|ed|ing)?|refus(?:e|es|ed|al|ing)|told|reckon\w*|sweep\w*|swept|beside|held against|ahead|behind"
    r"|not to be told|last in line|asks most loudly|first weights|last states|bootstrap draws)\b"
)

# Prose has British spelling with -s-; a normalizer and a standardizer are what the classes of these names make.
AMERICAN = re.compile(
    r"\b((?:normal|standard)iz(?:e|es|ed|ing|ation)|(?:un)?labeled|centered|neighbor\w*|colors?"
    r"|\w*(?:initial|regular|optim|summar|recogn|penal|minim|maxim|organ)iz\w*)\b",
    re.IGNORECASE,
)
PAGES = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "Makefile")]
for pattern in (".github/**/*.*ml", ".github/*.md", "benchmarks/*.py", "docs/*.py", "docs/pages/*.md", "tests/*.py"):
    PAGES += sorted(ROOT.glob(pattern))
# this file lists the words
PAGES = [path for path in PAGES if path.name != "test_style.py"]

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())


def public_definitions(tree: ast.Module):
    "Public functions and classes of an export cell, methods of public classes included."
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


def undocumented(node: ast.FunctionDef, lines: list[str]) -> list[str]:
    "The parameters of a function without a type or without a comment in their line, and a missing result type."
    a = node.args
    given = [x for x in a.posonlyargs + a.args + a.kwonlyargs + [a.vararg, a.kwarg] if x]
    given = [x for x in given if x.arg not in ("self", "cls")]
    found = [f"{x.arg}: no type" for x in given if x.annotation is None and x not in (a.vararg, a.kwarg)]
    found += [f"{x.arg}: no comment" for x in given if "#" not in lines[x.end_lineno - 1]]
    return found + (["result: no type"] if node.returns is None else [])


@every
def test_public_functions_are_documented(path):
    bad = {}
    for cell in cells(path, "code"):
        if not EXPORT.search(cell["source"]):
            continue
        lines, tree = cell["source"].splitlines(), ast.parse(cell["source"])
        for node in public_definitions(tree):
            if isinstance(node, ast.FunctionDef) and (missing := undocumented(node, lines)):
                bad[node.name] = missing
    assert not bad


@every
def test_docstrings_are_one_line(path):
    docs = {n.name: ast.get_docstring(n) for tree in exported(path) for n in public_definitions(tree)}
    assert not {name: text for name, text in docs.items() if text is None or "\n" in text}


@every
def test_words_are_plain(path):
    found = {}
    for cell in cells(path):
        text = cell["source"]
        if cell["cell_type"] == "code" and not EXPORT.search(text):
            continue
        quotes = re.sub(r"“[^”]*”", "", text)
        if hits := PLAIN.findall(quotes):
            found[cell["id"]] = hits
    assert not found


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_words_of_pages_and_tests_are_plain(path):
    text = re.sub(r"“[^”]*”", "", path.read_text(encoding="utf-8"))
    assert not PLAIN.findall(text)


def american_words(markdown: str) -> list[str]:
    "Words in American spelling, outside code, links' targets and quotations."
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|“[^”]*”|\"[^\"\n]*\"", "", markdown, flags=re.S)
    return AMERICAN.findall(prose)


# the notebooks of evaluation are not checked yet: some have American spelling
@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent.name != "evaluation"], ids=lambda p: p.name)
def test_spelling_of_prose(path):
    assert not [word for cell in cells(path, "markdown") for word in american_words(cell["source"])]


@pytest.mark.parametrize("path", [p for p in PAGES if p.suffix == ".md"], ids=lambda p: p.name)
def test_spelling_of_pages(path):
    assert not american_words(path.read_text(encoding="utf-8"))


# in these, some public cells still follow another export cell at once: they change often, or are at their 62 cells
WITHOUT_SENTENCES = {"sources", "estimators", "00_data", "01_model"}


def defined_names(source: str) -> set[str]:
    "The names that a code cell defines: functions, classes and constants."
    found = set()
    for node in parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        targets = getattr(node, "targets", []) + [t for t in [getattr(node, "target", None)] if t is not None]
        found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return found


@every
def test_a_sentence_or_an_example_stands_between_public_cells(path):
    if {path.parent.name, path.stem} & WITHOUT_SENTENCES:
        pytest.skip("not every cell has its sentence yet")
    found = []
    for before, cell in pairwise(cells(path)):
        is_export = all(c["cell_type"] == "code" and EXPORT.search(c["source"]) for c in (before, cell))
        if is_export and defined_names(before["source"]):
            found += [name for name in defined_names(cell["source"]) if not name.startswith("_")]
    assert not found, "say in one sentence why, before the cell that defines these"


@every
def test_ends_with_a_summary(path):
    if path.name in ("index.ipynb", "results.ipynb"):
        pytest.skip("a page, not a chapter")
    last = cells(path)[-1]
    lines = [line for line in last["source"].splitlines() if line.strip()]
    assert last["cell_type"] == "markdown" and lines[0] == "## Summary" and len(lines) == 4, (
        "three lines under ## Summary"
    )


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.name)
def test_a_chapter_has_about_sixty_cells(path):
    assert len(cells(path)) <= 62


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(LIBRARY).as_posix())
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
