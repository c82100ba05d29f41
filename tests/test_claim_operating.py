"Operating characteristics of the rules for the claims, and the interval of sums over fractions they rest on."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rnn_transfer.evaluation.claim_operating import (
    DRAWS_SD,
    SIMULATED,
    Design,
    InventedRun,
    operating_characteristics,
    simulate_verdicts,
)
from rnn_transfer.evaluation.claim_register import CLAIMS
from rnn_transfer.evaluation.sums import FractionTables, interval_of_sum
from rnn_transfer.evaluation.three_sources import Term
from rnn_transfer.utilities.seeds import seeded_rng

RULES = Path(__file__).parents[1] / "docs" / "rules"
TABLES = [RULES / f"{name}-operating.csv" for name in ("claims-2026-11", "claims-2026-11b")]  # the second: fine-tuning
MOST_WRONG = 0.10
WORLDS_OF_GAPS = [("as published", 0.007, 0), ("lower", 0.007, 0)]


def test_the_committed_tables_have_every_rule_and_few_wrong_verdicts():
    table = pd.concat(map(pd.read_csv, TABLES))
    assert set(table["claim"]) == {claim.name for claim in SIMULATED} == {claim.name for claim in CLAIMS}
    assert set(table["truth"]) == {True, False}
    assert (table["wrong"] <= MOST_WRONG).all()
    assert (table["reversed"] <= 0.05).all()


def test_the_gap_of_fine_tuning_is_judged_like_any_lead():
    claims = [claim for claim in SIMULATED if claim.name == "fine-tuning"]
    (words,) = {
        str(claims[0].test(InventedRun(*world), claims[0].kinds, False)["part"].tolist()) for world in WORLDS_OF_GAPS
    }
    assert words == "['phenotype: gap', 'mortality: gap']"
    found = {world[:2]: simulate_verdicts(*world[:2], 10, claims=claims) for world in WORLDS_OF_GAPS}
    table = operating_characteristics(found, claims).set_index("world")
    assert table.loc["as published", "supported"] >= 0.9 and table.loc["lower", "contradicted"] >= 0.9


def test_shares_of_invented_runs_have_the_interval_of_scipy():
    claims = [claim for claim in SIMULATED if claim.name == "worst case"]
    found = {("as published", 0.007): simulate_verdicts("as published", 0.007, 5, claims=claims)}
    row = operating_characteristics(found, claims).iloc[0]
    for name in ("supported", "contradicted", "inconclusive", "wrong", "right"):
        ends = stats.binomtest(round(5 * row[name]), 5).proportion_ci(0.95, method="wilson")
        assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx([ends.low, ends.high])


def test_invented_runs_count_the_fractions_that_the_rules_let_count():
    run = InventedRun("as published", 0.007, 0)
    assert run.fractions("phenotype") == [0.1, 0.2, 0.5, 1.0]
    assert run.fractions("mortality") == [0.2, 0.5, 1.0]  # nine validation positives at 10 %
    for kind in run.kinds:
        assert set(run.fractions(kind)) < set(run.all_fractions(kind))


def test_a_run_with_fewer_draws_knows_less():
    terms = [Term(1, "MN-LR-2", 0.1), Term(-1, "RNN-C", 0.1)]
    few = Design({f: 7 for f in DRAWS_SD}, {f: 5 for f in DRAWS_SD})
    many = Design({f: 50 for f in DRAWS_SD}, {f: 40 for f in DRAWS_SD})
    widths = {5: [], 40: []}
    for seed in range(20):
        for design in (few, many):
            found = InventedRun("as published", 0.007, seed, design=design).combine("phenotype", terms)
            widths[found.n_draws].append(found.interval.high - found.interval.low)
    assert np.mean(widths[5]) > 1.3 * np.mean(widths[40])


@pytest.mark.slow
@pytest.mark.parametrize("world", ["as published", "no difference"])
def test_a_new_simulation_is_wrong_no_more_often(world):
    n = 40
    table = operating_characteristics({(world, 0.007): simulate_verdicts(world, 0.007, n, first=10_000)})
    allowed = stats.binom.ppf(0.9999, n, MOST_WRONG) / n  # Monte-Carlo error over all claims
    assert (table["wrong"] <= allowed).all(), table[["claim", "wrong"]]


def strata_by_hand(few, many):
    "Draws 0 to 4 take part in both tables, 5 to 11 in the first alone."
    u = few.mean(1) / len(few)
    both = u[:5] - few.mean() / len(few) + (many.mean(1) - many.mean()) / len(many)
    return [(5 * both.var(ddof=1), 4), (7 * u[5:].var(ddof=1), 6)]


def test_a_sum_over_fractions_equals_a_recomputation_in_few_lines():
    rng = seeded_rng("pooled by hand")
    few, many, patients = rng.normal(0, 0.03, (12, 4)), rng.normal(0, 0.01, (5, 4)), rng.normal(0, 0.006, 400)
    few, many = few + rng.normal(0, 0.03, (1, 4)), many + rng.normal(0, 0.03, (1, 4))
    tables = [FractionTables(t[None], np.arange(len(t)), np.arange(4)) for t in (few, many)]
    found = interval_of_sum(tables, patients)
    parts = strata_by_hand(few, many)
    parts.append((4 * ((few.mean(0) + many.mean(0)) / 4).var(ddof=1), 3))
    rests = []
    for t in (few, many):
        rest = t - t.mean(0) - t.mean(1, keepdims=True) + t.mean()
        df = (len(t) - 1) * 3
        rests.append(((rest**2).sum() / df / t.size, df))
    variance = patients.var(ddof=1) + sum(v for v, _ in parts) - sum(v for v, _ in rests)
    spent = sum(v**2 / df for v, df in [*parts, *rests])
    assert found.estimate == pytest.approx(few.mean() + many.mean())
    assert found.se**2 == pytest.approx(variance)
    assert found.df == pytest.approx(variance**2 / spent)
    half = stats.t.ppf(0.975, found.df) * found.se
    assert found.interval == pytest.approx((found.estimate - half, found.estimate + half))
    assert (found.n_draws, found.n_networks) == (5, 4)


def test_one_draw_of_a_drawn_system_leaves_no_interval():
    tables = [FractionTables(np.full((1, J, 1), 0.1), np.arange(J), np.arange(1), True, False) for J in (6, 1)]
    assert np.isnan(interval_of_sum(tables, np.zeros(50)).interval.low)


def test_intervals_of_sums_hold_the_truth():
    hits, rng, n = 0, seeded_rng("pooled coverage"), 400
    for _ in range(n):
        shared, networks = rng.normal(0, 0.02, (20, 1)), rng.normal(0, 0.02, (1, 5))
        patient = rng.normal(0, 0.006)
        few = shared + rng.normal(0, 0.02, (20, 1)) + networks + rng.normal(0, 0.01, (20, 5)) + patient
        many = shared[:5] / 2 + networks + rng.normal(0, 0.005, (5, 5)) + patient
        tables = [FractionTables(t[None] / 2, np.arange(len(t)), np.arange(5)) for t in (few, many)]
        low, high = interval_of_sum(tables, rng.normal(0, 0.006, 200)).interval
        hits += low <= 0 <= high
    assert 0.92 <= hits / n <= 0.98
