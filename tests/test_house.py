"The tree is in step with its sources, its modules depend on each other one way, and what others may use is shown."

import ast
import configparser
import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from in_step import out_of_step
from shown import not_shown
from test_notebooks import NBS, NOTEBOOKS
from test_site import builder

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts): p
    for p in sorted((ROOT / "rnn_transfer").rglob("*.py"))
    if p.name not in ("_modidx.py", "__init__.py")
}
# Folders and chapters from the lowest layer to the highest: each may import those before it, and its own folder.
LAYERS = ["utilities", "cohorts", "frames", "data", "model", "learning", "pretrain", "transfer"]
LAYERS += ["evaluation", "evaluate", "estimators", "apply", "experiment", "paper"]
MAY_IMPORT = {name: set(LAYERS[:i]) for i, name in enumerate(LAYERS)}
MAY_IMPORT |= {name: {"utilities", "cohorts", "frames", "data"} for name in ("sources", "testing")}
# The commands read which sources there are, and import a source inside the function that runs it.
IMPORTS_OF_SOURCES = {
    ("experiment.commands", "sources.known_sources"),
    ("experiment.commands", "sources.mimic3_export"),
    ("experiment.commands", "sources.mimic3_verify"),
    ("experiment.join_command", "sources.join"),
    ("experiment.run", "sources.synthetic_raw"),
}
TEXT = {
    ".py",
    ".ipynb",
    ".md",
    ".toml",
    ".ini",
    ".txt",
    ".cff",
    ".yml",
    ".yaml",
    ".json",
    ".css",
    ".svg",
    ".csv",
    ".sh",
    "",
}
MACHINE = re.compile(r"(?<![\w.:/$}\")])/(?:home|root|work|Users|private)/[a-z]\w+|C:\\\\Users")
HOSTS = re.compile(
    "|".join(
        [
            "pypi" + r"\.org",
            "files\\.python" + "hosted",
            "registry\\.npm" + "js",
            "deb\\.debian" + "\\.org",
            "proxy\\.go" + "lang",
            "down" + r"load\.pytorch",
        ]
    )
)


def settings() -> configparser.SectionProxy:
    "settings.ini, where the version lives."
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(ROOT / "settings.ini")
    return ini["DEFAULT"]


def tracked() -> list[Path]:
    "The files of the repository."
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_library_notebooks_and_readme_are_in_step():
    assert out_of_step() == {}, "fix with `make export`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(NBS).as_posix())
def test_public_names_are_shown(path):
    assert not not_shown(path), "no example uses these public names: show them, or begin them with an underscore"


def imported_modules(name: str) -> set[str]:
    "The modules of the package that a module imports, at the top and inside functions."
    package = name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {module, *(f"{module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found & set(MODULES) - {name}


def test_modules_import_lower_layers_only():
    found = {}
    for name in MODULES:
        own = name.split(".")[1]
        assert own in MAY_IMPORT, f"{own}: say in LAYERS, and in docs/pages/architecture.md, what it may import"
        for imported in imported_modules(name):
            layer = imported.split(".")[1]
            if layer != own and layer not in MAY_IMPORT[own]:
                found.setdefault(name.removeprefix("rnn_transfer."), set()).add(imported.removeprefix("rnn_transfer."))
    assert {(name, imported) for name, more in found.items() for imported in more} == IMPORTS_OF_SOURCES


def test_modules_of_a_folder_import_each_other_one_way():
    needs = {name: imported_modules(name) for name in MODULES}
    ready: set[str] = set()
    while fresh := {n for n, need in needs.items() if n not in ready and need <= ready}:
        ready |= fresh
    assert not set(needs) - ready, "these modules import each other in a circle"


def test_public_functions_have_names_of_their_own():
    places = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_method = any("patch" in ast.dump(d) for d in getattr(node, "decorator_list", []))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and not is_method:
                places.setdefault(node.name, set()).add(module)
    shared = {name: sorted(modules) for name, modules in places.items() if len(modules) > 1}
    # each source has its `cohort`, each question of the report its `section`
    assert not {name: modules for name, modules in shared.items() if name not in ("cohort", "section")}


def test_version_lives_in_settings():
    version = settings()["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "rnn_transfer.__version__"
    }
    import rnn_transfer

    assert rnn_transfer.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_dependencies_live_in_pyproject():
    assert not {"requirements", "dev_requirements", "console_scripts"} & set(settings())
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        re.match(r"[\w.-]+", d)[0].lower() for d in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    }
    assert named <= pinned, f"no tested version in constraints.txt: {sorted(named - pinned)}"


def test_installed_packages_fit_together():
    ran = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_public_face_is_lazy_and_complete():
    import rnn_transfer

    assert len(rnn_transfer.__all__) > 20
    for name in rnn_transfer.__all__:
        assert getattr(rnn_transfer, name) is not None
    heavy = "{'torch', 'numpy', 'pandas', 'sklearn', 'matplotlib', 'dask'}"
    code = f"import sys, rnn_transfer; print(*{heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == []


@pytest.mark.parametrize("name", ["commands", "join_command", "apply_command", "run", "status", "cluster", "profiles"])
def test_the_command_line_imports_nothing_heavy(name):
    heavy = "{'torch', 'pandas', 'sklearn', 'matplotlib', 'distributed', 'papermill', 'nbdev'}"
    code = f"import sys, rnn_transfer.experiment.{name}; print(*{heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.split() == [], ran.stdout + ran.stderr


def test_commands_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {e.name: e for e in metadata.entry_points(group="console_scripts") if e.name in project["scripts"]}
    assert set(installed) == set(project["scripts"])
    for entry in installed.values():
        assert callable(entry.load())


def test_wheel_carries_notebooks_and_resources():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent for p in (ROOT / "rnn_transfer").rglob("*.py")}
    for folder in folders:
        assert ".".join(folder.relative_to(ROOT).parts) in setup["packages"], (
            f"{folder.name} would be missing from a wheel"
        )
    assert (
        setup["package-dir"] == {"rnn_transfer.notebooks": "nbs"}
        and "*.ipynb" in setup["package-data"]["rnn_transfer.notebooks"]
    )


def test_nothing_of_a_machine_in_the_files():
    bad = {}
    for path in tracked():
        if path.suffix not in TEXT or path.name == "LICENSE":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".ipynb":
            text = re.sub(r'"image/(png|jpeg)": "[^"]*"', "", text)
        if hit := MACHINE.search(text) or HOSTS.search(text):
            bad[path.relative_to(ROOT).as_posix()] = text[max(0, hit.start() - 30) : hit.end() + 30]
    assert not bad


def python_blocks(page: str) -> list[str]:
    "The Python blocks of a page of the site."
    text = (ROOT / "docs" / "pages" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


def test_architecture_page_runs_without_a_warning(tmp_path):
    code = "\n".join(python_blocks("architecture.md"))
    names = "[grid.X.dtype.name, grid.X.shape[0] == len(grid.stay_ids) == len(statistics), list(cohort.stays)[0]]"
    command = [sys.executable, "-W", "error", "-c", f"{code}\nprint({names})"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.stdout.strip() == "['float32', True, 'stay_id']", ran.stderr


def test_architecture_page_lists_the_layers_in_order():
    page = (ROOT / "docs" / "pages" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:\d\d_)?(\w+)/?` \| .+ \| .+ \|$", page.split("## Contract 1")[0], re.M)
    assert rows == [*LAYERS, "sources", "testing"]


def test_the_menu_of_the_site_lists_every_page():
    pages = {p.relative_to(NBS).as_posix() for p in NOTEBOOKS}
    pages |= {p.name for p in (ROOT / "docs" / "pages").glob("*.md")} | {"changelog.md"}
    listed = [page for _, pages_there in builder().MENU for page in pages_there]
    assert not pages - set(listed), "give these a place in MENU of docs/build.py"
    assert not set(listed) - pages and len(listed) == len(set(listed))


def test_the_changelog_names_what_can_be_imported():
    rows = re.findall(
        r"^\| `[\w.]+` \| `([\w.]+)\.(\w+)` \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert len(rows) > 30
    missing = [f"{m}.{n}" for m, n in rows if not hasattr(importlib.import_module(f"rnn_transfer.{m}"), n)]
    assert not missing


def test_makefile_says_what_is_wrong(tmp_path):
    ran = subprocess.run(
        ["make", "install", f"PYTHON={tmp_path}/no-python", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode and ran.stderr.startswith("error: no Python >= 3.11") and not (tmp_path / "venv").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "keep").touch()
    ran = subprocess.run(["make", "install", f"VENV={tmp_path}/mine"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode and "is no Python environment" in ran.stderr and (tmp_path / "mine" / "keep").exists()
