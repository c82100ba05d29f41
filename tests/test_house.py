"The tree is in step with its sources and speaks of nothing but the project."

import configparser
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from in_step import out_of_step

ROOT = Path(__file__).resolve().parents[1]
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


@pytest.mark.parametrize("name", ["commands", "run", "status", "cluster", "profiles"])
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


def test_own_data_page_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page, names = (ROOT / "docs" / "pages" / "own-data.md").read_text(encoding="utf-8"), {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M):
        exec(compile(block, "own-data.md", "exec"), names)
    assert "column partition" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "cohorts" / "ours").iterdir()) == [
        "cohort.json",
        "events.parquet",
        "stays.parquet",
    ]


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
