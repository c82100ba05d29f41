"Verdicts across hospitals: what a claim needs, what stands next to it, when nothing counts, and what was published."

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rnn_transfer.data import run_data
from rnn_transfer.evaluation import hospitals
from rnn_transfer.evaluation.captions import run_info
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.experiment.each_site import summarise_sites
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.experiment.provenance import make_manifest
from rnn_transfer.testing import toy_cohort

RUNS = ["a-b", "b-a", "a-b-carried", "b-a-few"]
RULES = hospitals.read_hospital_rules().table
SKILLS = dict.fromkeys([*RULES["model"], *RULES["versus"]], 0.5)
SKILLS |= {"masks-LR": 0.8, "masks-LR:fine": 0.1, "clock-LR": 0.9, "clock-LR:fine": -0.4, "zero-shot": 1.5}


@pytest.fixture(scope="module")
def ev():
    "Invented results of every system of the rules, as of a run from hospital A to hospital B."
    kinds = dict(Shock="phenotype", Kidney="phenotype", Sepsis="other")
    found = toy_evaluation(SKILLS, (0.05, 0.2, 1.0), kinds=kinds, n=60, replicates=20)
    found.info |= dict(source="PhysioNet/CinC Challenge 2019", same_tasks=True, roles="Pre-training saw stays of A.")
    found.info["design"] = dict(given=False, sites=[["A"], ["B"]], hours=24, seed=0)
    found.info |= dict(profile="hospitals", changed=["pretrain_sites", "transfer_sites"], labels="measured")
    return found


def weighted_auroc(ev, model, kind, fraction):
    "Mean over tasks of the AUROC of the only draw, by positives."
    r = ev.results.query("model == @model and task_kind == @kind and fraction == @fraction")
    return np.average(r["auroc"], weights=r["n_test_positive"])


def found_interval(estimate, low, high, reason=""):
    "What stands for a difference with its interval."
    interval = SimpleNamespace(low=low, high=high)
    return SimpleNamespace(estimate=estimate, interval=interval, reason=reason, n_draws=5, n_networks=3)


# ---- a claim


@pytest.mark.parametrize(
    "says, verdict",
    [
        ("supports", "supported"),
        ("supports supports supports", "supported"),
        ("supports open", "undecided"),
        ("open", "undecided"),
        ("contradicts", "not supported"),
        ("open contradicts", "not supported"),
        ("supports supports contradicts", "not supported"),
        ("contradicts contradicts", "not supported"),
        ("not-run supports supports", "undecided"),
        ("not-run", "undecided"),
        ("not-run contradicts", "not supported"),
        ("supports too-few", "undecided"),
        ("too-few too-few", "undecided"),
    ],
)
def test_what_the_comparisons_of_a_claim_decide(says, verdict):
    assert hospitals._claim_verdict(pd.Series(says.split())) == verdict


UP, OPEN, DOWN = (0.03, 0.02, 0.04), (0.02, -0.01, 0.05), (0.0, -0.005, 0.005)


def test_each_claim_is_decided_by_its_own_comparisons(ev, monkeypatch):
    "One comparison of each claim is not in favour; another claim is not touched by it."
    found = {row: found_interval(*UP) for row in RULES[["model", "versus", "fraction"]].itertuples(index=False)}
    network = "MN-LR-2:fine"
    changed = {(network, "RNN-C", 0.05): OPEN, ("zero-shot", "LR:fine", 0.05): DOWN, (network, "RNN-C", 1.0): DOWN}
    found |= {pair: found_interval(*ends) for pair, ends in changed.items()}
    found[network, "clock-LR:fine", 0.2] = found_interval(*UP, "inconclusive: too few draws")
    monkeypatch.setattr(hospitals, "difference_interval", lambda ev, a, b, kind, fraction: found[a, b, fraction])
    d = hospitals.hospital_verdicts(ev, RULES)
    expected = {"few labels": "undecided", "no labels": "not supported", "all labels": "not supported"}
    expected |= {"new task": "undecided", "training": "supported", "network or stays": "supported"}
    expected |= {"beyond the classifier": "supported"}
    assert d.groupby("claim")["verdict"].agg(set).to_dict() == {claim: {word} for claim, word in expected.items()}
    says = d.set_index(["claim", "versus"])["says"]
    assert says["few labels"].to_dict() == {"LR:fine": "supports", "RNN-C": "open", "masks-LR:fine": "supports"}
    assert says["new task", "clock-LR:fine"] == "inconclusive: too few draws"
    assert hospitals._answer(d, "", total_of(0.5, 0.49, 0.51)).startswith("Whether transfer helps is undecided")


def test_next_to_a_claim_stand_what_was_measured_and_the_clock(ev):
    d = hospitals.hospital_verdicts(ev, RULES.drop_duplicates(["task_kind", "fraction"]))
    assert len(d) == 3 and set(d["task_kind"]) == {"phenotype", "other"}
    for row in d.itertuples():
        cell = row.task_kind, row.fraction
        assert row.masks == pytest.approx(weighted_auroc(ev, "masks-LR:fine", *cell))
        assert row.clock == pytest.approx(weighted_auroc(ev, "clock-LR:fine", *cell))
        assert abs(row.masks - row.clock) > 0.01
    shown = hospitals._verdict_table(d, "").shown
    assert shown["Measured only"].tolist() == [f"{v:.3f}"[1:] for v in d["masks"]]
    assert shown["Clock only"].tolist() == [f"{v:.3f}"[1:] for v in d["clock"]]


# ---- the shuffled control


def total_of(value, low, high):
    "The row of the shuffled control over all tasks and fractions."
    return pd.Series(dict(value=value, low=low, high=high))


@pytest.mark.parametrize(
    "total, words",
    [
        ((0.47, 0.46, 0.48), "shuffled labels give .470 [.460, .480], which leaves out .5"),
        ((0.53, 0.52, 0.54), "shuffled labels give .530 [.520, .540], which leaves out .5"),
        ((0.47, np.nan, np.nan), "the shuffled control has too few permutations for an interval"),
        ((0.5, 0.49, 0.51), ""),
        ((0.48, 0.46, 0.5), ""),
        ((0.52, 0.5, 0.54), ""),
    ],
)
def test_no_claim_counts_where_shuffled_labels_leave_out_a_half(ev, total, words):
    assert hospitals._why_nothing_counts(ev, total_of(*total)) == words


@pytest.mark.parametrize("total, counts", [((0.47, 0.46, 0.48), False), ((0.5, 0.49, 0.51), True)])
def test_the_section_says_that_nothing_counts(ev, monkeypatch, total, counts):
    monkeypatch.setattr(hospitals, "_shuffled_total", lambda _: total_of(*total))
    found = hospitals.section(ev)
    assert (set(found["hospitals_claims"].frame["verdict"]) != {"does not count"}) == counts
    assert ("No claim of this run counts: shuffled labels give .470" not in found.sentences) == counts


def test_no_claim_counts_where_the_shuffled_control_was_not_run(ev):
    assert hospitals._shuffled_total(ev) is None
    found = hospitals.section(ev)
    assert "No claim of this run counts: the shuffled control was not run." in found.sentences
    assert set(found["hospitals_claims"].frame["verdict"]) == {"does not count"}


# ---- runs that are not those of the rules


def without_settings(info, **changed):
    "The same information with other values of the run or of its design."
    of_design = {name: value for name, value in changed.items() if name in info["design"]}
    rest = {name: value for name, value in changed.items() if name not in of_design}
    return info | rest | dict(design=info["design"] | of_design)


def reason(ev, **changed):
    "Why a run with other settings has no verdict; empty where it has one."
    other = replace(ev, info=without_settings(ev.info, **changed))
    return hospitals._why_nothing_counts(other, total_of(0.5, 0.49, 0.51))


@pytest.mark.parametrize(
    "changed, words",
    [
        (dict(source="MIMIC-III"), "other data"),
        (dict(same_tasks=False), "the same tasks"),
        (dict(given=True), "this run trains"),
        (dict(sites=[["A"], ["A"]]), "one against the other"),
        (dict(hours=48), "a window of 24 hours"),
        (dict(profile="quick"), "the profile hospitals; here the profile is quick"),
        (dict(profile="not given", changed=None), "the profile hospitals; here the profile is not given"),
        (dict(changed=None), "does not say which of its options were changed"),
        (dict(seed=1), "the partition with seed 0"),
        (dict(labels="all"), "unknown where nothing was measured"),
    ],
)
def test_a_run_of_another_design_has_no_verdict(ev, changed, words):
    assert reason(ev) == "" and words in reason(ev, **changed)


def changed_options(**options):
    "What the manifest of a run with the profile says was changed."
    planned = PROFILES["hospitals"] | dict(pretrain_sites=["A"], transfer_sites=["B"]) | options
    return make_manifest(planned, "hospitals", {})["changed"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("masks", False),
        ("target_scale", "source"),
        ("seed", 1),
        ("pretrain.seed", 1),
        ("short", "length"),
        ("normaliser", "phenotyping"),
        ("hidden", [8]),
        ("lr", 0.1),
        ("transfer.patience", 2),
        ("lambdas", [1.0]),
        ("choose", "literal"),
        ("max_updates", 10),
    ],
)
def test_a_run_with_other_settings_of_the_profile_has_no_verdict(ev, name, value):
    found = reason(ev, changed=changed_options(**{name: value}))
    assert found == f"the rules were fixed for the profile hospitals, of which this run changes {name}"


def test_the_section_of_a_run_with_other_settings_is_exploratory(ev, monkeypatch):
    monkeypatch.setattr(hospitals, "_shuffled_total", lambda _: total_of(0.5, 0.49, 0.51))
    info = without_settings(ev.info, changed=changed_options(masks=False, target_scale="source"))
    found = hospitals.section(replace(ev, info=info))
    assert "of which this run changes masks, target_scale. What follows is exploratory." in found.sentences
    assert set(found["hospitals_claims"].frame["verdict"]) == {"does not count"}


def test_a_run_may_choose_its_systems_and_how_many_fits_there_are(ev):
    chosen = dict(models=["LR"], fractions=[0.05], seeds=[9], linear_seeds=[9], inits=4, variants=[], replicates=50)
    chosen |= {"device": "cpu", "fast_gru": False, "transfer.models": ["LR"]}
    assert reason(ev, changed=changed_options(**chosen)) == ""
    assert reason(ev, changed=changed_options()) == reason(ev, seed=None, labels="") == ""  # an older cohort


@pytest.mark.parametrize("run", RUNS)
def test_published_runs_are_of_the_design_of_the_rules(ev, root, run):
    said = json.loads((root / f"docs/results/physionet2019-{run}/manifest.json").read_text(encoding="utf-8"))
    sites = [said["sites"][role] for role in ("pretrain", "transfer")]
    info = dict(source=said["cohort"]["source"], profile=said["profile"], changed=said["changed"], sites=sites)
    info |= dict(hours=said["options"]["hours"], same_tasks=said["sites"]["same_tasks"] is True)
    info |= dict(given=bool(said["options"]["pretrained"]), seed=None)  # the manifest does not say that of partitions
    assert reason(ev, **info) == ""


def test_the_design_says_the_seed_of_the_partitions(tmp_path):
    cohort = toy_cohort(40)
    cohort.meta["seed"] = 3
    assert run_info(tmp_path, run_data(cohort, tmp_path))["design"]["seed"] == 3


# ---- the figure


def test_the_dashed_line_is_the_classifier_without_a_label(ev):
    axes = hospitals.figure_hospitals(ev, hospitals.curve_frame(ev)).axes
    for ax, kind in zip(axes, ev.kinds):
        dashed = [line for line in ax.lines if line.get_linestyle() == "--" and line.get_xdata()[0] == 0]
        (height,) = {y for line in dashed for y in line.get_ydata()}  # of axhline: from 0 to 1 of the axes
        assert height == pytest.approx(weighted_auroc(ev, "zero-shot", kind, 1.0)) and height > 0.6


# ---- many sites


def test_a_mean_over_sites_needs_every_site():
    rows = [
        ("east", "LR", 0.6),
        ("west", "LR", 0.8),
        ("east", "GBT", 0.7),
        ("west", "GBT", np.nan),
        ("east", "RNN-C", 0.9),
    ]
    table = pd.DataFrame(rows, columns=["site", "model", "value"]).assign(task_kind="phenotype", fraction=0.05)
    d = summarise_sites(table).set_index("model")
    assert d.loc["LR", ["mean", "lowest", "highest", "n_sites"]].tolist() == pytest.approx([0.7, 0.6, 0.8, 2])
    for model, value in (("GBT", 0.7), ("RNN-C", 0.9)):  # without a number at a site, and without a row
        assert np.isnan(d.loc[model, "mean"])
        assert d.loc[model, ["lowest", "highest", "n_sites"]].tolist() == pytest.approx([value, value, 1])


# ---- what was published


@pytest.fixture(scope="module", params=RUNS)
def tables(request, root):
    "The folder of tables of a published run."
    return root / "docs/results" / f"physionet2019-{request.param}" / "tables"


def what_it_says(row):
    "A comparison by rules 2 and 3 of docs/rules/hospitals-2026-11.md."
    if np.isnan(row.estimate):
        return "not run"
    assert not (row.n_draws < 5 or row.n_networks < 3)  # all that were published have enough
    if row.low > 0 and row.estimate >= 0.01:
        return "supports"
    return "contradicts" if row.high < 0.01 else "open"


def decide(says):
    "A claim by rule 4."
    if "contradicts" in list(says):
        return "not supported"
    return "supported" if set(says) == {"supports"} else "undecided"


def test_published_verdicts_follow_from_the_rules(tables, root):
    file = root / "rnn_transfer/resources/hospitals_rules.csv"
    rules, d = pd.read_csv(file, comment="#"), pd.read_csv(tables / "hospitals_claims.csv")
    pd.testing.assert_frame_equal(d[list(rules)], rules, check_dtype=False)
    assert set(d["rules"]) == {hashlib.sha256(file.read_bytes()).hexdigest()}
    says = pd.Series([what_it_says(row) for row in d.itertuples()])
    assert d["says"].tolist() == says.tolist()
    assert d["verdict"].tolist() == says.groupby(d["claim"]).transform(decide).tolist()
    total = pd.read_csv(tables / "shuffled.csv").query("task_kind == 'all'").iloc[-1]
    assert total["low"] <= 0.5 <= total["high"]  # rule 7: where it does not, no claim counts


def test_published_claims_stand_next_to_the_controls_of_the_systems_table(tables):
    d = pd.read_csv(tables / "hospitals_claims.csv").dropna(subset="estimate")
    systems = pd.read_csv(tables / "hospitals_systems.csv").set_index(["task_kind", "fraction", "model"])["value"]
    for row in d.itertuples():
        cell = row.task_kind, row.fraction
        assert row.masks == pytest.approx(systems[*cell, "masks-LR:fine"])
        assert row.clock == pytest.approx(systems[*cell, "clock-LR:fine"])
