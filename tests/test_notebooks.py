"Every notebook runs from top to bottom and keeps to the house style."

import json
import re
import statistics
from functools import cache
from pathlib import Path

import pytest
from shells import forget_shells

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(
    p for p in NBS.rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.relative_to(NBS).parts)
)
LIMIT = 30  # lines of a code cell
MACHINE = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|Users|private|var/folders|mnt|opt|content)/[\w.]|[A-Z]:\\\\Users|ipykernel_\d|site-packages/"
)
NOISE = re.compile(r"\b\w*Warning\b|Traceback \(most recent call last\)|\d%\|[█▏▎▍▌▋▊▉# ]")

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())
numbered = pytest.mark.parametrize("path", [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)], ids=lambda p: p.name)


def text(part) -> str:
    "A notebook stores text as one string or as a list of lines."
    return "".join(part) if isinstance(part, list) else part


@cache
def cells(path: Path, kind: str | None = None) -> list[dict]:
    "The cells of a notebook, `source` joined."
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**c, "source": text(c["source"])} for c in found if kind in (None, c["cell_type"])]


def code_lines(source: str) -> list[str]:
    "The lines of a code cell, without directives and blank lines."
    return [line for line in source.splitlines() if line.strip() and not line.startswith("#|")]


def saved_text(cell: dict) -> str:
    "Everything in a cell's outputs that a reader reads."
    parts = []
    for out in cell.get("outputs", []):
        parts.append(text(out.get("text", "")))
        parts += [
            text(v) for mime, v in out.get("data", {}).items() if mime.startswith("text/") or mime == "image/svg+xml"
        ]
    return "\n".join(parts)


@every
def test_runs(path, monkeypatch):
    from nbdev.test import test_nb as run

    forget_shells()
    monkeypatch.setenv("IN_TEST", "1")
    monkeypatch.chdir(ROOT)
    passed, _ = run(path.resolve(), skip_flags=["slow"], basepath=ROOT)
    assert passed, "the failing cell is in the captured stderr"


@every
def test_starts_with_title_and_subtitle(path):
    first = cells(path)[0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S.*\n\n?> \S", first["source"]), "the first cell is an H1 and a one-line `> subtitle`"


@every
def test_code_cells_are_short(path):
    long = {c["id"]: n for c in cells(path, "code") if (n := len(code_lines(c["source"]))) > LIMIT}
    assert not long, f"cells longer than {LIMIT} lines: {long}"
    lengths = [len(code_lines(c["source"])) for c in cells(path, "code")] or [0]
    assert statistics.median(lengths) <= 10


@every
def test_imports_have_cells_of_their_own(path):
    mixed = []
    for cell in cells(path, "code"):
        lines = re.sub(r"\\\n|\([^()]*\)", " ", cell["source"]).splitlines()
        lines = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        imports = [bool(re.match(r"(import|from)\s+\S", line)) for line in lines if not line.startswith(("%", "!"))]
        top = [bool(re.match(r"(import|from)\s+\S", line)) for line in cell["source"].splitlines()]
        if any(top) and not all(imports):
            mixed.append(cell["id"])
    assert not mixed, f"cells that import and do something else, which the site's builder would run: {mixed}"


@numbered
def test_one_parameters_cell(path):
    tagged = [c for c in cells(path, "code") if "parameters" in c.get("metadata", {}).get("tags", [])]
    assert len(tagged) == 1
    for line in code_lines(tagged[0]["source"]):
        assert re.match(r"[a-z]\w*\s*=\s*[^;=]+?\s+#\s*\S", line), f"one assignment and its reason a line: {line}"


@every
def test_saved_outputs_hold_nothing_of_the_machine(path):
    bad = {}
    for cell in cells(path, "code"):
        for out in cell.get("outputs", []):
            if out["output_type"] == "error":
                bad[cell["id"]] = out["ename"]
            if out.get("name") == "stderr" and not text(out["text"]).startswith("error: "):
                bad[cell["id"]] = text(out["text"])[:200]
        shown = saved_text(cell)
        if hit := MACHINE.search(shown) or NOISE.search(shown):
            bad[cell["id"]] = shown[max(0, hit.start() - 40) : hit.end() + 40]
    assert not bad


@every
def test_enough_is_said(path):
    prose, code = (
        len(cells(path, "markdown")),
        len([c for c in cells(path, "code") if not c["source"].startswith("#| hide")]),
    )
    assert prose >= code / 3, f"{prose} cells of prose for {code} of code"


@every
def test_no_closing_export(path):
    assert not any("nbdev_export(" in c["source"] for c in cells(path, "code")), (
        "papermill would rewrite the library from inside a run"
    )
