"Checklists: the numbers of their items, what is filled and what is left, and facts compared with their data."

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_transfer.data import run_data
from rnn_transfer.evaluation.checklist_facts import (
    cohort_facts,
    collect_facts,
    grid_facts,
    missingness,
    result_facts,
    setting_facts,
)
from rnn_transfer.evaluation.checklists import (
    CHECKLISTS,
    STATES,
    checklist,
    fill_items,
    fill_reforms,
    fill_tripod,
    required_facts,
    summarise_items,
)
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.files import load_resource

LETTERS = "abcdefg"
N_PARTS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}  # of the TRIPOD+AI items that have parts
TRIPOD = [f"{item}{part}" for item in range(1, 28) for part in LETTERS[: N_PARTS.get(item, 0)] or [""]]
MODULES = [3, 5, 7, 3, 6, 3, 3, 2]  # items of each module of REFORMS
REFORMS = [f"{module}{part}" for module, n in enumerate(MODULES, 1) for part in LETTERS[:n]]

OPTIONS = dict(hidden=[32, 64], lr=1e-3, lambdas=[0.1, 1, 1e4], choose="nll", max_updates=1500, patience=3, batch=128)
MANIFEST = dict(
    profile="quick",
    options=OPTIONS,
    commit="0123456789abcdef",
    versions=dict(rnn_transfer="0.1.0", python="3.11"),
    hardware=dict(system="Linux", machine="x86_64", cpus=2, memory_gb=24),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    "The toy cohort's data, with what a real source states."
    prepared = run_data(toy_cohort(), tmp_path_factory.mktemp("run"))
    prepared.meta |= dict(
        citation="Somebody 2020",
        url="https://example.org",
        cleaning=[{"parameter": "pH", "missing code": 2, "outside range": 3}],
    )
    return prepared


@pytest.fixture(scope="module")
def ev(prepared):
    tasks = [t.name for t in prepared.tasks]
    ev = toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9}, kinds={tasks[0]: "phenotype", tasks[-1]: "mortality"})
    steps = [("stays", 300, 250), ("with a reading", 240, 200)]
    ev.info |= dict(flow=[dict(step=step, stays=n, subjects=k) for step, n, k in steps])
    return ev


# ---------------------------------------------------------------- the items


@pytest.mark.parametrize("name,numbers", [("tripod", TRIPOD), ("reforms", REFORMS)])
def test_items_are_those_of_the_published_list(name, numbers):
    items = checklist(name)
    assert items["item"].tolist() == numbers
    assert items[["section", "topic", "asked"]].map(bool).all().all()
    assert (items["answer"].notna() | items["left"].notna()).all(), "an item that nobody answers"


@pytest.mark.parametrize("file", CHECKLISTS.values())
def test_each_list_names_its_source_and_what_was_checked(file):
    resource = load_resource(file)
    assert {"name", "source", "doi", "wording", "checked"} <= set(resource)
    assert resource["doi"].startswith("10.")


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_fact_that_an_answer_needs_is_known_to_a_full_run(name, ev, prepared):
    facts = collect_facts(ev, MANIFEST, prepared)
    needed = {fact for answer in checklist(name)["answer"] for fact in required_facts(answer)}
    assert needed <= set(facts)
    assert not [fact for fact in needed if not facts[fact]]
    assert all(isinstance(text, str) for text in facts.values())


# ---------------------------------------------------------------- filling

ANSWERS = [("{x} and {y}", None), ("{x}", "more"), (None, "all"), ("given", None), ("given", "more")]
ITEMS = pd.DataFrame(
    [
        dict(item=str(k), section="s", topic="t", asked="a", answer=answer, left=left)
        for k, (answer, left) in enumerate(ANSWERS)
    ]
)


@given(st.fixed_dictionaries({}, optional=dict(x=st.sampled_from(["1", "", None]), y=st.sampled_from(["2", "", None]))))
def test_a_sentence_is_never_half_filled(facts):
    found = fill_items(ITEMS, facts)
    x, y = (bool(facts.get(k)) for k in "xy")
    author = "for the author"
    states = ["filled" if x and y else author, "in part" if x else author, author, "filled", "in part"]
    assert found["state"].tolist() == states
    assert not found["answer"].str.contains("[{}]|None", regex=True).any()
    assert ((found["answer"] == "") == (found["state"] == author)).all()
    assert ((found["left"] == "") == (found["state"] == "filled")).all()


@pytest.mark.parametrize("name,fill", [("TRIPOD+AI", fill_tripod), ("REFORMS", fill_reforms)])
def test_counts_add_up(name, fill, ev, prepared):
    found = fill(ev, MANIFEST, prepared)
    summary = summarise_items(found, name)
    filled, total, in_part, for_author = (int(x) for x in re.findall(r"\b\d+\b", summary))
    assert summary.startswith(name)
    assert total == len(found) == filled + in_part + for_author
    assert filled >= len(found) // 4, "software should fill what it can"


def test_less_known_is_never_more_filled(ev, prepared):
    full, bare = fill_tripod(ev, MANIFEST, prepared), fill_tripod(ev)
    rank = {state: k for k, state in enumerate(STATES)}
    full_rank, bare_rank = full["state"].map(rank), bare["state"].map(rank)
    assert (full_rank <= bare_rank).all()
    assert (bare_rank > full_rank).any()
    without_manifest = fill_reforms(ev, {}, prepared).set_index("item")
    assert "the run does not say: hardware" in without_manifest.loc["2c", "left"]


def test_facts_of_ones_own_come_first(ev, prepared):
    found = fill_reforms(ev, MANIFEST, prepared, dict(cleaning="By hand.")).set_index("item")
    assert found.loc["4b", "answer"] == "By hand."


# ---------------------------------------------------------------- facts


def test_facts_of_the_cohort_are_counts_of_its_tables(ev, prepared):
    facts, stays = cohort_facts(ev, prepared), prepared.stays
    is_test = stays["partition"] == "test"
    test = stays[is_test]
    task = prepared.tasks[0].name
    assert facts["test"] == f"{len(test)} stays of {test['subject_id'].nunique()} subjects"
    assert facts["test"] in facts["partitions"]
    assert f"{task} {int(stays.loc[~is_test, task].sum())} of" in facts["prevalence"]
    assert f"{int(test[task].sum())} of {len(test)}" in facts["prevalence"]
    assert facts["flow"] == "stays 300 (250 subjects); with a reading 240 (200 subjects)"
    assert "5 values" in facts["cleaning"]
    assert facts["hours"] == "48"
    assert facts["source"].startswith("Synthetic data")
    assert "Somebody 2020" in facts["dataset"]
    assert "https://example.org" in facts["dataset"]


def test_stays_without_a_measurement_are_counted(prepared):
    cohort = toy_cohort()
    in_time = cohort.events[cohort.events["hour"] < 48]
    measured = in_time.groupby("channel", observed=True)["stay_id"].nunique()
    n = len(cohort.stays)
    for channel, percent in re.findall(r"([A-Z][\w ]+?) ([\d.]+) %", missingness(prepared).split(": ")[1]):
        assert float(percent) == pytest.approx(100 * (1 - measured[channel] / n), abs=0.06)


def test_inputs_are_described_as_they_were_made():
    facts = grid_facts(dict(hours=24, masks=False, short="length", normaliser="phenotyping"))
    for words in ("24 hours", "true length", "mimic3-benchmarks"):
        assert words in facts["preparation"]
    assert "measured" not in facts["missing"]


def test_whose_train_stays_scale_the_inputs_is_named(tmp_path):
    cohort = toy_cohort()
    cohort.stays["site"] = np.array(["A", "B", "C"])[cohort.stays["subject_id"] % 3]
    sites = dict(pretrain_sites=["A", "C"], transfer_sites=["B"])
    own = "scaled by means and standard deviations of the train stays of B for stays of B and "
    own += "means and standard deviations of the train stays of A and C for all others. "
    both = "scaled by means and standard deviations of the train stays of A and C. "
    for target_scale, expected in (("target", own), ("source", both)):
        facts = grid_facts(run_data(cohort, tmp_path / target_scale, **sites, target_scale=target_scale).meta)
        assert expected in facts["preparation"]
        assert "standardised with means and standard deviations of the train stays of B." in facts["preparation"]
        assert "missing statistics take the mean of the train stays of B in" in facts["missing"]
    given = grid_facts(dict(transfer_sites=["B"], alignment=[]))["preparation"]
    assert "scaled by the means and standard deviations that the given network was trained with. " in given
    given = grid_facts(dict(alignment=[], transfer_scale={}))["preparation"]
    assert "scaled by means and standard deviations of the train stays. " in given
    assert " of the train stays. " in grid_facts({})["preparation"]


def test_settings_are_those_of_the_manifest():
    facts = setting_facts(MANIFEST)
    assert facts["software"] == "rnn_transfer 0.1.0, commit 0123456789ab"
    assert facts["hardware"] == "Linux, x86_64, 2 cores, 24 GB of memory"
    for words in ("32, 64", "0.1, 1, 10000", "1,500 updates", "negative log-likelihood"):
        assert words in facts["tuning"]
    assert "--profile quick" in facts["command"]
    assert not any(setting_facts({}).values())
    assert not any(setting_facts(dict(profile=None)).values())


@pytest.mark.parametrize(
    "options,expected",
    [
        (
            {"patience": 6, "transfer.patience": 15},
            "early stopping with patience 6 in pre-training and early stopping with patience 15 on target tasks",
        ),
        (
            {"eval_every": 50, "transfer.eval_every": 10},
            "every 50 updates (or every epoch, if longer) in pre-training and "
            "a validation check every 10 updates (or every epoch, if longer) on target tasks",
        ),
        (
            {"max_updates": 3000, "transfer.max_updates": 1500},
            "at most 3,000 updates in pre-training and at most 1,500 updates on target tasks",
        ),
        (
            {"max_updates": 3000, "pretrain.max_updates": 9000},
            "at most 9,000 updates in pre-training and at most 3,000 updates on target tasks",
        ),
        ({"max_updates": 3000, "pretrain.max_updates": 3000}, "at most 3,000 updates."),
        (
            {"max_updates": 3000, "autoencoder_updates": 500},
            "at most 3,000 updates, at most 500 updates for the autoencoder",
        ),
        ({"pretrain.autoencoder_updates": 700}, "at most 700 updates for the autoencoder"),
        ({"pretrain.lr": 0.01}, "Adam with learning rate 0.01 in pre-training."),
    ],
)
def test_options_of_one_step_are_named_next_to_those_of_the_other(options, expected):
    tuning = setting_facts(dict(options=options))["tuning"]
    assert expected in tuning
    assert tuning.startswith("Tuning: ")
    assert tuning.endswith(".")


@pytest.mark.parametrize("name", ["models", "transfer.models"])
def test_every_criterion_for_lambda_that_a_run_has_is_named(name):
    models = ["LR", "LR:fine", "MN-LR-2:fine@1", "LR:ridge"]
    tuning = setting_facts(dict(options=OPTIONS | {name: models}))["tuning"]
    assert "lambda from 0.1, 1, 10000 by the negative log-likelihood of labelled validation stays" in tuning
    assert ":fine (lambda from a fine grid by repeated cross-validation over the labelled stays of train and" in tuning
    assert ":ridge (a ridge penalty in place of L1" in tuning and ":cv" not in tuning
    assert "below 1,000 labelled stays verdicts rest on :fine" in tuning
    learned = setting_facts(dict(options=OPTIONS | {name: models, "same_tasks": True}))["tuning"]
    assert ":fine (" in learned and "verdicts" not in learned
    assert ":fine" not in setting_facts(MANIFEST)["tuning"]


@pytest.mark.parametrize(
    "fill,item", [(fill_reforms, "5c"), (fill_reforms, "7b"), (fill_tripod, "12e"), (fill_tripod, "23a")]
)
def test_answers_say_over_which_sources_intervals_are(fill, item, ev, prepared):
    answer = fill(ev, MANIFEST, prepared).set_index("item").loc[item, "answer"]
    if item == "23a":
        assert "first network, intervals over patients alone" in answer
    else:
        assert "Over test subjects, draws of the labels and networks" in answer
        assert "from 5 draws and 3 networks on" in answer


def test_an_option_that_both_steps_share_is_named_once():
    tuning = setting_facts(MANIFEST)["tuning"]
    assert tuning.count("patience") == 1
    for words in ("in pre-training", "autoencoder", "every"):
        assert words not in tuning


CARD = dict(versions=dict(torch="2.13.0+cu130"), hardware=dict(cpus=16, gpu="NVIDIA H200"), steps=3)


def test_a_combined_run_names_the_machines_commits_and_commands_of_its_parts():
    second = dict(commit="f" * 40 + "-dirty", versions=MANIFEST["versions"], profile="open", machines=[CARD, CARD])
    parts = [dict(MANIFEST), dict(hardware=dict(cpus=3)) | second, dict(MANIFEST)]
    facts = setting_facts(MANIFEST | dict(combined=parts, hardware=dict(cpus=99), profile="paper"))
    assert facts["hardware"] == "Linux, x86_64, 2 cores, 24 GB of memory; 3 cores; 16 cores, NVIDIA H200"
    assert facts["versions"].endswith("; torch 2.13.0+cu130")
    dirty = "rnn_transfer 0.1.0, commit ffffffffffff-dirty"
    assert facts["software"] == f"rnn_transfer 0.1.0, commit 0123456789ab; {dirty}"
    assert re.findall("--profile (\\w+)", facts["command"]) == ["quick", "open"]
    assert facts["command"].endswith("; rnn_transfer_combine RUN OTHER --out OUT")


def test_a_run_that_kept_steps_of_another_machine_names_both():
    facts = setting_facts(MANIFEST | dict(machines=[CARD]))
    assert facts["hardware"] == "Linux, x86_64, 2 cores, 24 GB of memory; 16 cores, NVIDIA H200"
    unknown = setting_facts(MANIFEST | dict(machines=[dict(steps=3, versions=None, hardware=None)]))
    assert unknown == setting_facts(MANIFEST)


def test_what_the_authors_saw_of_the_test_set_is_theirs_to_say(ev, prepared):
    row = fill_reforms(ev, MANIFEST, prepared).set_index("item").loc["5d"]
    assert row["state"] == "in part"
    assert "before the test set was seen" in row["left"]
    assert "after seeing" not in row["answer"]


def test_numbers_are_those_of_the_results(ev):
    facts = result_facts(ev)
    auroc = ev.averages().query("model == 'LR' and task_kind == 'mortality' and fraction == 1")["value"].item()
    assert f"mortality, LR .{round(1000 * auroc):03d}" in facts["performance"]
    assert "200 bootstrap replicates" in facts["intervals"]
    assert facts["models"] == "LR and MN-LR-2"
    assert facts["failures"].startswith("0 of 8 fits")
    assert "10 % and 100 % of the labels" in facts["fractions"]
    assert "(1 subset of each size)" in facts["fractions"]


def test_without_replicates_no_interval_is_claimed(prepared):
    ev = toy_evaluation({"LR": 0.4}, kinds={prepared.tasks[0].name: "phenotype"}, replicates=0)
    assert result_facts(ev)["intervals"] == ""
    assert fill_reforms(ev, MANIFEST, prepared).set_index("item").loc["7b", "state"] == "for the author"
