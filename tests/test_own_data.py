"The page on own data and the README's lines run as they stand, on open data where they are there."

import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_house import ROOT, python_blocks

REAL = ROOT.parent / "shared" / "data" / "physionet2019" / "training_setB.tar.xz"


def invented_hospital(folder: Path, n: int = 300) -> None:
    "Files in the form of the challenge: a row an hour, pressures and creatinine follow one hidden state."
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        state, hours = rng.normal(), int(rng.integers(8, 60))
        walk = state + 0.2 * rng.normal(size=hours).cumsum()
        rows = dict(HR=90 + 8 * walk, O2Sat=97 - abs(walk), Temp=37 + 0.3 * walk, SBP=120 - 10 * walk)
        rows |= dict(MAP=80 - 7 * walk, DBP=60 - 5 * walk, Resp=18 + 2 * walk, FiO2=0.4, pH=7.4 - 0.02 * walk)
        rows |= dict(Glucose=130 + 10 * walk, Creatinine=1.6 + 0.5 * state, ICULOS=np.arange(1, hours + 1))
        pd.DataFrame(rows).round(3).to_csv(folder / f"p1{i:05d}.psv", sep="|", index=False)


def blocks_of_page() -> tuple[list[str], list[str]]:
    "The blocks that make the example tables, and those that follow."
    blocks = python_blocks("own-data.md")
    first = [b for b in blocks if b.startswith("# before the ten lines")]
    return first, [b for b in blocks if b not in first]


def run_page(monkeypatch, folder: Path) -> dict:
    "Run the page in a folder that holds training_setB."
    monkeypatch.chdir(folder)
    names: dict = {}
    first, then = blocks_of_page()
    for block in first + then:
        exec(compile(block, "own-data.md", "exec"), names)
    return names


def check_page(names: dict, folder: Path, said: str) -> None:
    "What the page promises is there."
    table = names["result"].table
    assert table.loc["AUROC", ["low", "estimate", "high"]].is_monotonic_increasing
    assert (folder / "calibration.png").stat().st_size > 5_000
    assert (folder / "renal-dysfunction" / "classifier.json").exists()
    assert said.count("3 problems:") == 1 and "would fit °C" in said
    cases = pd.read_csv(folder / "stays.csv")["case"]
    assert pd.read_csv(folder / "predictions.csv")["stay_name"].tolist() == cases.tolist()
    assert "column partition" in said
    files = sorted(p.name for p in (folder / "cohorts" / "ours").iterdir())
    assert files == ["cohort.json", "events.parquet", "stays.parquet"]


def test_the_page_runs_as_it_stands(tmp_path, capsys, monkeypatch):
    invented_hospital(tmp_path / "training_setB")
    names = run_page(monkeypatch, tmp_path)
    check_page(names, tmp_path, capsys.readouterr().out)


@pytest.mark.skipif(not REAL.exists(), reason="needs the open data of PhysioNet 2019")
def test_the_page_has_the_numbers_of_the_open_data(tmp_path, capsys, monkeypatch):
    with tarfile.open(REAL) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.isfile() and Path(member.name).name < "p102000":
                path = tmp_path / "training_setB" / Path(member.name).name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
    names = run_page(monkeypatch, tmp_path)
    said = capsys.readouterr().out
    check_page(names, tmp_path, said)
    page = (ROOT / "docs" / "pages" / "own-data.md").read_text(encoding="utf-8")
    row = re.search(r"^\| AUROC \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    assert names["result"].table.loc["AUROC"].round(2).tolist() == pytest.approx(
        [float(v) for v in row.groups()], abs=0.02
    )


def test_the_lines_of_the_readme_are_those_of_the_page():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"^```python\n(import rnn_transfer as rt\n.*?)^```", readme, re.S | re.M)[1]
    assert lines in python_blocks("own-data.md")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 11
