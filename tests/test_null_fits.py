"Null models in the tables of systems, tasks, subgroups and claims, recomputed by hand; the number of samples by task."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from rnn_transfer.evaluation import claims, decision_curves, label_notes, learning_curves, per_task, sparsity, subgroups
from rnn_transfer.evaluation.claim_register import CLAIMS
from rnn_transfer.evaluation.claim_run import JudgedRun
from rnn_transfer.evaluation.null_fits import could_be_null_fit, count_nulls, is_null_fit
from rnn_transfer.evaluation.three_sources import Term, three_source_differences
from rnn_transfer.evaluation.toy import toy_evaluation

KINDS = dict(Shock="phenotype", Sepsis="phenotype", Death="mortality")
SOME = [c for c in CLAIMS if c.name in ("better than statistics", "equal with all labels", "both degrade")]
SKILLS = {"LR": 0.4, "RNN-C": 0.3, "MN-LR-2": 0.9, "MN-LR-2@1": 0.8, "MN-LR-2@2": 1.0}


def with_weights(ev, null):
    "The same fits, weights counted: ten features, of which six are near zero, or all where a fit is null."
    linear = (ev.results["model"] != "RNN-C").to_numpy()
    counted = dict(n_features=np.where(linear, 10.0, np.nan), n_near_zero=np.where(linear, 6.0, np.nan))
    counted["n_near_zero"][np.asarray(null) & linear] = 10
    values = {metric: v.copy() for metric, v in ev.values.items()}
    values["auroc"][np.asarray(null) & linear] = 0.5
    return replace(ev, results=ev.results.assign(auroc=values["auroc"][:, 0], **counted), values=values)


@pytest.fixture(scope="module")
def plain():
    return toy_evaluation(SKILLS, (0.1, 1.0), seeds=6, splits=2, kinds=KINDS, n=300, replicates=20)


@pytest.fixture(scope="module")
def ev(plain):
    "With few labels LR is null for every other seed, and MN-LR-2 for Sepsis at seed 0; with all labels no fit is."
    r = plain.results
    few = r["fraction"] < 1
    null = (r["model"] == "LR") & (r["seed"] % 2 == 0)
    return with_weights(plain, few & (null | ((r["model"] == "MN-LR-2") & (r["task"] == "Sepsis") & (r["seed"] == 0))))


@pytest.fixture(scope="module")
def fitted(plain):
    return with_weights(plain, np.zeros(len(plain.results), bool))


def weighted(r, positives):
    "Mean over the seeds of a task, tasks by their positives, then splits, with pandas."
    of_task = r.groupby(["split", "task"])["auroc"].mean().reset_index()
    of_task["n"] = of_task["task"].map(positives)
    of_split = of_task.groupby("split").apply(lambda d: np.average(d["auroc"], weights=d["n"]), include_groups=False)
    return of_split.mean()


@pytest.mark.parametrize("name", ["LR:ridge", "LR:ridge@1"])
def test_ridge_has_no_null_model(ev, name):
    "All of its weights may be near zero, and it still ranks."
    r = ev.results[ev.results["model"] == "LR"]
    assert is_null_fit(r).any() and count_nulls(r, is_null_fit(r))["n_linear"] == len(r)
    ridge = r.assign(model=name)
    assert not is_null_fit(ridge).any() and not could_be_null_fit(ridge).any()
    assert np.isnan(count_nulls(ridge, is_null_fit(ridge))["null_share"])
    counted = sparsity.null_model_table(replace(ev, results=pd.concat([ev.results, ridge], ignore_index=True)))
    assert "LR" in set(counted.frame["model"]) and not counted.frame["model"].str.contains("ridge").any()


def test_a_headline_has_what_remains_below_what_it_averages(ev):
    table = learning_curves._headline_table(ev, "phenotype")
    names = table.shown["Model"].tolist()
    second = "LR, given fitted models"
    assert names[:3] == ["LR", second, "RNN-C"] and "RNN-C, given fitted models" not in names
    r = ev.results.query("task_kind == 'phenotype' and model == 'LR' and fraction == .1 and seed % 2 == 1")
    want = weighted(r, {task: n[0] for task, n in ev.positives.items()})
    few, full = table.shown.set_index("Model").loc[second].tolist()
    assert few == f"{want:.3f} (12 of 24 null)"[1:] and full.endswith("(0 of 24 null)")
    cell = table.frame.query("model == 'LR' and fraction == .1").iloc[0]
    assert cell[["n_null", "n_linear", "null_share"]].tolist() == [12, 24, 0.5]
    assert cell["fitted"] == pytest.approx(want) and cell["value"] < cell["fitted"]
    assert "in brackets how many fits are null" in table.note


def test_a_run_without_null_models_says_so_once_and_grows_by_no_line(fitted, plain):
    for run in (fitted, plain):
        shown = learning_curves._headline_table(run, "phenotype").shown
        assert not shown["Model"].str.contains("given fitted").any()
        assert not per_task.section(run)["tasks"].shown["Task"].str.contains("given fitted").any()
    notes = [learning_curves._headline_table(fitted, "phenotype").note, per_task.section(fitted)["tasks"].note]
    assert all(note.count("No fit shown here is a null model.") == 1 for note in notes)
    table = claims.claims_table(fitted, claims=SOME)
    assert claims._nulls_note(table) == "No fit that a row shown here rests on is a null model. "
    assert not claims._shown_verdicts(table)["Compared"].str.contains("null models").any()
    assert "null model" not in learning_curves._headline_table(plain, "phenotype").note  # nobody counted weights


def test_tasks_have_the_columns_at_every_fraction_and_a_line_where_a_shown_fit_is_null(ev, plain):
    table = per_task.section(ev)["tasks"]
    assert not table.shown["Task"].str.contains("given fitted").any()  # all labels: no fit is null
    r = ev.results.query("task == 'Sepsis' and model == 'MN-LR-2' and fraction == .1 and split == 0")
    cell = table.frame.query("task == 'Sepsis' and model == 'MN-LR-2' and fraction == .1 and split == 0").iloc[0]
    assert cell[["n_null", "n_linear"]].tolist() == [1, 6]
    assert cell["fitted"] == pytest.approx(r.query("seed > 0")["auroc"].mean())
    assert cell["auroc"] == pytest.approx(r["auroc"].mean())
    r = plain.results
    full = with_weights(plain, (r["model"] == "LR") & (r["task"] == "Shock") & (r["split"] == 1) & (r["seed"] < 2))
    shown = per_task.section(full)["tasks"].shown
    assert (
        shown["Task"].tolist() == ["Sepsis", "Shock", "Sepsis", "Shock", "Shock, given fitted models"] + ["Death"] * 2
    )
    line = shown.iloc[4]
    kept = full.results.query("task == 'Shock' and split == 1 and model == 'LR' and fraction == 1 and seed >= 2")
    assert line["LR"] == f"{kept['auroc'].mean():.3f} (2 of 6 null)"[1:] and line["RNN-C"] == "–"
    assert line["MN-LR-2"].endswith("(0 of 6 null)") and line["Test positives"] == ""


def test_a_subgroup_has_the_auroc_of_its_fitted_models(ev):
    group = subgroups.Subgroup("sex", "female", np.arange(0, 300, 2))
    d = subgroups.subgroup_frame(ev, [group]).query("task_kind == 'mortality' and fraction == .1").set_index("model")
    rows = np.flatnonzero(
        (ev.results["task"] == "Death") & (ev.results["model"] == "LR") & (ev.results["fraction"] == 0.1)
    )
    kept = rows[ev.results["seed"].iloc[rows] % 2 == 1]
    y = ev.labels["Death"][group.rows]
    want = np.mean([roc_auc_score(y, p[group.rows]) for p in ev.predicted(kept)])
    assert d.loc["LR", "fitted"] == pytest.approx(want, abs=1e-6)
    assert d.loc["LR", ["n_null", "n_linear"]].tolist() == [6, 12]
    assert d.loc["RNN-C", "n_linear"] == 0 and np.isnan(d.loc["RNN-C", "null_share"])
    table = subgroups.subgroup_tables(ev, [group])[1]
    lines = table.shown.set_index("Group")
    assert list(lines.index) == ["sex female", "given fitted models", "sex female"]
    assert lines.loc["given fitted models", "LR"] == f"{want:.3f} (6 of 12 null)"[1:]
    assert lines.loc["given fitted models", "Test stays"] == "" and "null" in table.note


def test_net_benefit_has_its_draws_networks_and_null_models(ev):
    section = decision_curves.section(ev)
    assert "Null models: linear fits without a weight" in section.sentences and "J: draws" in section.sentences
    table = section["decisions_phenotype"]
    few = table.shown[table.shown["Labels (positives)"].str.endswith(" 10 %")].set_index("System")
    assert few[["J", "K", "Null models"]].loc["LR"].tolist() == ["6", "–", "12 of 24"]
    assert few[["J", "K", "Null models"]].loc["MN-LR-2"].tolist() == ["6", "1", "2 of 24"]
    assert few[["J", "K", "Null models"]].loc["RNN-C"].tolist() == ["6", "–", "–"]
    assert few[["J", "K", "Null models"]].loc["treat all"].tolist() == ["–", "–", "–"]
    tidy = table.frame.query("fraction == .1 and threshold == .1").set_index("model")
    assert tidy.loc["LR", ["n_draws", "n_null", "n_linear", "null_share"]].tolist() == [6, 12, 24, 0.5]
    assert tidy.loc["treat all", ["n_draws", "n_networks", "null_share"]].isna().all()
    full = table.frame.query("fraction == 1").set_index("model")
    assert full.loc["LR", "n_draws"].isna().all() and (full.loc["RNN-C", "n_draws"] == 6).all()


def test_a_verdict_names_the_null_models_of_both_sides(ev):
    run = JudgedRun(ev)
    terms = [Term(1, "MN-LR-2", 0.1), Term(-1, "LR", 0.1), Term(-1, "MN-LR-2", 1.0), Term(1, "LR", 1.0)]
    found = run.null_sides("phenotype", terms)
    # MN-LR-2: 2 splits x 2 tasks x (6 draws + 1 with all labels) x 3 networks; LR without networks
    assert found["null_models"] == "MN-LR-2: 2 of 84; LR: 12 of 28" and found["null_share"] == 12 / 28
    assert run.null_sides("phenotype", [Term(1, "RNN-C", 0.1)])["null_models"] == ""
    table = claims.claims_table(ev, claims=SOME)
    shown = claims._shown_verdicts(table).assign(name=table["claim"]).set_index("name")["Compared"]
    row = table.set_index("claim").loc["better than statistics"]
    words = f"; null models: MN-LR-2: 2 of 84; LR: 12 of 28; given fitted models {row['fitted']:+.3f}"
    assert shown["better than statistics"].endswith(words.replace("0.", "."))
    assert "null models" not in shown["equal with all labels"]  # with all labels no fit is null
    part = claims.gather_evidence(run, SOME).query("claim == 'both degrade'").set_index("part")
    words = part.loc[[name for name in part.index if "MN-LR-2" in name], "null_models"].item()
    assert words == "MN-LR-2 at 100 %: 0 of 12; MN-LR-2 at 10 %: 2 of 72"
    assert "kept no weight" in claims._nulls_note(table)


def test_a_part_has_its_estimate_given_fitted_models(ev):
    "As the table of differences has it, fraction by fraction; on the logit scale and for the ratio too."
    run = JudgedRun(ev)
    d = three_source_differences(ev, [("MN-LR-2", "LR")], "phenotype").set_index("fraction")
    parts = claims.gather_evidence(run, CLAIMS).set_index(["claim", "part"])
    lead = parts.loc["better than statistics"].iloc[0]
    assert "10 %, 100 %" in parts.loc["better than statistics"].index[0]
    assert lead["fitted"] == pytest.approx(d["fitted"].mean()) and d["n_null"].sum() > 0
    assert abs(lead["fitted"] - lead["estimate"]) > 1e-3
    same = parts[(parts["null_share"] == 0) & (parts["unit"] == "AUROC")]
    assert len(same) and same["fitted"].to_numpy() == pytest.approx(same["estimate"].to_numpy(float))
    assert parts.loc[parts["null_share"].isna(), "fitted"].isna().all()
    growth = parts.loc["robust"].iloc[0]
    of = run.fitted_levels("phenotype", [Term(s, m, f) for f in (0.1, 1.0) for s, m in ((1, "MN-LR-2"), (-1, "RNN-C"))])
    by_hand = sum((1 if t.fraction < 1 else -1) * t.factor * np.log(v / (1 - v)) for t, v in of.items())
    assert growth["fitted"] == pytest.approx(by_hand) and growth["fitted"] != pytest.approx(growth["estimate"])


def test_a_sum_over_unlike_tasks_counts_the_fits_that_it_uses(ev):
    "A task without a fit of one side takes no part, and neither do its null models."
    r = ev.results
    gone = (r["task"] == "Sepsis") & (r["model"] == "RNN-C")
    less = replace(ev, results=r.assign(auroc=r["auroc"].mask(gone)))
    terms = [Term(1, "MN-LR-2", 0.1), Term(-1, "RNN-C", 0.1)]
    assert JudgedRun(ev).null_sides("phenotype", terms)["null_models"] == "MN-LR-2: 2 of 72"
    assert JudgedRun(less).null_sides("phenotype", terms)["null_models"] == "MN-LR-2: 0 of 36"


def test_tasks_and_labels_have_the_same_number_of_samples_alone(ev):
    fact = dict(labels="measured", stays="test", n=120, positive=36)
    facts = [
        fact | dict(task="Shock", auroc=0.61, auroc_low=0.5, auroc_high=0.72),
        fact | dict(task="Sepsis", auroc=0.284, auroc_low=0.25, auroc_high=0.32),
        fact | dict(task="Death", auroc=None, auroc_low=None, auroc_high=None),
    ]
    stated = replace(ev, info=ev.info | dict(labels="measured", label_facts=facts))
    of_labels = label_notes.section(stated)["labels"].shown.set_index("Task")["AUROC of the number of samples"]
    table = per_task.section(stated)["tasks"]
    for task, shown in zip(table.shown["Task"], table.shown["Samples alone"]):
        assert shown == of_labels[task]
    assert of_labels["Shock"] == ".610 [.500, .720]" and of_labels["Death"] == "–"
    assert table.frame.groupby("task")["samples_auroc"].first()["Sepsis"] == 0.284
    assert "fewer samples speak for the label" in table.note
    unknown = per_task.section(ev)["tasks"]
    assert "Samples alone" not in unknown.shown and "does not state it" in unknown.note
    assert pd.isna(unknown.frame["samples_auroc"]).all()
