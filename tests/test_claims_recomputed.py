"The published verdicts on the paper's claims, recomputed from the fits and from the text of the rules alone."

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_results_page import draws_by_networks

MARGINS = {"AUROC": 0.01, "logit": 0.053}  # section 4 of the rules; 0 for counts, ratios and correlations


@pytest.fixture(scope="module")
def parts(published):
    return pd.read_csv(published / "tables/claims_parts.csv")


@pytest.fixture(scope="module")
def claims(published):
    return pd.read_csv(published / "tables/claims.csv").set_index(["claim", "selection"])


def with_rule(model, labelled):
    "The name of a linear system with the way in which the primary rule chooses its lambda; section 3.4."
    linear = model == "LR" or "-LR" in model
    return f"{model}:fine" if linear and labelled < 1000 else model


MEAN = re.compile(r"(phenotype|mortality), (?:mean over )?([\d %,]+): (\S+) − (\S+)$")


def test_mean_leads_are_those_of_the_fits(parts, published_fits):
    "Every part of a primary claim that is a mean of leads in AUROC: 10 %, 20 %, 50 %, 100 % or some of them."
    counts = published_fits.groupby(["task_kind", "fraction"])[["n_train", "n_val"]].mean().sum(axis=1)
    found = 0
    for row in parts[(parts["selection"] == "primary") & (parts["unit"] == "AUROC")].itertuples():
        text = MEAN.match(row.part)
        if not text or "stays" in row.part:
            continue
        kind, fractions, ours, theirs = text.groups()
        leads = []
        for fraction in (float(at) / 100 for at in re.findall(r"\d+", fractions)):
            names = (with_rule(model, counts[kind, fraction]) for model in (ours, theirs))
            levels = [draws_by_networks(published_fits, kind, fraction, name) for name in names]
            n_draws = min(map(len, levels))
            if n_draws > 1:  # those that both have; one that nothing is drawn for stands against all
                levels = [table[:n_draws] for table in levels]
            leads.append(levels[0].mean() - levels[1].mean())
        assert np.mean(leads) == pytest.approx(row.estimate, abs=1e-9), row.part
        found += 1
    assert found >= 12


def stated_probabilities(row):
    "One-sided p of a part for and against its relation; section 4."
    margin = MARGINS.get(row.unit, 0)

    def above(x):  # against: the truth is at most x
        return stats.t.sf((row.estimate - x) / row.se, row.df)

    low, high = above(row.at - margin), above(row.at + margin)
    return {
        "higher": (above(row.at), 1 - high),
        "at least": (low, 1 - low),
        "equal": (max(low, 1 - high), min(1 - low, high)),
        "above": (above(row.at), 1 - above(row.at)),
        "below": (1 - above(row.at), above(row.at)),
    }[row.relation]


def stated_by_interval(row):
    "Whether the interval supports the relation, and whether it contradicts it; the table of section 4."
    margin, at = MARGINS.get(row.unit, 0), row.at
    supported = {
        "higher": row.low > at and row.estimate >= at + margin,
        "at least": row.low > at - margin,
        "equal": at - margin < row.low and row.high < at + margin,
        "above": row.low > at,
        "below": row.high < at,
    }
    contradicted = {
        "higher": row.high < at + margin,
        "at least": row.high < at - margin,
        "equal": row.low > at + margin or row.high < at - margin,
        "above": row.high < at,
        "below": row.low > at,
    }
    return supported[row.relation], contradicted[row.relation]


def judged(parts):
    "Claim, its parts as rows; those that were not run or have too few draws are left out, as the rules say."
    for claim, rows in parts.groupby("claim", sort=False):
        if rows["estimate"].notna().all() and not rows["few"].any():
            yield claim, list(rows.itertuples())


@pytest.mark.parametrize("selection", ["primary", "paper"])
def test_intervals_of_the_parts_follow_from_their_standard_errors(parts, selection):
    rows = parts[parts["se"].notna()]
    rows = rows[(rows["selection"] == "primary") == (selection == "primary")]
    half = stats.t.ppf(0.975, rows["df"]) * rows["se"]
    counted = rows["unit"].isin(MARGINS)
    assert counted.sum() > 20
    np.testing.assert_allclose((rows["estimate"] - half)[counted], rows["low"][counted], atol=1e-9)
    np.testing.assert_allclose((rows["estimate"] + half)[counted], rows["high"][counted], atol=1e-9)


def test_verdicts_are_those_of_the_rules(parts, claims):
    "From estimate, standard error and degrees of freedom of each part to p, Holm's adjustment and the word."
    rows = parts[parts["selection"] == "primary"]
    table = claims.xs("primary", level="selection")
    p, says = {}, {}
    for claim, of_claim in judged(rows):
        probabilities = [stated_probabilities(row) for row in of_claim]
        intervals = [stated_by_interval(row) for row in of_claim]
        support = max(p for p, _ in probabilities)
        against = min(1, min(p for _, p in probabilities) * len(of_claim))
        p[claim] = min(1, 2 * min(support, against))
        says[claim] = "supported" if all(s for s, _ in intervals) else ""
        says[claim] = "contradicted" if any(c for _, c in intervals) else says[claim]
    for family in table["family"].unique():
        members = sorted((claim for claim in p if table.loc[claim, "family"] == family), key=p.get)
        largest = 0
        for rank, claim in enumerate(members):
            largest = max(largest, min(1, p[claim] * (len(members) - rank)))
            assert largest == pytest.approx(table.loc[claim, "p"], rel=1e-6), claim
            expected = says[claim] if largest <= 0.05 and says[claim] else "inconclusive"
            assert table.loc[claim, "verdict"] == expected, claim
    assert len(p) >= 15 and set(says.values()) == {"supported", "contradicted", ""}
