"Which public names of a notebook the examples use: by syntax, in the notebook itself or where the name is imported."

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from test_notebooks import NOTEBOOKS, ROOT, cells

EXPORT = re.compile(r"^#\|\s*exporti?\b", re.M)


def parse(source: str) -> ast.Module:
    "A code cell without its lines for the shell and for IPython."
    return ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.M))


@cache
def exported(path: Path) -> list[ast.Module]:
    "The parsed export cells of a notebook."
    return [parse(c["source"]) for c in cells(path, "code") if EXPORT.search(c["source"])]


@cache
def examples(path: Path) -> list[ast.Module]:
    "The parsed code cells of a notebook that are not exported."
    return [parse(c["source"]) for c in cells(path, "code") if not EXPORT.search(c["source"])]


@cache
def module_name(path: Path) -> str:
    "The module that a notebook is the source of; '' for a page."
    for cell in cells(path, "code"):
        if found := re.search(r"^#\|\s*default_exp\s+(\S+)", cell["source"], re.M):
            return f"rnn_transfer.{found[1]}"
    return ""


def patched_class(node: ast.AST) -> str:
    "The class to which fastcore's `patch` adds a function; '' for any other node."
    if not any("patch" in ast.dump(d) for d in getattr(node, "decorator_list", [])):
        return ""
    return ast.unparse(node.args.args[0].annotation) if node.args.args[0].annotation else "cls"


def public_names(path: Path) -> set[str]:
    "What nbdev puts into `__all__`: public functions, classes and constants, but no patches."
    found = set()
    for node in (node for tree in exported(path) for node in tree.body):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not patched_class(node):
            found.add(node.name)
        for target in getattr(node, "targets", []):
            found |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def public_methods(path: Path) -> set[str]:
    "Methods and properties of public classes, as `Class.method`, patches included; torch calls `forward` itself."
    found = set()
    for node in (node for tree in exported(path) for node in tree.body):
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        elif owner := patched_class(node):
            found.add(f"{owner}.{node.name}")
    return {name for name in found if not re.search(r"(^|\.)_", name) and not name.endswith(".forward")}


@cache
def public_face() -> dict[str, tuple[str, str]]:
    "Names of `import rnn_transfer`: the module of each, and its name there."
    tree = ast.parse((ROOT / "rnn_transfer" / "__init__.pyi").read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    return {a.asname or a.name: (f"rnn_transfer.{node.module}", a.name) for node in nodes for a in node.names}


@cache
def bindings(path: Path) -> dict[str, tuple[str, str]]:
    "Local names of a notebook that its imports bind: (module, name), the name '' for a module."
    found = {}
    for node in (node for tree in exported(path) + examples(path) for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name: (a.name, "") for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: (node.module, a.name) for a in node.names}
    return found


def uses(path: Path) -> Iterator[tuple[str, str]]:
    "Module and name of everything that the examples of a notebook read, and ('', attribute) for each attribute."
    bound, own = bindings(path), module_name(path)
    for node in (node for tree in examples(path) for node in ast.walk(tree)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield bound.get(node.id, (own, node.id))
        if isinstance(node, ast.Attribute):
            yield "", node.attr
            module, name = bound.get(ast.unparse(node.value), ("", ""))
            if module == "rnn_transfer":
                yield public_face().get(node.attr, (module, node.attr))
            elif module:
                yield f"{module}.{name}".rstrip("."), node.attr


@cache
def used(path: Path) -> frozenset[tuple[str, str]]:
    "All `uses` of a notebook."
    return frozenset(uses(path))


@cache
def used_anywhere() -> frozenset[tuple[str, str]]:
    "All `uses` of all notebooks."
    return frozenset().union(*(used(p) for p in NOTEBOOKS))


@cache
def readers(module: str) -> list[Path]:
    "The notebook of a module and those that import from it."
    return [p for p in NOTEBOOKS if module_name(p) == module or any(m == module for m, _ in bindings(p).values())]


def not_shown(path: Path) -> set[str]:
    "Public names and methods of a notebook that no example uses."
    module = module_name(path)
    hidden = {name for name in public_names(path) if (module, name) not in used_anywhere()}
    attributes = {name for p in readers(module) for owner, name in used(p) if not owner}
    return hidden | {name for name in public_methods(path) if name.split(".")[1] not in attributes}
