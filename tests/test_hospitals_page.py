"The second run of each direction on the page across hospitals: its table is that of a recomputation from the fits."

import json

import numpy as np
import pandas as pd
import pytest
from test_results_page import draws_by_networks

SECOND = {"a-b": ("a-b-carried", 5), "b-a": ("b-a-few", 10)}  # {direction: folder, draws of linear systems}
PAIRS = [("MN-LR-2:ridge", "LR:ridge"), ("zero-shot", "zero-shot-LR"), ("zero-shot", "zero-shot-GBT")]


@pytest.fixture(scope="module", params=SECOND)
def direction(request):
    return request.param


@pytest.fixture(scope="module")
def folder(root, direction):
    return root / f"docs/results/physionet2019-{SECOND[direction][0]}"


@pytest.mark.parametrize("model, versus", PAIRS)
@pytest.mark.parametrize("fraction", [0.01, 0.05])
def test_estimates_are_those_of_a_recomputation(folder, direction, model, versus, fraction):
    table = pd.read_csv(folder / "tables/hospitals_differences.csv").query("task_kind == 'phenotype'")
    row = table.set_index(["model", "versus", "fraction"]).loc[model, versus, fraction]
    fits = pd.read_parquet(folder / "results.parquet")
    assert fits["split"].nunique() == 1
    ours, theirs = (draws_by_networks(fits, "phenotype", fraction, name) for name in (model, versus))
    draws = SECOND[direction][1]
    assert ours.shape == (draws, 3) and theirs.shape == (draws, 1)
    assert (ours - theirs).mean() == pytest.approx(row["estimate"], abs=1e-9)
    assert row["low"] < row["estimate"] < row["high"] and (row["n_draws"], row["n_networks"]) == (draws, 3)


def test_a_model_that_is_carried_over_does_not_depend_on_the_labels(folder):
    fits = pd.read_parquet(folder / "results.parquet")
    for model in ("zero-shot", "zero-shot-LR", "zero-shot-GBT"):
        own = fits[fits["model"] == model]
        assert own.loc[own["task_kind"] == "other", "auroc"].isna().all()  # sepsis was never learned
        by_task = own[own["task_kind"] == "phenotype"].groupby("task")["auroc"]
        assert len(by_task) == 20 and np.isclose(by_task.min(), by_task.max(), atol=1e-12).all()


def test_its_networks_are_those_of_the_first_run(folder, direction):
    first = folder.with_name(f"physionet2019-{direction}")
    found = [pd.read_csv(run / "tables/hospitals_systems.csv") for run in (first, folder)]
    same = "model == 'zero-shot' and task_kind == 'phenotype' and fraction == 0.05"
    once, again = (table.query(same)["value"].item() for table in found)
    assert once == pytest.approx(again, abs=1e-6)  # some steps of the first run were made on a card


def test_the_manifest_names_the_sites(folder):
    sites = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sites"]
    source, target = folder.name.split("-")[1:3]
    assert (sites["pretrain"], sites["transfer"]) == ([source.upper()], [target.upper()])
