"The network that ships: its card is that of its files, and can be uploaded to Hugging Face as it is."

import hashlib
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_house import ROOT

from rnn_transfer import shipped_network
from rnn_transfer.estimators.model_card import describe_network, write_card
from rnn_transfer.estimators.pretraining import pretrain_network
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.model import read_checkpoint
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.checkpoint_form import hash_description

NETWORK = shipped_network()
CARD = NETWORK.with_suffix(".md")


def front_matter(card: str) -> dict:
    "The YAML block of a card."
    before, block, _ = card.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(block)


def rows_of(card: str, heading: str) -> list[list[str]]:
    "The cells of a section's table, without its head."
    section = card.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]


def check_hashes(card: Path, weights: Path) -> None:
    "Version and hashes of a card are those of the files."
    block = front_matter(card.read_text("utf-8"))
    stored = json.loads(weights.with_suffix(".json").read_text("utf-8"))
    assert block["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert block["description_sha256"] == hash_description(stored)
    assert block["rnn_transfer_version"] == stored["versions"]["rnn_transfer"]


def test_the_card_names_licence_version_and_the_hashes_of_the_files():
    check_hashes(CARD, NETWORK)
    block = front_matter(CARD.read_text("utf-8"))
    assert (block["license"], block["library_name"]) == ("other", "rnn_transfer")
    assert "PhysioNet 2012: ODC-BY 1.0; PhysioNet 2019: " in block["license_name"]
    assert NETWORK.stat().st_size < 5e6


def test_the_card_is_what_the_checkpoint_and_its_limits_say():
    card = CARD.read_text("utf-8")
    title = card.split("\n# ")[1].split("\n")[0]
    limits = (ROOT / "docs" / "networks" / "physionet.md").read_text("utf-8")
    assert describe_network(NETWORK, title, limits) == card


def test_the_card_counts_the_labels_of_every_task():
    stored = read_checkpoint(NETWORK).description
    rows = {row[0]: row[1:] for row in rows_of(CARD.read_text("utf-8"), "Tasks")}
    assert list(rows) == stored["tasks"] and len(rows) == 30
    for name, row in rows.items():
        n, positive, n_val, positive_val, auroc = map(float, row)
        assert 0 < positive < n <= stored["counts"]["train"] and 0 < positive_val < n_val <= stored["counts"]["val"]
        assert auroc == round(stored["validation"]["auroc"][name], 3)


def test_a_laboratory_value_that_was_not_measured_is_no_label():
    counts = read_checkpoint(NETWORK).description["counts"]
    known = {name: of["n"] / counts["train"] for name, of in counts["labels"].items()}
    assert known["Marked myocardial injury"] < 0.1 and known["Renal dysfunction"] > 0.95


@pytest.mark.parametrize(
    ("both_2012", "both_a", "chosen"),
    [
        ((0.758, 0.752), (0.752, 0.749), "both"),  # as measured
        ((0.752, 0.752), (0.752, 0.755), "both"),  # within 0.002: the first in the order of the rule
        ((0.747, 0.747), (0.900, 0.900), "2012 dropout"),  # more than 0.005 below 2012 alone
        ((0.749, 0.749), (0.600, 0.752), "both dropout"),
    ],
)
def test_the_rule_of_the_choice(both_2012, both_a, chosen):
    spec = importlib.util.spec_from_file_location("shipped_choice", ROOT / "benchmarks" / "shipped_choice.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = ["2012", "both", "2012 dropout", "both dropout"]  # the order of the rule
    halves = {"2012": [0.749, both_2012[0], 0.753, both_2012[1]], "A": [0.668, both_a[0], 0.670, both_a[1]]}
    table = pd.DataFrame(halves | {"both": [False, True, False, True]}, names)
    table["score"] = (table["2012"] + table["A"]) / 2
    assert module.choose(table) == chosen
    assert module.choose(table[table["both"]]) in names[1::2]


def test_hospital_b_is_not_among_its_stays():
    "It is what the network is measured on."
    stored = read_checkpoint(NETWORK).description
    assert stored["pretrain_sites"] == ["PhysioNet 2012", "A"] and stored["hours"] == 48
    assert "| sites | PhysioNet 2012, A |" in CARD.read_text("utf-8")


@pytest.fixture(scope="module")
def made():
    toy = toy_cohort(120)
    return pretrain_network(toy, hidden=(4,), settings=TrainSettings(lr=1e-3, max_updates=2, eval_every=1))


@pytest.mark.parametrize(
    ("licence", "block"),
    [
        ("ODC-BY 1.0", dict(license="odc-by")),
        ("CC BY 4.0", dict(license="cc-by-4.0")),
        ("Apache-2.0", dict(license="apache-2.0")),
        ("ours: ask us", dict(license="other", license_name="ours: ask us")),
    ],
)
def test_a_licence_has_an_identifier_where_there_is_one(made, tmp_path, licence, block):
    path = made.save(tmp_path / "net.safetensors", licence=licence)
    card = write_card(path, tmp_path / "README.md")
    check_hashes(card, path)
    found = front_matter(card.read_text("utf-8"))
    assert {key: value for key, value in found.items() if key.startswith("license")} == block


def test_no_licence_is_unknown(made, tmp_path):
    made.net.meta["cohort"] = dict(made.net.meta["cohort"], licence="")
    card = describe_network(made.save(tmp_path / "net.safetensors"))
    assert front_matter(card)["license"] == "unknown"


def test_validation_labels_are_counted(made):
    toy, found = toy_cohort(120), made.net.meta["validation"]["labels"]
    val = toy.stays[toy.stays["partition"] == "val"]
    expected = {t.name: dict(n=int(val[t.name].notna().sum()), positive=int(val[t.name].sum())) for t in toy.tasks}
    assert found == expected
