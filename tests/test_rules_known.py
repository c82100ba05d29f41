"What was known of the data when rules were fixed: the resource, the dated files, the run, and the first page."

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rnn_transfer.data import run_data
from rnn_transfer.evaluation.captions import run_info
from rnn_transfer.evaluation.claim_rules import RULES_FILE, describe_known
from rnn_transfer.evaluation.report import render_report
from rnn_transfer.evaluation.toy import toy_evaluation
from rnn_transfer.testing import toy_cohort
from rnn_transfer.utilities.files import load_csv_resource

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docs" / "rules"
CHALLENGE = "PhysioNet/CinC Challenge"


def test_the_resource_says_what_the_dated_files_say():
    known = load_csv_resource("rules_known.csv").set_index("rules")
    for name in known.index[known["judges"] == "claims"]:
        text = " ".join((RULES / name).read_text(encoding="utf-8").split())
        assert (
            f"{known.loc[name, 'known']} were known" in text and "on these two sets the verdicts are not blind" in text
        )
        assert known.loc[name, "parts"].split() == ["a", "b"]
    hospitals = (RULES / "hospitals-2026-11.md").read_text(encoding="utf-8")
    assert "These rules are not blind to the data" in hospitals and "A look at hospital B" in hospitals
    assert "A throw-away probe of sepsis" in hospitals and known.loc["hospitals_rules.csv", "judges"] == "sites"
    blind = [p.name for p in RULES.glob("*.md") if "not blind" in p.read_text(encoding="utf-8")]
    assert set(blind) == {*known.index[known["judges"] == "claims"], "hospitals-2026-11.md"}


@pytest.mark.parametrize(
    "changed,files",
    [
        ({}, ["claims-2026-11b.md"]),
        (dict(tested_parts=["c"]), []),  # nothing was known of set c
        (dict(tested_parts=["b", "c"]), ["claims-2026-11b.md"]),
        (dict(tested_parts=[]), ["claims-2026-11b.md"]),  # a cohort that does not state its sets
        (dict(rules=["claims-2026-11.md", "hospitals_rules.csv"]), ["claims-2026-11.md"]),
        (dict(rules=["claims-2027-01.md"]), []),  # rules that are not in the resource
        (dict(rules=[]), ["claims-2026-11b.md"]),  # an older manifest: the rules of the package judge
        (dict(same_tasks=True), []),  # no claim of the paper is judged
        (dict(source="MIMIC-III"), []),
        (dict(source=f"{CHALLENGE} 2019", tested_parts=["B"]), []),  # no roles of sites: only claims are judged
        (
            dict(source=f"{CHALLENGE} 2019", tested_parts=["B"], roles="A to B", same_tasks=True),
            ["hospitals_rules.csv"],
        ),
    ],
)
def test_rules_that_were_not_blind_are_named(changed, files):
    info = dict(source=f"{CHALLENGE} 2012", rules=[RULES_FILE, "hospitals_rules.csv"], tested_parts=["b"])
    found = describe_known(info | changed)
    assert [
        name for name in ("claims-2026-11b.md", "claims-2026-11.md", "hospitals_rules.csv") if name in found
    ] == files
    assert found.count("exploratory") == len(files)


def test_a_run_says_its_rules_and_the_sets_it_tested(tmp_path):
    prepared = run_data(toy_cohort(), tmp_path)
    rules = {RULES_FILE: "0" * 64}
    (tmp_path / "manifest.json").write_text(json.dumps(dict(rules=rules)), encoding="utf-8")
    sets = dict(a=["train", "val"], b=["test"])
    info = run_info(tmp_path, replace(prepared, meta=prepared.meta | dict(sets=sets)))
    assert info["rules"] == [RULES_FILE] and info["tested_parts"] == ["b"]


def test_the_first_page_says_so_before_any_verdict():
    enough = toy_evaluation({"LR": 0.4, "MN-LR-2": 0.9, "MN-LR-2@1": 0.9, "MN-LR-2@2": 0.9}, seeds=5)
    seen = dict(source=f"{CHALLENGE} 2012", rules=[RULES_FILE], tested_parts=["b"])
    page = render_report(replace(enough, info=enough.info | seen), {})
    assert page.index("Not blind. ") < page.index("(set a to set b) were known") < page.index("MN-LR-2 against LR")
    assert "Not blind" not in render_report(replace(enough, info=enough.info | seen | dict(tested_parts=["c"])), {})
    few = toy_evaluation()  # gives no verdict
    assert "Not blind" not in render_report(replace(few, info=few.info | seen), {})


def test_the_published_run_on_physionet_2012_is_not_blind():
    manifest = json.loads((ROOT / "docs/results/physionet2012/manifest.json").read_text(encoding="utf-8"))
    info = dict(source=manifest["cohort"]["source"], rules=list(manifest["rules"]), tested_parts=["b"])
    (name,) = pd.read_csv(ROOT / "docs/results/physionet2012/tables/claims.csv")["rules"].unique()
    assert describe_known(info).startswith(name)
