"Verdicts on runs whose draws and networks are drawn again."

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rnn_transfer.evaluation import verdict_stability as module
from rnn_transfer.evaluation.claim_register import CLAIMS
from rnn_transfer.evaluation.intervals import wilson_columns
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.evaluation.verdict_stability import (
    resample_run,
    stability_of_verdicts_table,
    verdict_stability,
)
from rnn_transfer.utilities.seeds import seeded_rng

SKILLS = {"LR": 0.5, "RNN-C": 0.1, "MN-LR-2": 0.9, "MN-LR-2@1": 0.9, "MN-LR-2@2": 0.9}
LEADS = [claim for claim in CLAIMS if claim.name in ("worst case", "end task")]


@pytest.fixture(scope="module")
def ev():
    "Eight draws of LR and MN-LR-2 with few labels, five of RNN-C, one of LR with all labels."
    whole = toy_evaluation(SKILLS, fractions=(0.1, 1.0), seeds=8, n=200)
    r = whole.results
    kept = ~((r["model"] == "RNN-C") & (r["seed"] >= 5)) & ~(
        (r["model"] == "LR") & (r["fraction"] == 1) & (r["seed"] > 0)
    )
    positions = np.flatnonzero(kept)
    values = {metric: v[positions] for metric, v in whole.values.items()}
    return replace(whole, results=r[kept].reset_index(drop=True), values=values)


def marked(ev):
    "The same fits; the AUROC names the draw and the network."
    network = ev.results["model"].str.partition("@")[2].replace("", "0").astype(int)
    number = ev.results["seed"] + 100.0 * network
    return replace(ev, values=dict(auroc=ev.values["auroc"] * 0 + number.to_numpy()[:, None]))


def again(ev, i):
    found = resample_run(marked(ev), seeded_rng("again", i), replicates=10)
    return found.results.assign(took=found.values["auroc"][:, 0])


def test_every_system_gets_the_same_draws_and_networks(ev):
    for i in range(5):
        r = again(ev, i)
        r = r.assign(draw=r["took"] % 100, network=r["took"] // 100)
        few = r[r["fraction"] < 1]
        assert (few.groupby(["seed"])["draw"].nunique() == 1).all()
        networks = r[r["model"].str.startswith("MN-LR-2")]
        assert (networks.groupby("model")["network"].nunique() == 1).all()


def test_draws_are_taken_from_those_that_the_same_cells_have(ev):
    took = [again(ev, i) for i in range(20)]
    seeds = {(row.seed < 5, row.took % 100 < 5) for r in took for row in r.itertuples() if row.model == "MN-LR-2"}
    assert seeds == {(True, True), (False, False)}
    single = [r[(r["model"] == "LR") & (r["fraction"] == 1)] for r in took]
    assert all((r["took"] == 0).all() for r in single)  # a single draw stays
    assert any(len(set(r["took"])) < len(ev.results) / 4 for r in took)  # some draws come twice, others never


def test_no_cell_loses_or_gains_a_fit(ev):
    cell = ["model", "task", "fraction"]
    assert again(ev, 0).groupby(cell).size().equals(ev.results.groupby(cell).size())


def test_a_network_with_fewer_draws_loses_no_fit(ev):
    r = ev.results
    kept = (r["model"] != "MN-LR-2@1") | (r["seed"] < 4)
    values = {metric: v[kept] for metric, v in ev.values.items()}
    fewer = replace(ev, results=r[kept].reset_index(drop=True), values=values)
    for i in range(5):
        found = again(fewer, i)
        assert len(found) == len(fewer.results)
        lacking = (found["took"] // 100 == 1) & (found["took"] % 100 >= 4)
        assert not lacking.any()


def test_replicates_stay_with_their_fits(ev):
    found = resample_run(ev, seeded_rng("again", 0), replicates=10)
    rows = {tuple(v): None for v in ev.values["auroc"][:, :11]}
    assert found.values["auroc"].shape == (len(ev.results), 11)
    assert all(tuple(v) in rows for v in found.values["auroc"])
    assert {len(p) for p in found.positives.values()} == {11}


def test_a_run_without_spread_repeats_its_verdicts(ev):
    best = np.where(ev.results["model"].str.startswith("MN"), 0.9, 0.6)
    sure = replace(ev, values=dict(auroc=ev.values["auroc"] * 0 + best[:, None]))
    found = verdict_stability(sure, repetitions=4, claims=LEADS)
    assert found["verdict"].tolist() == ["supported", "supported"]
    assert found["supported"].tolist() == [4, 4] and found["n"].tolist() == [4, 4]


def test_no_table_where_no_claim_has_a_verdict(ev):
    one_network = toy_evaluation({"LR": 0.5, "MN-LR-2": 0.9}, fractions=(0.1, 1.0), seeds=1, n=100)
    assert stability_of_verdicts_table(one_network) is None
    assert stability_of_verdicts_table(replace(ev, info=ev.info | dict(same_tasks=True))) is None


def test_shares_of_resampled_runs_have_the_interval_of_scipy(ev, monkeypatch):
    found = verdict_stability(ev, repetitions=4, claims=LEADS)
    for row, word in product(found.to_dict("records"), ("supported", "contradicted", "inconclusive")):
        ends = stats.binomtest(row[word], row["n"]).proportion_ci(0.95, method="wilson")
        assert [row[f"{word}_low"], row[f"{word}_high"]] == pytest.approx([ends.low, ends.high])
    some = found.assign(supported=[3, 4]).drop(columns=[c for c in found if c.endswith(("_low", "_high"))])
    counts = some[["supported", "contradicted", "inconclusive"]].to_dict("records")
    some = some.join(pd.DataFrame([wilson_columns(of_claim, 4) for of_claim in counts]))
    monkeypatch.setattr(module, "verdict_stability", lambda ev, repetitions: some)
    table = stability_of_verdicts_table(ev)
    assert table.shown["Supported"].tolist() == ["3 [30–95 %]", "4 [51–100 %]"]  # by hand: z² = 3.84
    assert "Wilson's 95 % interval" in table.note and "4 of them" in table.note
    assert not any(column.endswith("_low") for column in table.shown)
