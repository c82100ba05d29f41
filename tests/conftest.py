"Fixtures that every test may use."

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported: two workers share the cores
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]


LONGEST = ("test_paper", "test_site")  # groups that would otherwise be the last to end


def group_of(item) -> str | None:
    "The file whose fixtures a test shares with others of it; `simulated` for those of tests/simulated.py; or None."
    found = None
    for name in getattr(item, "fixturenames", ()):
        for definition in item._fixtureinfo.name2fixturedefs.get(name, ()):
            module = definition.func.__module__
            if definition.scope != "function" and module == "simulated":
                return module
            if definition.scope != "function" and module.startswith("test_"):
                found = item.path.stem
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    "Tests that share what is made once go to one worker, the longest such groups first, single tests last."
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (groups[item] not in LONGEST, groups[item] is None))


@pytest.fixture(scope="session")
def root() -> Path:
    "The project's root folder."
    return ROOT


@pytest.fixture(scope="session")
def published(root) -> Path:
    "The run on PhysioNet 2012 that the results page shows."
    return root / "docs/results/physionet2012"


@pytest.fixture(scope="session")
def published_fits(published) -> pd.DataFrame:
    "Its fits, a row each; not to be changed."
    return pd.read_parquet(published / "results.parquet")


@pytest.fixture(scope="session")
def shared() -> Path:
    "The folder of real open data and golden values next to the project; it is not part of the repository."
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("needs the folder ../shared (open ICU data, golden values), which is not here")
    return folder
