"The house style: names shown and documented, short modules, one-way imports, plain words."

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from test_notebooks import NBS, NOTEBOOKS, ROOT, cells

LIBRARY = ROOT / "rnn_transfer"
MODULES = sorted(p for p in LIBRARY.rglob("*.py") if p.name not in ("_modidx.py", "__init__.py"))
CHAPTERS = [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)]
EXPORT = re.compile(r"^#\|\s*exporti?\b", re.M)
# Words of names.md that have a plainer one; a quotation of the paper may keep its own.
PLAIN = re.compile(
    r"\b(mend(?:s|ed|ing)?|refus(?:e|es|ed|al|ing)|told|reckon\w*|sweep\w*|swept|beside|held against|ahead|behind"
    r"|not to be told|last in line|asks most loudly|first weights|last states)\b"
)

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())


@cache
def exported(path: Path) -> list[ast.Module]:
    "The parsed export cells of a notebook."
    return [ast.parse(c["source"]) for c in cells(path, "code") if EXPORT.search(c["source"])]


@cache
def shown_names() -> frozenset[str]:
    "Every name that an example of any notebook uses: code cells that are not exported."
    found = set()
    for path in NOTEBOOKS:
        for cell in cells(path, "code"):
            if not EXPORT.search(cell["source"]):
                found |= set(re.findall(r"[A-Za-z_]\w*", cell["source"]))
    return frozenset(found)


def is_patch(node: ast.AST) -> bool:
    "Whether a function is a method that fastcore's `patch` adds to a class."
    return any("patch" in ast.dump(d) for d in getattr(node, "decorator_list", []))


def public_definitions(tree: ast.Module):
    "Public functions and classes of an export cell, methods of public classes included."
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


def public_names(path: Path) -> set[str]:
    "What nbdev puts into `__all__`: public functions, classes and constants, but no patches."
    found = set()
    for tree in exported(path):
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not is_patch(node):
                found.add(node.name)
            for target in getattr(node, "targets", []):
                found |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return {n for n in found if not n.startswith("_")}


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
def test_public_names_are_shown(path):
    hidden = public_names(path) - shown_names()
    assert not hidden, "public names that no example uses: show them, or begin them with an underscore"


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


def imported_modules(path: Path) -> set[str]:
    "The modules of the package that a module imports when it is imported."
    found = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {module, *(f"{module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found


def test_imports_go_one_way():
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}
    needs = {name: imported_modules(p) & set(names) for name, p in names.items()}
    ready: set[str] = set()
    while fresh := {n for n, need in needs.items() if n not in ready and need <= ready}:
        ready |= fresh
    assert not set(needs) - ready, "these modules import each other in a circle"
