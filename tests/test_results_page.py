"The results page: its numbers are those of the run's tables, and those of a recomputation from the fits."

import ast
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def run(root):
    return root / "docs/results/physionet2012"


@pytest.fixture(scope="module")
def results(run):
    return pd.read_parquet(run / "results.parquet")


def sources(run, kind):
    "Every system's interval over patients, draws and networks."
    tables = [pd.read_csv(run / f"tables/{name}_{kind}.csv") for name in ("sources", "sources_more")]
    return pd.concat(tables).set_index(["model", "fraction"])


def weighted_mean(fits, draws, networks):
    "Mean over draws and networks of each task, then over tasks by positives, then over splits: a few lines."
    fits = fits.assign(network=[name.partition("@")[2] or "0" for name in fits["model"]])
    fits = fits[fits["seed"].isin(draws) & fits["network"].isin(networks)]
    task = fits.groupby(["split", "task"]).agg(auroc=("auroc", "mean"), positives=("n_test_positive", "first"))
    of_split = task.groupby("split").apply(lambda t: np.average(t["auroc"], weights=t["positives"]))
    return of_split.mean()


@pytest.mark.parametrize("kind", ["phenotype", "mortality"])
@pytest.mark.parametrize("model, networks", [("RNN-C", 1), ("LR:fine", 1), ("MN-LR-2:fine", 5), ("MN-LR-2", 5)])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_estimates_are_those_of_a_recomputation(run, results, kind, model, networks, fraction):
    fits = results[(results["task_kind"] == kind) & (results["fraction"] == fraction)]
    fits = fits[[name.partition("@")[0] == model for name in fits["model"]]]
    row = sources(run, kind).loc[model, fraction]
    draws = sorted(fits["seed"].unique())
    assert len(draws) == row["n_draws"] and fits["model"].nunique() == networks
    assert weighted_mean(fits, draws, {str(i) for i in range(networks)}) == pytest.approx(row["estimate"], abs=1e-9)


@pytest.mark.parametrize("score", ["SAPS-I", "SOFA"])
def test_severity_scores_rank_alike_whatever_the_labels_and_have_no_phenotype(run, results, score):
    fits = results[results["model"] == score]
    assert set(fits["task_kind"]) == {"mortality"} and fits["auroc"].nunique() == 1
    rows = sources(run, "mortality").loc[score]
    assert rows["estimate"].to_numpy() == pytest.approx(np.full(len(rows), fits["auroc"].iloc[0]), abs=1e-12)


def test_intervals_over_three_sources_are_no_narrower_than_the_spread_of_draws(run, results):
    row = sources(run, "phenotype").loc["RNN-C", 0.1]
    fits = results[(results["task_kind"] == "phenotype") & (results["fraction"] == 0.1) & (results["model"] == "RNN-C")]
    means = [weighted_mean(fits, [seed], {"0"}) for seed in sorted(fits["seed"].unique())]
    assert np.std(means, ddof=1) / np.sqrt(len(means)) == pytest.approx(row["sd_draws"] / np.sqrt(len(means)), abs=2e-3)
    assert (row["high"] - row["low"]) / 2 > 1.9 * row["sd_draws"] / np.sqrt(len(means))


def test_other_networks_are_inside_each_others_intervals(run):
    checks = pd.read_csv(run / "tables/stability_checks.csv").set_index("check")["sources"]
    outside = [re.match(r"(\d+) of (\d+)", text).groups() for name, text in checks.items() if "etwork" in name]
    assert outside and all(int(k) <= 0.1 * int(n) for k, n in outside)


def test_shuffled_labels_are_within_the_margin_of_half(run):
    "Two of fourteen intervals miss .5, by less than the .01 that the rules call negligible; all together hold it."
    cells = pd.read_csv(run / "tables/shuffled.csv").set_index(["task_kind", "fraction"])
    assert cells.loc[("all", np.nan)]["low"].item() <= 0.5 <= cells.loc[("all", np.nan)]["high"].item()
    checks = pd.read_csv(run / "tables/stability_checks.csv").set_index("check")["sources"]
    (text,) = [text for name, text in checks.items() if name.startswith("Shuffled")]
    held, n = map(int, re.match(r"(\d+) of (\d+)", text).groups())
    found = pd.concat([sources(run, kind).loc["shuffled-MN-LR-2"] for kind in ("phenotype", "mortality")])
    missed = found[(found["low"] > 0.5) | (found["high"] < 0.5)]
    assert (found["n_networks"] == 5).all() and n == len(found) and n - held == len(missed) == 2
    assert (missed["estimate"] - 0.5).abs().max() < 0.01


def test_a_shuffled_mean_that_is_not_half_is_chance(run):
    "Draws that the run does not have hold .5 where its own do not, and are nowhere farther from it than the margin."
    cells = pd.read_csv(run / "tables/shuffled.csv").set_index(["task_kind", "fraction"])["verdict"]
    further = pd.read_csv(run / "permutations.csv").set_index(["task_kind", "fraction"])
    assert (further["n_draws"] == 250).all() and (further["value"] - 0.5).abs().max() < 0.01
    # nine of ten were asked for
    assert (further["blocks_holding"].sum(), further["blocks"].sum()) == (35, 40)
    missed = cells.index[cells.str.contains("more than chance")].intersection(further.index)
    assert len(missed) and further.loc[missed, "low"].le(0.5).all() and further.loc[missed, "high"].ge(0.5).all()


def test_the_rules_are_the_frozen_ones_and_no_claim_is_counted_up(run, root):
    claims = pd.read_csv(run / "tables/claims.csv")
    (name,) = set(claims["rules"])
    frozen = (root / "docs/rules" / name).read_bytes()
    assert set(claims["rules_sha256"]) == {hashlib.sha256(frozen).hexdigest()}
    assert not re.search(r"\d+ of \d+ claims", (run / "report.html").read_text(encoding="utf-8"))


def test_the_manifest_says_who_fitted_what(run):
    parts = json.loads((run / "manifest.json").read_text())["combined"]
    models = [model for part in parts for model in part["models"]]
    assert {"RNN-C", "MN-LR-2:fine", "LR:fine"} <= set(models)
    assert all(part["commit"] or part["hardware"] for part in parts)


def test_the_sentences_of_the_page_have_no_number_of_their_own(root):
    "A number with three decimals in the prose is read from a table by the cell that prints it."
    cells = json.loads((root / "nbs/results.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert not re.findall(r"[^\d]\.\d{3}\b", prose)


@pytest.mark.parametrize("page", ["results", "hospitals"])
def test_a_sentence_takes_no_word_from_the_cell_before(root, page):
    notebook = json.loads((root / f"nbs/{page}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and "say(" in code and "def " not in code:
            names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
            stored = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            used = {name.id for name in names if isinstance(name.ctx, ast.Load)} & {"few", "kind", "best", "fine"}
            assert used <= stored, f"{used - stored} of another cell in {code[:120]}"
