"Fixtures that every test may use."

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported: two workers share the cores
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    "Tests that share a finished run go to one worker, so that it is made once."
    for i in items:
        if "finished" in getattr(i, "fixturenames", ()):
            i.add_marker(pytest.mark.xdist_group("finished"))


@pytest.fixture(scope="session")
def root() -> Path:
    "The project's root folder."
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    "The folder of real open data and golden values next to the project; it is not part of the repository."
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the folder ../shared (open ICU data, golden values), which is not here")
    return folder
