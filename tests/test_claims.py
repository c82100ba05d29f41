"Claims: the rule at its boundaries, families, the tests compared with arithmetic, the dated rules, and whole tables."

import hashlib
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rnn_transfer.evaluation.claim_features import (
    feature_fraction_test,
    mortality_features_test,
    shared_features,
    used_by_any_task,
)
from rnn_transfer.evaluation.claim_form import register_table
from rnn_transfer.evaluation.claim_register import CLAIMS
from rnn_transfer.evaluation.claim_rules import (
    LOGIT_MARGIN,
    MARGIN,
    RULES_FILE,
    RULES_SHA256,
    Judgement,
    ShownPart,
    choose_shown_part,
    family_verdicts,
    judge_parts,
    p_contradict,
    p_support,
    rules_citation,
    rules_text,
)
from rnn_transfer.evaluation.claim_run import (
    JudgedRun,
    NotRun,
    describe_lambda_rules,
    fitted_names,
    primary_differences,
)
from rnn_transfer.evaluation.claim_tests import (
    BOTH_KINDS,
    area_test,
    degradation_test,
    label_ratio_test,
    lead_growth_test,
    lead_test,
)
from rnn_transfer.evaluation.claims import (
    _shown_verdicts,
    claims_table,
    describe_verdicts,
    gather_evidence,
    section,
)
from rnn_transfer.evaluation.components import TOO_FEW
from rnn_transfer.evaluation.report import _describe_estimates, _describe_kind
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.three_sources import Term, combined_interval
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.utilities.seeds import seeded_rng

RELATIONS = ("higher", "equal", "at least", "above", "below")
NETWORKED = ("MN-LR-1", "MN-LR-2", "untrained-LR-2", "MN-FT")
SYSTEMS = ("LR", "RNN-C", *NETWORKED, *(f"{m}@{k}" for m in NETWORKED for k in (1, 2)))
TASKS = {"A": "phenotype", "B": "phenotype", "C": "phenotype", "Death": "mortality"}
FRACTIONS = (0.01, 0.1, 0.5, 1.0)
ROOT = Path(__file__).parents[1]


def half(model, kind):
    return 0.5


def evaluation_of(mean, models=SYSTEMS, fractions=FRACTIONS, sd=0.002, seeds=5, near_zero=half, stays=30000):
    "An evaluation with given AUROCs, mean(model, kind, fraction), spread over draws, networks and patients."
    rows, values = [], []
    for (task, kind), model, fraction, seed in product(TASKS.items(), models, fractions, range(seeds)):
        plain = model.partition("@")[0]
        system = plain.partition(":")[0]
        n_features = 600 if system == "MN-LR-2" else 300
        rng = seeded_rng("made", task, model, fraction, seed)
        auroc = mean(system, kind, fraction) + rng.normal(0, sd)
        key = dict(split=0, task=task, task_kind=kind, model=model, fraction=fraction, seed=seed)
        counts = dict(n_features=n_features, n_near_zero=int(n_features * near_zero(system, kind)) + seed % 2)
        n = stays * fraction * (0.5 if kind == "mortality" else 1)
        sizes = dict(n_train=0.8 * n, n_val=0.2 * n, n_positive=0.08 * n, n_val_positive=0.02 * n)
        sizes |= dict(n_test=500, hidden=100)
        rows.append(key | sizes | counts | dict(auroc=auroc))
        values.append(np.r_[auroc, auroc + rng.normal(0, sd, 100)])
    positives = {task: np.ones(101) for task in TASKS}
    return Evaluation(pd.DataFrame(rows), dict(auroc=np.array(values)), positives, dict(synthetic=True))


def claims_of(*names):
    "Some of the claims: fewer take less time."
    return [claim for claim in CLAIMS if claim.name in names]


def one_part(estimate, se, df=np.inf, few=False):
    return pd.DataFrame([dict(estimate=estimate, se=se, df=df, few=few)])


def between(low, high):
    "A part with this 95 % interval."
    return one_part((low + high) / 2, (high - low) / 2 / stats.norm.ppf(0.975))


def verdict_of(parts, relation, value=0.0, margin=MARGIN):
    return family_verdicts([judge_parts(parts, relation, value, margin)])[0].verdict


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    "low,high,relation,verdict",
    [
        (1e-6, 0.5, "higher", "supported"),
        (-1e-6, 0.5, "higher", "inconclusive"),
        (-0.5, 0.0101, "higher", "inconclusive"),
        (-0.5, 0.0099, "higher", "contradicted"),
        (0.001, 0.0189, "higher", "inconclusive"),  # negligible
        (0.001, 0.0191, "higher", "supported"),
        (0.001, 0.005, "higher", "contradicted"),  # no relevant lead is left
        (-0.0099, 0.0099, "equal", "supported"),
        (-0.0101, 0.0099, "equal", "inconclusive"),
        (0.002, 0.005, "equal", "supported"),
        (0.0101, 0.02, "equal", "contradicted"),
        (-0.02, -0.0101, "equal", "contradicted"),
        (0.0099, 0.02, "equal", "inconclusive"),
        (-0.0099, 0.1, "at least", "supported"),
        (-0.0101, 0.1, "at least", "inconclusive"),
        (-0.1, -0.0101, "at least", "contradicted"),
        (-0.1, -0.0099, "at least", "inconclusive"),
    ],
)
def test_verdicts_at_the_boundaries(low, high, relation, verdict):
    assert verdict_of(between(low, high), relation) == verdict


@pytest.mark.parametrize(
    "low,high,relation,verdict",
    [
        (0.951, 0.99, "above", "supported"),
        (0.949, 0.99, "above", "inconclusive"),
        (0.9, 0.949, "above", "contradicted"),
        (0, 0.949, "below", "supported"),
        (0.951, 2, "below", "contradicted"),
        (0, 2, "below", "inconclusive"),
    ],
)
def test_stated_values_have_no_margin(low, high, relation, verdict):
    assert verdict_of(between(low, high), relation, 0.95) == verdict


pairs = st.tuples(st.floats(-0.1, 0.1), st.floats(0.001, 0.05))


@settings(deadline=None, max_examples=40)
@given(pairs, st.sampled_from(RELATIONS), st.floats(0.1, 1))
def test_a_narrower_interval_never_reverses_a_verdict(part, relation, shrink):
    wide, narrow = (verdict_of(one_part(part[0], s), relation) for s in (part[1], part[1] * shrink))
    assert wide in ("inconclusive", narrow)


@settings(deadline=None, max_examples=40)
@given(pairs)
def test_relations_agree_with_each_other(part):
    estimate, se = part
    found = {r: verdict_of(one_part(estimate, se), r) for r in RELATIONS}
    if "supported" in (found["higher"], found["equal"]):
        assert found["at least"] == "supported"
    if found["higher"] == "supported":
        assert verdict_of(one_part(-estimate, se), "higher") == "contradicted"
    assert found["equal"] == verdict_of(one_part(-estimate, se), "equal")


@settings(deadline=None, max_examples=40)
@given(pairs, st.sampled_from(RELATIONS), st.integers(1, 60))
def test_p_values_are_those_of_scipy_and_agree_with_the_interval(part, relation, df):
    (estimate, se), parts = part, one_part(*part, df=df)
    half_width = stats.t.ppf(0.975, df) * se
    low, high = estimate - half_width, estimate + half_width
    inside = dict(higher=low > 0, above=low > 0, below=high < 0, equal=low > -MARGIN and high < MARGIN)
    inside["at least"] = low > -MARGIN
    against = dict(higher=high < MARGIN, above=high < 0, below=low > 0, equal=low > MARGIN or high < -MARGIN)
    against["at least"] = high < -MARGIN
    assert (p_support(parts, relation).item() < 0.025) == inside[relation]
    assert (p_contradict(parts, relation).item() < 0.025) == against[relation]
    assert p_support(parts, "above").item() == pytest.approx(stats.t.sf(estimate / se, df), rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(pairs, min_size=1, max_size=6), st.sampled_from(RELATIONS))
def test_all_parts_must_support_and_one_is_enough_to_contradict(intervals, relation):
    parts = pd.concat([one_part(*part) for part in intervals], ignore_index=True)
    judged = judge_parts(parts, relation)
    each, against = p_support(parts, relation), p_contradict(parts, relation) * len(parts)
    assert judged.p == pytest.approx(min(1, 2 * min(each.max(), against.min())))
    shown, away = choose_shown_part(parts, "contradicted", relation).position, parts["estimate"].to_numpy()
    assert against[shown] == against.min()
    shown = choose_shown_part(parts, "supported", relation).position
    extreme = {"below": away.max(), "equal": away[np.abs(away).argmax()]}.get(relation, away.min())
    assert away[shown] == extreme
    left_open = each >= 0.025
    shown = choose_shown_part(parts, "inconclusive", relation).position
    assert left_open[shown] or not left_open.any()


def test_a_table_shows_the_smallest_lead_and_not_the_least_certain_one():
    parts = pd.concat([one_part(0.02, 0.002), one_part(0.05, 0.02)], ignore_index=True)
    assert p_support(parts, "higher").argmax() == 1  # its p is that of the claim
    assert choose_shown_part(parts, "supported", "higher") == ShownPart(0, "smallest")
    assert choose_shown_part(parts.assign(few=[False, True]), TOO_FEW, "higher").position == 1
    undefined = parts.assign(se=[0.002, np.nan])
    assert choose_shown_part(undefined, "inconclusive", "higher") == ShownPart(1, "no verdict possible")
    assert choose_shown_part(undefined - [0.1, 0, 0, 0], "contradicted", "higher").position == 0


def test_each_row_names_its_part_and_its_own_p():
    "MN-LR-2 leads RNN-C by .05 with much spread over draws, LR by .02 with little."
    ev = evaluation_of(lambda model, *_: {"MN-LR-2": 0.75, "LR": 0.73}.get(model, 0.70), sd=0.0005, seeds=6)
    wide = (ev.results["model"] == "RNN-C") * 0.01 * (ev.results["seed"] - 2.5)
    values = ev.values["auroc"] + wide.to_numpy()[:, None]
    ev = replace(ev, results=ev.results.assign(auroc=values[:, 0]), values=dict(auroc=values))
    table = claims_table(ev, claims=claims_of("small data", "worst case"))
    row = table.set_index("claim").loc["small data"]
    parts = gather_evidence(JudgedRun(ev), claims_of("small data"))
    least_certain = parts.loc[parts["p_support"].idxmax()]
    assert least_certain["estimate"] == pytest.approx(0.05, abs=0.005)  # what the table showed before
    smallest = parts.loc[parts["estimate"].idxmin()]
    assert [row[c] for c in ("part", "estimate", "low", "high")] == [
        smallest[c] for c in ("part", "estimate", "low", "high")
    ]
    assert row["p_part"] == smallest["p_support"] and row["p"] >= 2 * least_certain["p_support"]
    assert row["why_part"] == "smallest of 4 parts" and row["verdict"] == "supported"
    shown = _shown_verdicts(table).assign(name=table["claim"]).set_index("name").loc["small data"]
    assert shown["Part"] == f"smallest of 4 parts: {row['part']}" and shown["p"] == "< .001"
    assert "% to 10 %: MN-LR-2 − LR" in shown["Part"] and shown["Part"].split(": ")[1][:9] in ("phenotype", "mortality")


def test_claims_with_the_same_numbers_differ_in_the_parts_they_name():
    skill = {"MN-LR-2": 0.74, "untrained-LR-2": 0.73}
    ev = evaluation_of(lambda model, kind, f: skill.get(model, 0.7) + 0.01 * (kind == "phenotype"), sd=0.0005)
    table = claims_table(ev, claims=claims_of("generic", "generic for mortality"))
    shown = _shown_verdicts(table)["Part"]
    assert shown.nunique() == 2 and shown.str.contains("mortality, mean over").any()


@pytest.mark.parametrize("relation", RELATIONS)
def test_no_interval_is_never_a_verdict(relation):
    judged = judge_parts(one_part(0.3, np.nan), relation)
    assert family_verdicts([judged])[0].verdict == "inconclusive" and judged.remark == "no interval"
    assert verdict_of(one_part(0.3, 0.01, few=True), relation) == TOO_FEW


def test_an_undefined_part_hides_no_contradiction():
    parts = pd.concat([one_part(-0.1, 0.01), one_part(0.1, 0.01), one_part(np.nan, np.nan)], ignore_index=True)
    assert verdict_of(parts, "higher") == "contradicted"
    assert verdict_of(parts.iloc[1:].reset_index(drop=True), "higher") == "inconclusive"


def test_a_family_is_adjusted_by_holm_and_counts_only_claims_with_a_verdict():
    p = [0.01, 0.02, 0.04, np.nan]
    found = family_verdicts([Judgement("supported", v) for v in p])
    assert [v.p for v in found[:3]] == pytest.approx([0.03, 0.04, 0.04])
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    assert [v.p for v in found[:3]] == pytest.approx(multipletests(p[:3], method="holm")[1])


def test_the_margin_on_the_logit_scale_is_that_of_auroc_at_three_quarters():
    moved = np.log(0.76 / 0.24) - np.log(0.75 / 0.25)
    assert pytest.approx(moved, rel=0.02) == LOGIT_MARGIN


# ---------------------------------------------------------------- the dated rules


def test_the_frozen_rules_are_packaged_and_unchanged():
    text = (ROOT / "docs" / "rules" / RULES_FILE).read_text(encoding="utf-8")
    assert text == rules_text()
    assert hashlib.sha256(text.encode()).hexdigest() == RULES_SHA256, "a changed rule is a new file"
    assert RULES_SHA256[:12] in rules_citation() and "changed" not in rules_citation()


def test_the_frozen_rules_name_every_claim_with_its_family_and_relation():
    rows = [line.split("|")[1:-1] for line in rules_text().split("## 5.")[1].splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in rows[1:]]
    written = {re.sub(r" \([OTPD, ]+\)$", "", row[0]): row for row in rows}
    assert set(written) == {claim.name for claim in CLAIMS}
    for claim in CLAIMS:
        name, family, _, relation = written[claim.name]
        marks = name.removeprefix(claim.name)
        assert ("O" in marks) == (claim.other_tasks and claim.family != "sparsity"), claim.name
        assert ("P" in marks, "D" in marks) == (claim.kinds == ("phenotype",), claim.kinds == ("mortality",))
        assert family in (claim.family, "alone"), claim.name
        assert relation.startswith((claim.relation, "not run")), claim.name


# ---------------------------------------------------------------- the register


def test_quotes_are_the_papers_words(shared):
    def letters(text):
        return re.sub(r"[^a-z0-9%><]+", "", text.replace("\\approx", "").lower())

    paper = letters((shared / "paper.md").read_text(encoding="utf-8"))
    for claim in CLAIMS:
        assert letters(claim.quote) in paper, claim.quote


def test_every_claim_has_a_name_a_rule_and_a_word_on_what_is_compared():
    table = register_table(CLAIMS)
    assert table["claim"].is_unique
    assert table.notna().all().all()
    assert (table.drop(columns=["about", "caveat"]).map(len) > 0).all().all()
    assert table.loc[table["caveat"] != "", "claim"].tolist() == ["fine-tuning"]
    assert {claim.relation for claim in CLAIMS} == set(RELATIONS)
    assert len(table) == 25


# ---------------------------------------------------------------- which fits


def test_fractions_that_count_have_enough_stays_and_validation_positives():
    run = JudgedRun(evaluation_of(linear, models=("LR",), fractions=(0.01, 0.02, 0.05, 1.0), stays=10000))
    assert run.fractions("phenotype") == [0.05, 1.0]  # 100 stays with 2 positives; 500 with 10
    assert run.fractions("mortality") == [1.0]  # 250 stays with 5 positives
    assert run.all_fractions("mortality") == [0.01, 0.02, 0.05, 1.0]


def test_all_labels_of_validation_do_not_make_a_fraction_count():
    ev = evaluation_of(lambda model, kind, fraction: 0.7)
    before = JudgedRun(ev).counts
    more = ev.results[ev.results["model"] == "LR"].assign(model="LR:full-val", n_val=10**6, n_val_positive=10**5)
    wider = replace(ev, results=pd.concat([ev.results, more], ignore_index=True))
    pd.testing.assert_frame_equal(JudgedRun(wider).counts, before)


def test_few_labels_take_the_fine_grid_where_every_linear_system_has_it():
    models = ("LR", "LR:fine", "MN-LR-2", "MN-LR-2@1", "MN-LR-2:fine", "MN-LR-2:fine@1", "RNN-C", "untrained-LR-2")
    ev = evaluation_of(linear, models=models, fractions=(0.01, 0.1), stays=10000)
    run = JudgedRun(ev)
    few = fitted_names(run, ["MN-LR-2", "LR", "RNN-C"], "phenotype", 0.01)
    assert few == {"MN-LR-2": "MN-LR-2:fine", "LR": "LR:fine", "RNN-C": "RNN-C"}
    assert fitted_names(run, ["MN-LR-2", "RNN-C"], "phenotype", 0.1)["MN-LR-2"] == "MN-LR-2"  # 1,000 stays
    assert fitted_names(run, ["MN-LR-2", "untrained-LR-2"], "phenotype", 0.01)["MN-LR-2"] == "MN-LR-2"
    own = JudgedRun(ev, primary=False)
    assert fitted_names(own, ["MN-LR-2"], "phenotype", 0.01)["MN-LR-2"] == "MN-LR-2"
    one = evaluation_of(linear, models=[m for m in models if m != "MN-LR-2:fine@1"], fractions=(0.01,), stays=10000)
    assert fitted_names(JudgedRun(one), ["MN-LR-2"], "phenotype", 0.01)["MN-LR-2"] == "MN-LR-2"


@pytest.fixture(scope="module")
def fine_grid():
    "LR is .05 higher by the fine grid than by the paper's rule, MN-LR-2 the same by both; 300, 3,000 and 30,000 stays."
    networks = [f"MN-LR-2{c}{i}" for c in ("", ":fine") for i in ("", "@1", "@2")]
    ev = evaluation_of(lambda model, *_: 0.72 if model == "MN-LR-2" else 0.70, ("LR", "LR:fine", "RNN-C", *networks))
    values = ev.values["auroc"] + 0.05 * (ev.results["model"] == "LR:fine").to_numpy()[:, None]
    return replace(ev, results=ev.results.assign(auroc=values[:, 0]), values=dict(auroc=values))


def test_the_first_page_compares_the_fits_that_the_verdicts_rest_on(fine_grid):
    d = primary_differences(JudgedRun(fine_grid), [("MN-LR-2", "LR")], "phenotype").set_index("fraction")
    assert d["fits_versus"].tolist() == ["LR:fine", "LR", "LR", "LR"]
    assert d["fits"].tolist() == ["MN-LR-2:fine", "MN-LR-2", "MN-LR-2", "MN-LR-2"]
    assert d.loc[0.01, "estimate"] == pytest.approx(-0.03, abs=0.003)  # +.02 by the paper's rule
    terms = [Term(1, "MN-LR-2:fine", 0.01), Term(-1, "LR:fine", 0.01)]
    assert d.loc[0.01, "low"] == combined_interval(fine_grid, "phenotype", terms).interval.low
    sentence = _describe_kind(fine_grid, "phenotype")
    against_lr = sentence[sentence.index("MN-LR-2 against LR") :]
    larger = "higher at 2,400 (240) · 10 %, 12,000 (1,200) · 50 %, 24,000 (2,400) · 100 %"
    assert "lower at 240 (24) · 1 %" in against_lr and larger in against_lr
    rules = "λ by cross-validation on a fine grid at 1 %, by the paper's rule at 10 %, 50 %, 100 %"
    assert describe_lambda_rules(d.reset_index()) == rules
    assert sentence.count(rules) == 1  # the same for every comparison, so it comes once


def test_the_first_page_names_the_rule_of_each_comparison_where_they_differ(fine_grid):
    kept = ~fine_grid.results["model"].isin(["LR:fine"])
    less = replace(fine_grid, results=fine_grid.results[kept].reset_index(drop=True))
    less = replace(less, values=dict(auroc=fine_grid.values["auroc"][kept.to_numpy()]))
    sentence = _describe_kind(less, "phenotype")
    every = "240 (24) · 1 %, 2,400 (240) · 10 %, 12,000 (1,200) · 50 %, 24,000 (2,400) · 100 % of the labels"
    assert f"MN-LR-2 against LR: higher at {every} (λ by the paper's rule)." in sentence
    assert "of the labels (λ by cross-validation on a fine grid at 1 %" in sentence  # RNN-C has no λ


@pytest.fixture(scope="module")
def with_ridge():
    "MN-LR-2 leads LR by L1, and neither MN-LR-2 nor its ridge leads LR by ridge; 300, 3,000 and more stays."
    by = ("", ":fine", ":ridge")
    networks = [f"MN-LR-2{c}{i}" for c in by for i in ("", "@1", "@2")]
    ev = evaluation_of(lambda model, *_: 0.72 if model == "MN-LR-2" else 0.70, (*(f"LR{c}" for c in by), *networks))
    values = ev.values["auroc"] + 0.05 * (ev.results["model"] == "LR:ridge").to_numpy()[:, None]
    return replace(ev, results=ev.results.assign(auroc=values[:, 0]), values=dict(auroc=values))


def test_the_first_page_compares_with_ridge_where_it_was_run(with_ridge, fine_grid):
    """A lead over L1 need not be one over ridge, and the sentence about the one is next to that about the other."""
    sentence = _describe_kind(with_ridge, "phenotype")
    l1, ridge = sentence.split("With ridge in place of L1, on both sides or for LR alone: ")
    assert "MN-LR-2 against LR: higher at 240 (24) · 1 %, " in l1 and "lower" not in l1
    both, alone = ridge.split(" MN-LR-2 against LR:ridge: ")
    assert both.startswith("MN-LR-2:ridge against LR:ridge: lower at 240 (24) · 1 %, ")
    assert both.endswith("(λ by cross-validation on a fine grid).") and alone.startswith("lower at 240 (24) · 1 %, ")
    mixed = "by the paper's rule for MN-LR-2 and cross-validation on a fine grid for LR:ridge at 10 %, 50 %, 100 %"
    assert alone.endswith(f"(λ by cross-validation on a fine grid at 1 %, {mixed}).")
    d = primary_differences(JudgedRun(with_ridge), [("MN-LR-2", "LR:ridge")], "phenotype").set_index("fraction")
    assert d["fits"].tolist() == ["MN-LR-2:fine", "MN-LR-2", "MN-LR-2", "MN-LR-2"]
    assert set(d["fits_versus"]) == {"LR:ridge"} and d["high"].max() < 0
    assert "MN-LR-2:ridge − LR:ridge, " in str(_describe_estimates(with_ridge))
    assert "ridge" not in _describe_kind(fine_grid, "phenotype")


def test_results_alone_say_which_fits_are_primary(with_ridge):
    """A page that has the results of a run and no replicates asks the same function."""
    alone = JudgedRun(Evaluation(with_ridge.results, {}, {}, {}))
    for kind, fraction in product(("phenotype", "mortality"), FRACTIONS):
        found = fitted_names(alone, ["MN-LR-2", "LR"], kind, fraction)
        assert found == fitted_names(JudgedRun(with_ridge), ["MN-LR-2", "LR"], kind, fraction)
        assert found["MN-LR-2"] == ("MN-LR-2:fine" if fraction == 0.01 else "MN-LR-2")


def test_an_exploratory_run_shows_the_same_fits(fine_grid):
    r = fine_grid.results
    few = replace(fine_grid, results=r.assign(n_train=r["n_train"] / 10, n_val=r["n_val"] / 10))  # 300 stays at 10 %
    for of in (few, fine_grid):
        text = str(_describe_estimates(of))
        by_fine = [f"λ by cross-validation on a fine grid: {sign}.0" in text for sign in "−+"]
        assert by_fine == ([True, True] if of is few else [False, False])  # to LR −.03, to RNN-C +.02
        assert "100 %, λ by the paper's rule: +.0" in text


def test_a_run_with_the_fine_grid_has_two_rows_a_claim():
    models = ("LR", "LR:fine", "RNN-C")
    table = claims_table(
        evaluation_of(linear, models=models, fractions=(0.02, 0.1, 1.0), stays=10000),
        claims=claims_of("LR better on small sets"),
    )
    assert table["selection"].tolist() == ["primary", "the paper's λ rule"]
    rows = table[table["claim"] == "LR better on small sets"].set_index("selection")
    assert rows["estimate"].nunique() == 2  # other fits


def test_a_primary_row_says_where_it_is_of_the_fits_of_the_papers_rule():
    models = ("LR", "LR:fine", "RNN-C", "MN-LR-2", "MN-LR-2@1", "MN-LR-2@2", "MN-LR-2:fine")
    shown = section(evaluation_of(linear, models=models, fractions=(0.02, 0.1, 1.0), stays=10000))["claims"].shown
    of = shown.assign(name=[c.name for c in CLAIMS] * 2).set_index("name")["λ"]
    assert of["LR better on small sets"].tolist() == ["primary", "the paper's λ rule"]
    assert of["worst case"].tolist() == ["primary: the fits of the paper's rule", "the paper's λ rule"]


# ---------------------------------------------------------------- tests compared with plain arithmetic

SKILL = {"LR": 0.70, "RNN-C": 0.72, "MN-LR-1": 0.73, "MN-LR-2": 0.74, "untrained-LR-2": 0.68, "MN-FT": 0.71}
LOSS = {"RNN-C": 0.05, "MN-LR-2": 0.03}


def linear(model, kind, fraction):
    "AUROC that falls on a line over the logarithm of the fraction."
    return SKILL[model] + (0.05 if kind == "mortality" else 0) + LOSS.get(model, 0.04) * np.log10(fraction) / 2


@pytest.fixture(scope="module")
def certain():
    "Without chance, and every fraction counts."
    return JudgedRun(evaluation_of(linear, sd=0))


def estimates(parts):
    return parts["estimate"].to_numpy()


def lead(kind, fraction):
    return linear("MN-LR-2", kind, fraction) - linear("RNN-C", kind, fraction)


def test_mean_leads_are_means_of_differences(certain):
    assert certain.fractions("mortality") == [0.1, 0.5, 1.0]  # 150 stays at 1 % have three validation positives
    parts = lead_test([("MN-LR-2", "RNN-C")], "every")(certain)
    assert estimates(parts) == pytest.approx([np.mean([lead(k, f) for f in (0.1, 0.5, 1.0)]) for k in BOTH_KINDS])
    assert parts["spread"].to_numpy() == pytest.approx([lead(k, 0.1) - lead(k, 1) for k in BOTH_KINDS])
    assert parts["n_ahead"].tolist() == [3, 1]
    assert parts["n_networks"].tolist() == [3, 3]


def test_areas_begin_where_a_curve_has_left_chance():
    def mean(model, kind, fraction):
        return {0.01: 0.52, 0.02: 0.54, 0.05: 0.6, 0.1: 0.65, 1.0: 0.7}[fraction] + 0.005 * (model == "MN-LR-2")

    ev = evaluation_of(mean, fractions=(0.01, 0.02, 0.05, 0.1, 1.0), sd=0)
    part = area_test([("MN-LR-2", "RNN-C")])(JudgedRun(ev), ("mortality",)).iloc[0]
    assert part["part"] == "mortality, area 5 % to 10 %: MN-LR-2 − RNN-C"
    assert part["estimate"] == pytest.approx(0.005)
    chance = JudgedRun(evaluation_of(lambda *cell: 0.5, sd=0))
    with pytest.raises(NotRun, match=r"neither MN-LR-2 nor RNN-C exceeds an AUROC of 0\.55"):
        area_test([("MN-LR-2", "RNN-C")])(chance)


def test_areas_are_integrals_over_the_logarithm():
    ev = evaluation_of(linear, fractions=(0.01, 0.02, 0.05, 0.1, 1.0), sd=0)
    part = area_test([("MN-LR-2", "RNN-C")])(JudgedRun(ev), ("phenotype",)).iloc[0]
    x = np.array([0.01, 0.02, 0.05, 0.1])
    by_hand = np.trapezoid([lead("phenotype", f) for f in x], np.log(x)) / np.log(10)
    assert part["estimate"] == pytest.approx(by_hand)


def logit_lead(kind, fraction):
    one, two = (linear(m, kind, fraction) for m in ("MN-LR-2", "RNN-C"))
    return np.log(one / (1 - one)) - np.log(two / (1 - two))


def test_growth_is_on_the_logit_scale(certain):
    smallest = lead_growth_test("MN-LR-2", "RNN-C", "smallest", "full")(certain)
    assert estimates(smallest) == pytest.approx([logit_lead(k, 0.1) - logit_lead(k, 1) for k in BOTH_KINDS])
    small = lead_growth_test("MN-LR-2", "RNN-C", "small", "large")(certain, ("phenotype",))
    few, many = ([logit_lead("phenotype", f) for f in x] for x in ((0.01, 0.1), (0.5, 1.0)))
    assert estimates(small) == pytest.approx([np.mean(few) - np.mean(many)])
    loss = degradation_test(["RNN-C", "MN-LR-2"])(certain, ("phenotype",))
    assert estimates(loss) == pytest.approx([0.025, 0.015])


def test_the_interval_of_a_logit_lead_is_that_of_its_tangent():
    ev = evaluation_of(linear, sd=0.004)
    part = lead_growth_test("RNN-C", "LR", "reduced", "full")(JudgedRun(ev), ("mortality",)).iloc[0]
    r = ev.results.query("task_kind == 'mortality'").set_index(["model", "fraction", "seed"])["auroc"]
    rows = [r[m, f] for m in ("RNN-C", "LR") for f in (0.1, 0.5, 1.0)]
    rows[-1] = rows[-1][:1]  # with all labels LR has one fit
    logits = [np.log(v.mean() / (1 - v.mean())) for v in rows]
    signs = np.array([0.5, 0.5, -1, -0.5, -0.5, 1])
    assert part["estimate"] == pytest.approx(signs @ logits)
    slopes = signs / [v.mean() * (1 - v.mean()) for v in rows]
    moves = sum(s * v.to_numpy() for s, v in zip(slopes[:5], rows[:5]))  # the last one does not vary
    r = ev.results
    cells = [(m, f) for m in ("RNN-C", "LR") for f in (0.1, 0.5, 1.0)]
    where = [r.index[(r["task_kind"] == "mortality") & (r["model"] == m) & (r["fraction"] == f)] for m, f in cells]
    where[-1] = where[-1][:1]
    patients = sum(s * ev.values["auroc"][i, 1:].mean(0) for s, i in zip(slopes, where)).var(ddof=1)
    draws = moves.var(ddof=1) / 5
    assert part["se"] ** 2 == pytest.approx(patients + draws)
    assert part["df"] == pytest.approx((patients + draws) ** 2 / (draws**2 / 4))


def test_the_label_ratio_is_read_off_the_lines():
    ev = evaluation_of(linear, fractions=(0.01, 0.05, 0.1, 0.2, 0.5, 1.0), sd=0)
    part = label_ratio_test("MN-LR-2", "RNN-C")(JudgedRun(ev), ("phenotype",)).iloc[0]
    levels = [linear("RNN-C", "phenotype", f) for f in (0.05, 0.1, 0.2, 0.5)]  # .74 + .015 log10 g = level
    needed = np.maximum([10 ** ((level - 0.74) / 0.015) for level in levels], 0.01)
    by_hand = np.exp(np.mean(np.log(needed / [0.05, 0.1, 0.2, 0.5])))
    assert np.exp(part["estimate"]) == pytest.approx(by_hand)
    mirrored = label_ratio_test("RNN-C", "MN-LR-2")(JudgedRun(ev), ("phenotype",)).iloc[0]
    assert mirrored["estimate"] > 0


def clipped(model, kind, fraction):
    "RNN-C's levels all lie below MN-LR-2's curve."
    return {"MN-LR-2": 0.8, "RNN-C": 0.6}.get(model, 0.7) + 0.01 * np.log10(fraction)


def test_a_clipped_label_ratio_is_a_bound_and_never_certain():
    fractions = (0.05, 0.1, 0.2, 0.5, 1.0)
    ev = evaluation_of(clipped, fractions=fractions, sd=0.0005)
    part = label_ratio_test("MN-LR-2", "RNN-C")(JudgedRun(ev), ("phenotype",)).iloc[0]
    smallest = np.exp(np.mean(np.log(0.05 / np.array([0.05, 0.1, 0.2, 0.5]))))
    assert np.exp(part["estimate"]) == pytest.approx(smallest)  # what the frozen rules take
    assert part["se"] == 0 and np.isnan(part["detectable"])
    assert part["low"] == -np.inf and np.exp(part["high"]) == pytest.approx(smallest)
    assert part["words"] == f"at most × {smallest:.2f}"
    assert "4 of 4 levels reached with the fewest labels run" in part["remark"]
    mirrored = label_ratio_test("RNN-C", "MN-LR-2")(JudgedRun(ev), ("phenotype",)).iloc[0]
    assert mirrored["words"].startswith("at least × ") and mirrored["high"] == np.inf


def parallel(model, kind, fraction):
    "MN-LR-2 reaches every level of RNN-C between two fractions."
    return {"MN-LR-2": 0.71, "RNN-C": 0.70}.get(model, 0.7) + 0.05 * np.log10(fraction)


def test_the_report_says_that_a_censored_ratio_is_judged_as_a_number():
    ev = evaluation_of(clipped, fractions=(0.05, 0.1, 0.2, 0.5, 1.0), sd=0.0005)
    claims = section(ev)["claims"]
    row = claims.frame.set_index("claim").loc["fewer labels"]
    assert row["verdict"] == "supported" and row["shown"].startswith("at most × ")  # as the frozen rules judge it
    assert "is a bound" in claims.note
    plain = section(evaluation_of(parallel, sd=0.0005))
    assert "is a bound" not in plain["claims"].note


def test_shape_claims_keep_to_tasks_present_at_both_ends():
    ev = evaluation_of(linear, sd=0)
    results = ev.results
    is_rnn_c_on_a = (results["task"] == "A") & (results["model"] == "RNN-C")
    results.loc[is_rnn_c_on_a & (results["fraction"] == 0.1), "auroc"] = np.nan
    ev.values["auroc"][is_rnn_c_on_a & (results["fraction"] == 1)] += 0.1
    parts = degradation_test(["RNN-C"])(JudgedRun(ev), ("phenotype",))
    assert parts["estimate"].item() == pytest.approx(0.025)


def test_few_draws_or_networks_give_no_verdict():
    some = claims_of("end task", "better than statistics", "as effective", "LR better on small sets")
    few = claims_table(evaluation_of(linear, seeds=4), claims=some).set_index("claim")["verdict"]
    assert set(few[["end task", "better than statistics", "as effective"]]) == {TOO_FEW}
    models = [m for m in SYSTEMS if not m.endswith("@2")]
    two = claims_table(evaluation_of(linear, models=models), claims=some).set_index("claim")["verdict"]
    assert two["end task"] == TOO_FEW
    assert two["LR better on small sets"] == "contradicted"  # it reads no network


# ---------------------------------------------------------------- sparsity


def test_sparsity_counts_tasks_and_networks():
    ev = evaluation_of(linear, near_zero=lambda model, kind: 0.96 if kind == "phenotype" else 0.8)
    part = feature_fraction_test(["MN-LR-1"], near_zero=True)(JudgedRun(ev), ("phenotype",)).iloc[0]
    assert (part["n_tasks"], part["n_networks"]) == (3, 3)
    assert part["estimate"] == pytest.approx((3 * 288 + 2 * 289) / 1500)
    assert part["low"] == pytest.approx(part["high"])
    assert mortality_features_test(["MN-LR-1"])(JudgedRun(ev))["estimate"].item() == pytest.approx(0.16)


@pytest.mark.parametrize("sizes,reason", [(dict(hidden=64), "hidden units: 64"), (dict(hidden=np.nan), "unknown")])
def test_sparsity_needs_the_papers_size(sizes, reason):
    ev = evaluation_of(linear)
    ev.results = ev.results.assign(**sizes)
    row = claims_table(ev, claims=claims_of("few features")).set_index("claim").loc["few features"]
    assert row["verdict"] == "not run" and reason in row["reason"]


def test_sparsity_needs_the_papers_number_of_stays():
    row = (
        claims_table(evaluation_of(linear, stays=4000), claims=claims_of("few features"))
        .set_index("claim")
        .loc["few features"]
    )
    assert row["reason"].startswith("phenotype: 4,000 labelled stays; the paper has 35,621")


def test_the_same_task_in_several_splits_counts_once():
    ev = evaluation_of(linear, near_zero=lambda model, kind: 0.9)
    ev.results.loc[ev.results["task"] == "A", "n_near_zero"] = 150
    results = pd.concat([ev.results, ev.results.assign(split=1)], ignore_index=True)
    twice = Evaluation(results, ev.values, ev.positives, ev.info)
    test = feature_fraction_test(["MN-LR-1"])
    found, alone = (test(JudgedRun(e)) for e in (twice, ev))
    counts = ["null_models"]  # of fits, and there are twice as many
    pd.testing.assert_frame_equal(found.drop(columns=counts), alone.drop(columns=counts))
    assert found["n_tasks"].item() == 4


def with_null_models(ev, model, kind, n):
    "The same results, where the first fits of a model have every weight near zero."
    results = ev.results
    is_fit = (results["model"] == model) & (results["task_kind"] == kind) & (results["fraction"] == 1)
    rows = results.index[is_fit][:n]
    results.loc[rows, "n_near_zero"] = results.loc[rows, "n_features"]
    return ev


def test_null_models_are_excluded_from_counts():
    test = feature_fraction_test(["MN-LR-1"])
    ev = with_null_models(evaluation_of(linear), "MN-LR-1", "phenotype", 5)  # every seed of task A
    part = test(JudgedRun(ev), ("phenotype",)).iloc[0]
    assert part["n_tasks"] == 2
    assert part["estimate"] == pytest.approx(1 - (3 * 150 + 2 * 151) / 1500)
    assert part["remark"] == "5 of 45 phenotype fits of MN-LR-1 left out: every weight near zero"


def test_where_most_models_are_null_sparsity_is_not_tested():
    ev = evaluation_of(linear)
    for model in ("MN-LR-1", "MN-LR-1@1"):
        with_null_models(ev, model, "phenotype", 15)
    row = claims_table(ev, claims=claims_of("95 % near zero")).set_index("claim").loc["95 % near zero"]
    assert row["reason"] == "30 of 45 phenotype fits of MN-LR-1 have every weight near zero"


def three_networks(tables):
    return {k: {0: pd.DataFrame(table)} for k, table in enumerate(tables)}


@pytest.mark.parametrize("n,verdict", [(1, "supported"), (2, "supported"), (3, "not run"), (4, "not run")])
def test_null_models_of_tasks_do_not_make_features_few(n, verdict):
    weights = np.zeros((4, 10))
    weights[n:, :3] = [1, 2, 3]
    table = claims_table(
        evaluation_of(linear), three_networks([weights] * 3), claims=claims_of("130 of 300", "several generic features")
    ).set_index("claim")
    assert table.loc["130 of 300", "verdict"] == verdict
    assert f"{n} of 4 models of MN-LR-1 in split 0" in table.loc["130 of 300", "reason"]
    assert (table.loc["several generic features", "verdict"] == "not run") == (verdict == "not run")


def test_weights_of_one_network_are_no_ground_for_a_verdict():
    table = claims_table(
        evaluation_of(linear),
        three_networks([np.eye(4, 10)]),
        claims=claims_of("130 of 300", "several generic features"),
    ).set_index("claim")
    assert table.loc["130 of 300", "verdict"] == table.loc["several generic features", "verdict"] == TOO_FEW


def test_shared_features_are_compared_with_permutations():
    rng = seeded_rng("chance")
    random = [pd.DataFrame(rng.exponential(size=(11, 300)) * (rng.random((11, 300)) < 0.3)) for _ in range(3)]
    part = shared_features(random, 0)
    assert abs(part["estimate"]) < 0.03 and part["low"] < 0 < part["high"]
    same = [pd.DataFrame(np.tile(t.iloc[:1], (11, 1)) + 0.1 * t.to_numpy()) for t in random]
    alike = shared_features(same, 0)
    assert alike["low"] > 0.2 and alike["remark"] == "permutation p = 0.001"
    assert used_by_any_task([pd.DataFrame(np.eye(4, 10))] * 3, 0)["estimate"] == pytest.approx(0.4)


# ---------------------------------------------------------------- whole tables


def verdicts(ev, weights=None):
    return claims_table(ev, weights).set_index("claim")["verdict"]


def as_in_figure_2(model, kind, fraction):
    few = -np.log10(fraction) / 2  # 0 at 100 %, 1 at 1 %
    return {
        "LR": 0.72 - 0.05 * few,
        "RNN-C": 0.745 - 0.16 * few,
        "MN-LR-1": 0.745 - 0.03 * few,
        "MN-LR-2": 0.745 - 0.03 * few + (0.02 if kind == "mortality" else 0),
        "untrained-LR-2": 0.70 - 0.05 * few,
        "MN-FT": 0.745 - 0.06 * few,
    }[model]


def test_results_as_in_the_papers_figure_support_its_claims():
    rng = seeded_rng("few features")
    weights = [np.tile(np.r_[rng.random(40) + 0.1, np.zeros(260)], (4, 1)) for _ in range(3)]
    ev = evaluation_of(as_in_figure_2, sd=0.0005, near_zero=lambda model, kind: 0.85 if kind == "mortality" else 0.975)
    found = verdicts(ev, three_networks(weights))
    assert found.pop("fine-tuning") == "not run"
    assert set(found) == {"supported"}, found[found != "supported"]


def with_training_auroc(ev, gap):
    "The same results, the AUROC of training stays higher by a gap where labels are few."
    train = [a + gap * (f < 1) for a, f in zip(ev.results["auroc"], ev.results["fraction"])]
    recurrent = ev.results["model"].str.startswith(("MN-FT", "RNN-C"))
    return replace(ev, results=ev.results.assign(auroc_train=np.where(recurrent, train, np.nan)))


@pytest.mark.parametrize("gap,verdict", [(0.1, "supported"), (0.0, "contradicted"), (-0.1, "contradicted")])
def test_overfitting_is_judged_where_fits_keep_their_training_auroc(gap, verdict):
    ev = with_training_auroc(evaluation_of(lambda model, kind, fraction: 0.8, sd=0.0005), gap)
    row = claims_table(ev, claims=claims_of("fine-tuning")).iloc[0]
    assert row["verdict"] == verdict
    assert row["estimate"] == pytest.approx(gap, abs=0.002)
    assert "10 %: MN-FT on its training stays" in row["part"]  # the smallest fraction that counts, of 1 to 100 %
    assert row["spread"] == pytest.approx(gap, abs=0.002)
    assert row["reference"].startswith("gap of RNN-C: ")


def test_fine_tuning_is_never_supported_without_its_caveat_and_the_gap_of_rnn_c():
    ev = evaluation_of(lambda model, kind, fraction: 0.8, models=("MN-FT", "MN-FT@1", "MN-FT@2", "RNN-C"), sd=0.0005)
    r = ev.results
    gaps = np.where(r["model"] == "RNN-C", 0.03, 0.1)
    with_gaps = replace(ev, results=r.assign(auroc_train=r["auroc"] + gaps))
    table = claims_table(with_gaps, claims=claims_of("fine-tuning"))
    row = table.iloc[0]
    assert (row["verdict"], row["reference"][:17]) == ("supported", "gap of RNN-C: +.0")
    assert re.fullmatch(r"gap of RNN-C: \+\.0(29|30|31) \[.*\]", row["reference"])
    sentence = describe_verdicts(table.assign(synthetic=False))
    assert f"fine-tuning ({row['shown']}; {row['reference']}; says no more than the paper's sentence does" in sentence
    compared = _shown_verdicts(table)["Compared"].item()
    assert row["reference"] in compared and "; this verdict says no more than the paper's sentence does" in compared
    evidence = gather_evidence(JudgedRun(with_gaps), claims_of("fine-tuning"))
    assert evidence["reference"].str.startswith("gap of RNN-C: ").all() and len(evidence) == 2
    assert "says no more than the paper's sentence does" in " ".join(rules_text().split())
    open_ = table.assign(verdict="inconclusive", synthetic=False)
    assert describe_verdicts(open_) == "Inconclusive: fine-tuning."
    assert "says no more" not in _shown_verdicts(open_)["Compared"].item()


def test_overfitting_needs_networks_and_a_training_auroc():
    ev = evaluation_of(lambda model, kind, fraction: 0.8, models=("MN-FT", "RNN-C"), sd=0.0005)
    one_network = claims_table(with_training_auroc(ev, 0.1), claims=claims_of("fine-tuning")).iloc[0]
    assert one_network["verdict"] == TOO_FEW
    for older in (ev, replace(ev, results=ev.results.assign(auroc_train=np.nan))):
        row = claims_table(older, claims=claims_of("fine-tuning")).iloc[0]
        assert row["verdict"] == "not run"
        assert "no AUROC on the training stays" in row["reason"]


def test_results_against_the_paper_contradict_its_claims():
    skill = {"LR": 0.80, "RNN-C": 0.78, "untrained-LR-2": 0.75, "MN-FT": 0.77, "MN-LR-1": 0.70, "MN-LR-2": 0.70}
    ev = evaluation_of(
        lambda model, kind, fraction: skill[model] + 0.02 * np.log10(fraction),
        sd=0.0005,
        near_zero=lambda model, kind: 0.3,
    )
    found = verdicts(ev)
    expected = {
        "worst case",
        "better than statistics",
        "generic",
        "small data",
        "equal with all labels",
        "as effective",
        "consistently higher",
        "fewer labels",
        "mortality",
        "few features",
        "95 % near zero",
    }
    assert expected <= set(found[found == "contradicted"].index)
    assert found["LR better on small sets"] == "supported"
    assert found["130 of 300"] == "not run"
    assert found["both degrade"] == "supported"


def test_noise_leaves_claims_open():
    names = ["worst case", "better than statistics", "equal with all labels", "consistently higher"]
    ev = evaluation_of(lambda model, kind, fraction: 0.7, sd=0.1)
    found = claims_table(ev, claims=claims_of(*names)).set_index("claim")["verdict"]
    assert (found[names] == "inconclusive").all()


def test_claims_without_their_systems_are_not_run_and_say_why():
    table = claims_table(toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9})).set_index("claim")
    assert table.loc["worst case", "verdict"] == "not run"
    assert table.loc["worst case", "reason"] == "RNN-C: not run"
    assert table.loc["mortality", "reason"] == "RNN-C: not run"
    assert table["synthetic"].all()
    assert table.loc["130 of 300", "reason"] == "MN-LR-1: no weights at hand"
    assert table.loc["95 % near zero", "verdict"] == "not run"
    assert table.loc["fine-tuning", "reason"] == "MN-FT: not run"


def test_claims_without_their_fractions_are_not_run_and_say_why():
    ev = toy_evaluation({m: 0.4 for m in ("LR", "RNN-C", "MN-LR-2")}, fractions=(0.2, 0.5), n=300)
    table = claims_table(ev).set_index("claim")
    assert table.loc["LR better on small sets", "reason"] == "a fraction of at most 10 % was not run"
    assert table.loc["equal with all labels", "reason"] == "100 % of the labels was not run"
    small = claims_table(toy_evaluation({m: 0.4 for m in ("LR", "MN-LR-2")}, fractions=(0.05, 0.1))).set_index("claim")
    assert small.loc["better than statistics", "reason"] == "a fraction with enough labelled stays was not run"


def test_without_replicates_nothing_is_decided():
    ev = toy_evaluation({m: 0.4 for m in ("LR", "GBT")}, seeds=6, replicates=0)
    assert np.isnan(JudgedRun(ev).combine("phenotype", lead_terms()).se)


def lead_terms():
    from rnn_transfer.evaluation.three_sources import Term

    return [Term(1, "GBT", 0.1), Term(-1, "LR", 0.1)]


@pytest.fixture(scope="module")
def judged():
    "An evaluation with the tables of its section."
    ev = evaluation_of(linear)
    return ev, {t.name: t for t in section(ev).items}


def test_verdicts_are_named_and_never_counted(judged):
    tables = judged[1]
    text = describe_verdicts(tables["claims"].frame)
    assert "end task" in text and not re.search(r"\d+ (of|claims|supported|contradicted)", text)
    assert not any(re.search(r"Of \d+ claims|\d+ supported", t.note) for t in tables.values())


def test_the_evidence_holds_every_part(judged):
    ev, tables = judged
    table = tables["claims"].frame.set_index("claim")
    evidence = tables["claims_parts"].frame
    for claim, n in evidence[evidence["part"].notna()].groupby("claim").size().items():
        assert table.loc[claim, "n_parts"] == n
    assert set(evidence["claim"]) == {claim.name for claim in CLAIMS}
    some = claims_of("end task", "few features")
    assert len(gather_evidence(JudgedRun(ev), some)) == evidence["claim"].isin([c.name for c in some]).sum()


def test_the_section_names_its_rules_and_writes_the_columns_that_others_read(judged):
    tables = judged[1]
    assert list(tables) == ["claims", "claims_rules", "claims_parts"]
    assert all(RULES_FILE in t.note and RULES_SHA256[:12] in t.note for t in tables.values())
    frame = tables["claims"].frame
    assert set(frame["rules_sha256"]) == {RULES_SHA256}
    for column in [
        "claim",
        "section",
        "quote",
        "compared",
        "rule",
        "verdict",
        "shown",
        "part",
        "estimate",
        "low",
        "high",
        "detectable",
        "p",
        "reason",
    ]:
        assert column in frame
    assert {"claim", "part", "estimate", "low", "high", "se", "df", "p_support"} <= set(tables["claims_parts"].frame)
