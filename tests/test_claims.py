"Claims: the rule at its boundaries, simultaneous intervals, the tests compared with arithmetic, and whole tables."

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_transfer.evaluation.claim_features import (
    feature_fraction_test,
    mortality_features_test,
    shared_features,
    used_by_any_task,
)
from rnn_transfer.evaluation.claim_register import CLAIMS, register_table
from rnn_transfer.evaluation.claim_rules import contradicts, decide, simultaneous_intervals, supports
from rnn_transfer.evaluation.claim_tests import (
    BOTH_KINDS,
    degradation_test,
    difference_test,
    label_efficiency_test,
    lead_growth_test,
    mean_difference_test,
    parts_from_replicates,
)
from rnn_transfer.evaluation.claims import claims_table, count_verdicts, gather_evidence, section
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.results import Evaluation
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.utilities.seeds import seeded_rng

RELATIONS = ("higher", "equal", "at least", "above", "below")
SYSTEMS = ("LR", "RNN-C", "MN-LR-1", "MN-LR-2", "untrained-LR-2", "MN-FT")
TASKS = {"A": "phenotype", "B": "phenotype", "C": "phenotype", "Death": "mortality"}


def half(model, kind):
    return 0.5


def evaluation_of(mean, models=SYSTEMS, fractions=(0.01, 0.1, 0.5, 1.0), sd=0.002, replicates=200, near_zero=half):
    "An evaluation whose AUROCs are given: mean(model, kind, fraction), and replicates around it; two seeds."
    rows, values = [], []
    for (task, kind), model, fraction, seed in product(TASKS.items(), models, fractions, (0, 1)):
        n_features = 600 if model == "MN-LR-2" else 300
        auroc = mean(model, kind, fraction)
        key = dict(split=0, task=task, task_kind=kind, model=model, fraction=fraction, seed=seed)
        counts = dict(n_features=n_features, n_near_zero=int(n_features * near_zero(model, kind)) + seed)
        rows.append(key | dict(n_train=1000 * fraction, n_test=500) | counts | dict(auroc=auroc))
        noise = seeded_rng("made", task, model, fraction, seed).normal(0, sd, replicates)
        values.append(np.r_[auroc, auroc + noise])
    positives = {task: np.ones(replicates + 1) for task in TASKS}
    return Evaluation(pd.DataFrame(rows), dict(auroc=np.array(values)), positives, dict(synthetic=True))


def one_part(low, high):
    "A claim of one part, whose two intervals are the same."
    return pd.DataFrame([dict(low=low, high=high, low_all=low, high_all=high)])


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    "low,high,relation,verdict",
    [
        (1e-9, 0.5, "higher", "supported"),
        (0, 0.5, "higher", "undecided"),
        (-0.5, 0.01, "higher", "undecided"),
        (-0.5, 0.0099, "higher", "not supported"),
        (0.001, 0.005, "higher", "supported"),
        (-0.0099, 0.0099, "equal", "supported"),
        (-0.01, 0.0099, "equal", "undecided"),
        (0.002, 0.005, "equal", "supported"),
        (0.01, 0.02, "equal", "not supported"),
        (-0.02, -0.01, "equal", "not supported"),
        (0.0099, 0.02, "equal", "undecided"),
        (-0.0099, 0.1, "at least", "supported"),
        (-0.01, 0.1, "at least", "undecided"),
        (-0.1, -0.01, "at least", "not supported"),
        (-0.1, -0.0099, "at least", "undecided"),
    ],
)
def test_verdicts_at_the_boundaries(low, high, relation, verdict):
    assert decide(one_part(low, high), relation).verdict == verdict


@pytest.mark.parametrize(
    "low,high,relation,verdict",
    [
        (0.951, 0.99, "above", "supported"),
        (0.95, 0.99, "above", "undecided"),
        (0.9, 0.95, "above", "not supported"),
        (0, 0.949, "below", "supported"),
        (0.95, np.inf, "below", "not supported"),
        (0, np.inf, "below", "undecided"),
    ],
)
def test_stated_values_have_no_margin(low, high, relation, verdict):
    assert decide(one_part(low, high), relation, 0.95).verdict == verdict


ends = st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)).map(sorted)


@given(ends, st.sampled_from(RELATIONS), st.floats(0, 0.03))
def test_a_narrower_interval_never_reverses_a_verdict(interval, relation, shrink):
    low, high = interval
    shrink = min(shrink, (high - low) / 2)
    inner = (low + shrink, high - shrink)
    if supports(low, high, relation):
        assert supports(*inner, relation)
    if contradicts(low, high, relation):
        assert contradicts(*inner, relation)


@given(ends)
def test_relations_agree_with_each_other(interval):
    low, high = interval
    if supports(low, high, "higher") or supports(low, high, "equal"):
        assert supports(low, high, "at least")
    for relation in ("equal", "at least"):
        assert not (supports(low, high, relation) and contradicts(low, high, relation))
    if supports(low, high, "higher"):
        assert not supports(-high, -low, "higher")
    assert supports(low, high, "equal") == supports(-high, -low, "equal")


@given(st.lists(ends, min_size=1, max_size=6), st.sampled_from(RELATIONS))
def test_all_parts_must_support_and_one_is_enough_to_contradict(intervals, relation):
    low, high = np.array(intervals).T
    parts = pd.DataFrame(dict(low=low, high=high, low_all=low - 0.01, high_all=high + 0.01))
    verdict, weakest, n_supporting = decide(parts, relation)
    supporting = [bool(supports(a, b, relation)) for a, b in intervals]
    against = [bool(contradicts(a - 0.01, b + 0.01, relation)) for a, b in intervals]
    against = [bad and not good for bad, good in zip(against, supporting)]
    expected = "supported" if all(supporting) else "not supported" if any(against) else "undecided"
    assert verdict == expected
    assert n_supporting == sum(supporting)
    assert 0 <= weakest < len(intervals)
    if verdict == "not supported":
        assert against[weakest]
    elif verdict == "undecided":
        assert not supporting[weakest]


@pytest.mark.parametrize("relation", RELATIONS)
def test_no_interval_is_never_a_verdict(relation):
    assert decide(one_part(np.nan, np.nan), relation) == ("undecided", 0, 0)


# ---------------------------------------------------------------- simultaneous intervals


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.floats(0, 0.99), st.integers(0, 99))
def test_simultaneous_intervals_hold_all_parts_and_contain_the_separate_ones(k, correlation, seed):
    rng = seeded_rng("simultaneous", k, seed)
    values = correlation * rng.normal(size=400) + rng.normal(size=(k, 400))
    low, high = simultaneous_intervals(np.c_[values.mean(1), values])
    own_low, own_high = np.array([percentile_interval(np.r_[0, v])[:2] for v in values]).T
    inside = (low <= values.T) & (high >= values.T)
    assert inside.all(1).mean() >= 0.945
    assert (low <= own_low + 0.02).all()
    assert (high >= own_high - 0.02).all()
    if k == 1:
        assert low == pytest.approx(own_low)
        assert high == pytest.approx(own_high)


def test_simultaneous_intervals_leave_undefined_replicates_out():
    values = seeded_rng("gaps").normal(size=(2, 301))
    values[0, 5:25] = np.nan
    assert np.isfinite(simultaneous_intervals(values)).all()
    values[1, 20:290] = np.nan
    low, high = simultaneous_intervals(values)
    assert np.isnan([low[1], high[1]]).all()
    own = percentile_interval(values[0])[:2]
    assert (low[0], high[0]) == pytest.approx(own), "a part without an interval leaves the other its own"
    values[0, 20:290] = np.nan
    assert np.isnan(simultaneous_intervals(values)).all()


def test_replicates_in_which_the_parts_are_never_both_defined_leave_no_interval():
    values = seeded_rng("apart").normal(size=(2, 301))
    values[0, 1:150] = values[1, 150:290] = np.nan
    assert np.isnan(simultaneous_intervals(values)).all()


@pytest.mark.parametrize("undefined", [[np.nan] * 301, [np.nan, *[0.1] * 300], [0.1] * 50 + [np.nan] * 251])
def test_an_undefined_part_hides_no_contradiction(undefined):
    rng = seeded_rng("parts")
    values = np.stack([np.r_[m, rng.normal(m, 0.01, 300)] for m in (-0.1, 0.1)])
    two = parts_from_replicates([(name, v, {}) for name, v in zip("ab", values)])
    three = parts_from_replicates([(name, v, {}) for name, v in zip("abc", [*values, np.array(undefined)])])
    assert decide(three, "higher").verdict == decide(two, "higher").verdict == "not supported"
    assert np.isnan(three.loc[2, ["low_all", "high_all"]].to_numpy(float)).all()
    assert decide(three.iloc[1:].reset_index(drop=True), "higher").verdict == "undecided"


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
    assert (table.map(len) > 0).all().all()
    assert {claim.relation for claim in CLAIMS} == set(RELATIONS)
    assert len(table) == 25


# ---------------------------------------------------------------- tests compared with plain arithmetic

SKILL = {"LR": 0.70, "RNN-C": 0.72, "MN-LR-1": 0.73, "MN-LR-2": 0.74, "untrained-LR-2": 0.68, "MN-FT": 0.71}
LOSS = {"RNN-C": 0.05, "MN-LR-2": 0.03}


def linear(model, kind, fraction):
    "AUROC that falls on a line over the logarithm of the fraction."
    return SKILL[model] + (0.05 if kind == "mortality" else 0) + LOSS.get(model, 0.04) * np.log10(fraction) / 2


def estimates(parts):
    return parts["estimate"].to_numpy()


def test_differences_are_differences_of_means():
    ev = evaluation_of(linear)
    parts = difference_test([("MN-LR-2", "RNN-C")], "every")(ev)
    expected = [linear("MN-LR-2", k, f) - linear("RNN-C", k, f) for k in BOTH_KINDS for f in ev.fractions]
    assert len(parts) == 8
    assert estimates(parts) == pytest.approx(expected)
    assert (parts["low"] < parts["estimate"]).all()
    assert (parts["low_all"] <= parts["low"]).all()
    assert parts["n_ahead"].tolist() == [3] * 4 + [1] * 4
    mean = mean_difference_test([("MN-LR-2", "LR")])(ev, ("mortality",))
    expected = np.mean([linear("MN-LR-2", "", f) - linear("LR", "", f) for f in ev.fractions])
    assert mean["estimate"].item() == pytest.approx(expected)


def test_growth_and_loss_are_differences_of_means():
    ev = evaluation_of(linear)
    smallest = lead_growth_test("MN-LR-2", "RNN-C", "smallest", "full")(ev)
    assert estimates(smallest) == pytest.approx([0.02, 0.02])
    small = lead_growth_test("MN-LR-2", "RNN-C", "small", "large")(ev, ("phenotype",))
    assert small["estimate"].item() == pytest.approx(0.015 - 0.02 * -np.log10(0.5) / 4)
    assert len(lead_growth_test("MN-LR-2", "RNN-C", "reduced", "full", each=True)(ev)) == 6
    loss = degradation_test(["RNN-C", "MN-LR-2"])(ev, ("phenotype",))
    assert estimates(loss) == pytest.approx([0.05, 0.03])


def test_labels_needed_are_read_off_the_line():
    ev = evaluation_of(linear, sd=1e-6)
    parts = label_efficiency_test("MN-LR-2", "RNN-C")(ev)  # .74 + .015 log10 f = .72
    assert estimates(parts) == pytest.approx([10 ** (-0.02 / 0.015)] * 2, rel=0.02)


def test_shape_claims_keep_to_tasks_present_at_both_ends():
    ev = evaluation_of(linear)
    results = ev.results
    is_rnn_c_on_a = (results["task"] == "A") & (results["model"] == "RNN-C")
    results.loc[is_rnn_c_on_a & (results["fraction"] == 0.01), "auroc"] = np.nan
    ev.values["auroc"][is_rnn_c_on_a & (results["fraction"] == 1)] += 0.1
    parts = lead_growth_test("MN-LR-2", "RNN-C", "smallest", "full")(ev, ("phenotype",))
    assert parts["estimate"].item() == pytest.approx(0.02)


def test_sparsity_counts_tasks():
    ev = evaluation_of(linear, near_zero=lambda model, kind: 0.96 if kind == "phenotype" else 0.8)
    part = feature_fraction_test(["MN-LR-1"], near_zero=True)(ev, ("phenotype",)).iloc[0]
    assert part["n_tasks"] == 3
    assert part["estimate"] == pytest.approx((288 + 289) / 600)
    assert part["low"] == pytest.approx(part["high"])
    assert mortality_features_test(["MN-LR-1"])(ev)["estimate"].item() == pytest.approx(0.16)
    one_task = feature_fraction_test(["LR"])(ev, ("mortality",))
    assert np.isnan(one_task["low"].item())


def test_the_same_task_in_several_splits_counts_once():
    ev = evaluation_of(linear, near_zero=lambda model, kind: 0.9)
    ev.results.loc[ev.results["task"] == "A", "n_near_zero"] = 150
    results = pd.concat([ev.results, ev.results.assign(split=1)], ignore_index=True)
    twice = Evaluation(results, ev.values, ev.positives, ev.info)
    test = feature_fraction_test(["MN-LR-1"])
    pd.testing.assert_frame_equal(test(twice), test(ev))
    assert test(twice)["n_tasks"].item() == 4


# ---------------------------------------------------------------- null models


def with_null_models(ev, model, kind, n):
    "The same results, where the first fits of a model have every weight near zero."
    results = ev.results
    is_fit = (results["model"] == model) & (results["task_kind"] == kind) & (results["fraction"] == 1)
    rows = results.index[is_fit][:n]
    results.loc[rows, "n_near_zero"] = results.loc[rows, "n_features"]
    return ev


SPARSE = ("few features", "95 % near zero", "more features for mortality")


def phenotypes_half_used():
    return evaluation_of(linear, near_zero=lambda model, kind: 0.5 if kind == "phenotype" else 0.6)


def test_null_models_are_excluded_from_counts():
    test = feature_fraction_test(["MN-LR-1"])
    all_fits = test(phenotypes_half_used(), ("phenotype",)).iloc[0]
    ev = with_null_models(phenotypes_half_used(), "MN-LR-1", "phenotype", 2)  # both seeds of task A
    part = test(ev, ("phenotype",)).iloc[0]
    assert part["n_tasks"] == 2
    assert part["estimate"] == pytest.approx(all_fits["estimate"])
    assert part["remark"] == "2 of 6 phenotype fits of MN-LR-1 left out: every weight near zero"


def test_null_models_support_nothing():
    ev = with_null_models(phenotypes_half_used(), "MN-LR-1", "phenotype", 1)
    row = claims_table(ev).set_index("claim").loc["95 % near zero"]
    assert "1 of 6 phenotype fits of MN-LR-1 left out" in row["reason"]
    assert row["verdict"] == "not supported"
    evidence = gather_evidence(ev)
    is_sparse = evidence["claim"].isin(SPARSE) & evidence["part"].str.startswith("MN-LR-1", na=False)
    reasons = evidence["reason"][is_sparse]
    assert len(reasons) == 3
    assert reasons.str.contains("1 of 8 phenotype and mortality fits|1 of 6 phenotype fits").all()


@pytest.mark.parametrize("n,verdict", [(3, "not supported"), (4, "not run"), (6, "not run")])
def test_where_most_models_are_null_sparsity_is_not_tested(n, verdict):
    ev = with_null_models(evaluation_of(linear), "MN-LR-1", "phenotype", n)
    row = claims_table(ev).set_index("claim").loc["95 % near zero"]
    assert row["verdict"] == verdict
    if verdict == "not run":
        assert row["reason"] == f"{n} of 6 phenotype fits of MN-LR-1 have every weight near zero"


@pytest.mark.parametrize("n,verdict", [(1, "supported"), (2, "supported"), (3, "not run"), (4, "not run")])
def test_null_models_of_tasks_do_not_make_features_few(n, verdict):
    weights = np.zeros((4, 10))
    weights[n:, :3] = 1
    table = claims_table(evaluation_of(linear), {0: pd.DataFrame(weights)}).set_index("claim")
    row = table.loc["130 of 300"]
    models = f"{n} of 4 models of MN-LR-1 in split 0 "
    expected = {
        "supported": f"descriptive: no interval; {models}left out: every weight near zero",
        "not run": f"{models}have every weight near zero",
    }
    assert row["verdict"] == verdict
    assert row["reason"] == expected[verdict]
    assert (table.loc["several generic features", "verdict"] == "not run") == (verdict == "not run")


# ---------------------------------------------------------------- counts of features


def test_a_count_says_that_it_has_no_interval():
    weights = {split: pd.DataFrame(np.eye(4, 10)) for split in (0, 1)}
    row = claims_table(evaluation_of(linear), weights).set_index("claim").loc["130 of 300"]
    assert row["reason"] == "descriptive: no interval; 2 of 2 parts hold"
    assert row["low"] == row["estimate"] == row["high"]
    assert "without an interval" in row["compared"]
    evidence = gather_evidence(evaluation_of(linear), weights)
    assert set(evidence["reason"][evidence["claim"] == "130 of 300"]) == {"descriptive: no interval"}


def test_shared_features_are_compared_with_chance():
    rng = seeded_rng("chance")
    random = pd.DataFrame((rng.random((11, 300)) < 0.05).astype(float))
    same = pd.DataFrame(np.tile(rng.random(300) < 0.05, (11, 1)).astype(float))
    parts = shared_features({0: random, 1: same})
    assert parts["low"][0] < 0 < parts["high"][0]
    assert not supports(parts["low"][0], parts["high"][0], "above")
    none_shared = pd.DataFrame(np.eye(11, 300))
    first_shared = pd.DataFrame(np.eye(11, 300) + np.eye(1, 300, 0))
    estimate_none = shared_features({0: none_shared})["estimate"].item()
    assert estimate_none < shared_features({0: first_shared})["estimate"].item()
    assert used_by_any_task({0: same})["estimate"].item() == pytest.approx(same.iloc[0].mean())


# ---------------------------------------------------------------- whole tables


def verdicts(ev, weights=None):
    return claims_table(ev, weights).set_index("claim")["verdict"]


def as_in_figure_2(model, kind, fraction):
    few = -np.log10(fraction) / 2  # 0 at 100 %, 1 at 1 %
    return {
        "LR": 0.72 - 0.05 * few,
        "RNN-C": 0.745 - 0.12 * few,
        "MN-LR-1": 0.745 - 0.02 * few,
        "MN-LR-2": 0.745 - 0.02 * few + (0.02 if kind == "mortality" else 0),
        "untrained-LR-2": 0.70 - 0.05 * few,
        "MN-FT": 0.745 - 0.06 * few,
    }[model]


def test_results_as_in_the_papers_figure_support_its_claims():
    weights = {0: pd.DataFrame(np.tile(np.r_[np.ones(40), np.zeros(260)], (4, 1)))}
    ev = evaluation_of(as_in_figure_2, sd=0.0005, near_zero=lambda model, kind: 0.85 if kind == "mortality" else 0.975)
    found = verdicts(ev, weights)
    assert (found == "supported").sum() >= 22
    assert not (found == "not run").any()
    assert found["fewer labels"] in ("supported", "undecided")
    assert found["equal with all labels"] == "supported"
    assert found["LR better on small sets"] == "supported"


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
        "fine-tuning",
        "small data",
        "equal with all labels",
        "as effective",
        "consistently higher",
        "fewer labels",
        "mortality",
        "few features",
        "95 % near zero",
        "more gracefully",
    }
    assert expected <= set(found[found == "not supported"].index)
    assert found["LR better on small sets"] == "supported"
    assert found["130 of 300"] == "not run"
    assert found["both degrade"] == "supported"


def test_noise_leaves_claims_undecided():
    found = verdicts(evaluation_of(lambda model, kind, fraction: 0.7, sd=0.1))
    names = ["worst case", "better than statistics", "equal with all labels", "consistently higher"]
    assert (found[names] == "undecided").all()


def test_claims_without_their_systems_are_not_run_and_say_why():
    table = claims_table(toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9})).set_index("claim")
    assert table.loc["worst case", "verdict"] == "not run"
    assert table.loc["worst case", "reason"] == "RNN-C: not run"
    assert table.loc["mortality", "reason"] == "RNN-C: not run"
    assert table.loc["better than statistics", "reason"].endswith("no mortality task in this run")
    assert table["synthetic"].all()
    assert table.loc["130 of 300", "reason"] == "MN-LR-1: no weights at hand"
    assert table.loc["95 % near zero", "verdict"] == "not run"
    assert "not run" in count_verdicts(table)


def test_claims_without_their_fractions_are_not_run_and_say_why():
    ev = toy_evaluation({m: 0.4 for m in ("LR", "RNN-C", "MN-LR-2")}, fractions=(0.2, 0.5))
    table = claims_table(ev).set_index("claim")
    assert table.loc["small data", "reason"].startswith("MN-LR-1")
    assert table.loc["LR better on small sets", "reason"] == "a fraction of at most 10 % was not run"
    assert table.loc["equal with all labels", "reason"] == "100 % of the labels was not run"


def test_without_replicates_nothing_is_decided():
    ev = toy_evaluation({m: 0.4 for m in ("LR", "RNN-C", "MN-LR-2")}, replicates=0)
    row = claims_table(ev).set_index("claim").loc["equal with all labels"]
    assert row["verdict"] == "undecided"
    assert row["reason"] == "no interval"
    assert row["estimate"] == pytest.approx(ev.compare("MN-LR-2", "RNN-C").iloc[-1]["difference"])


def test_the_evidence_holds_every_part():
    ev = evaluation_of(linear)
    evidence = gather_evidence(ev)
    table = claims_table(ev).set_index("claim")
    for claim, n in evidence[evidence["part"].notna()].groupby("claim").size().items():
        assert table.loc[claim, "n_parts"] == n
    assert set(evidence["claim"]) == {claim.name for claim in CLAIMS}


def test_the_section_writes_the_columns_that_others_read():
    tables = {t.name: t for t in section(evaluation_of(linear), {})}
    assert list(tables) == ["claims", "claims_rules", "claims_parts"]
    columns = (
        "claim,section,quote,compared,rule,verdict,shown,part,tasks,estimate,low,high,n_parts,n_hold,reason,synthetic"
    )
    assert ",".join(tables["claims"].frame) == columns
    columns = "claim,relation,at,unit,part,estimate,low,high,low_all,high_all,holds,refuted,n_tasks,n_ahead,reason"
    assert ",".join(tables["claims_parts"].frame) == columns
