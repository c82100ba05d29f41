"Severity scores next to the models, and labels that are null: a run from end to end, and the real scores."

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rnn_transfer.data import Cohort, PreparedCohort, run_data
from rnn_transfer.evaluation.scoring import evaluate_run
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.learning.fits import FitRequest, LabelledRows, labelled_rows, visible_labels
from rnn_transfer.learning.score_baseline import FilledScore, calibrate_score, fill_score, fit_score, reason_no_score
from rnn_transfer.learning.systems import SCORE_SYSTEMS, SYSTEM_NAMES, SYSTEMS, parse_model
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.model import run_model
from rnn_transfer.pretrain import run_pretrain
from rnn_transfer.testing import toy_cohort
from rnn_transfer.transfer import run_transfer

QUICK = TrainSettings(lr=0.02, max_updates=4, eval_every=2, patience=2, device="cpu")


@pytest.fixture(scope="module")
def cohort():
    "A toy cohort with a score of which every ninth is missing, and two labels of five null in each phenotype."
    toy, r = toy_cohort(240), np.random.default_rng(3)
    stays = toy.stays.copy()
    sofa = 4 + 3 * stays["Mortality"] + r.poisson(3, len(stays))
    stays["SOFA"] = sofa.where(np.arange(len(stays)) % 9 > 0)
    for task in toy.tasks:
        if task.kind == "phenotype":
            stays[task.name] = stays[task.name].where(r.random(len(stays)) < 0.6)
    meta = toy.meta | dict(descriptors=[dict(name="SOFA", kind="score")])
    return Cohort(toy.events, stays, toy.channels, toy.tasks, meta).validate()


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    run_data(cohort, folder)
    run_model(folder, [3])
    run_pretrain(folder, n_held_out=2, hidden=[3], settings=QUICK)
    models = ["LR", "RNN-C", "MN-LR-2", "multi-task", "GBT", *SCORE_SYSTEMS]
    return folder, [run_transfer(folder, fraction=f, models=models, settings=QUICK) for f in (0.5, 1.0)]


def of_model(fits, model):
    return fits[fits["model"] == model].set_index("task")


def test_scores_stand_next_to_the_models_of_mortality_alone(run):
    _, all_fits = run
    for fits in all_fits:
        sofa, saps = of_model(fits, "SOFA"), of_model(fits, "SAPS-I")
        assert sofa["reason"].isna().tolist() == (sofa["task_kind"] == "mortality").tolist()
        assert (sofa["reason"].dropna() == "SOFA is compared on mortality only").all() and len(sofa) == 3
        assert saps.loc["Mortality", "reason"] == "the cohort has no score SAPS-I" and saps["reason"].notna().all()


@pytest.mark.parametrize("fraction", ["0.5", "1"])
def test_the_order_is_that_of_the_score(run, cohort, fraction):
    folder, _ = run
    made = pd.read_parquet(folder / "split-0" / f"fraction-{fraction}" / "seed-0" / "predictions.parquet")
    made = made[made["model"] == "SOFA"].set_index("stay_id")
    stays = cohort.stays.set_index("stay_id")
    median = stays.loc[stays["partition"] == "train", "SOFA"].median()
    score = stays["SOFA"].fillna(median).loc[made.index]
    assert set(made.index) == set(stays.index[stays["partition"] == "test"])
    assert roc_auc_score(made["y"], made["p"]) == roc_auc_score(made["y"], score)
    assert made.assign(score=score).groupby("score")["p"].nunique().eq(1).all()


def test_null_labels_take_no_part(run, cohort):
    "Neither in training, nor in the subsets, nor in the test, nor in who leaves pre-training."
    folder, (half, full) = run
    data = PreparedCohort.load(folder)
    known = data.stays.set_index("partition")
    for task, row in of_model(full, "LR").iterrows():
        assert row["n_train"] == known.loc["train", task].notna().sum()
        assert row["n_positive"] == known.loc["train", task].sum()
    assert (of_model(half, "LR")["n_train"] < of_model(full, "LR")["n_train"]).all()
    made = pd.read_parquet(folder / "split-0" / "fraction-1" / "seed-0" / "predictions.parquet")
    for (task, model), rows in made.groupby(["task", "model"]):
        test = cohort.stays[(cohort.stays["partition"] == "test") & cohort.stays[task].notna()].set_index("stay_id")
        assert set(rows["stay_id"]) == set(test.index) and np.isfinite(rows["p"]).all(), (task, model)
        assert (rows.set_index("stay_id")["y"] == test[task].loc[rows["stay_id"]]).all()
    flow = pd.read_csv(folder / "split-0" / "pretrain" / "flow.csv").set_index(["partition", "step"])["stays"]
    target = [task for task in of_model(full, "LR").index if task != "Mortality"]
    sick = cohort.stays[(cohort.stays[target] == 1).any(axis=1)]["subject_id"]
    remain = cohort.stays[(cohort.stays["partition"] == "train") & ~cohort.stays["subject_id"].isin(sick)]
    assert flow["train", "left"] == len(remain)
    assert remain[target].isna().any(axis=None)  # nobody leaves because a held-out label is not known


def test_calibration_equals_scikit_learn_where_there_is_enough():
    r = np.random.default_rng(0)
    z = r.normal(size=4000)
    y = (r.random(4000) < expit(-2 + 0.7 * z)).astype(float)
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], y)
    a, b = calibrate_score(z, y)
    np.testing.assert_allclose([a, b], [expected.intercept_[0], expected.coef_[0, 0]], atol=2e-3)
    assert abs(expit(a + b * z).mean() - y.mean()) < 1e-6


@pytest.mark.parametrize("y,slope", [([0.0, 0, 0, 0], 1.0), ([1.0, 1, 1, 1], 1.0), ([1.0, 1, 0, 0], 0.01), ([], 1.0)])
def test_few_labels_never_turn_a_score_round(y, slope):
    z = np.array([-2.0, -1, 1, 2])[: len(y)]
    a, b = calibrate_score(z, np.array(y))
    assert b == slope and np.isfinite(a)
    score = FilledScore(np.linspace(-3, 6, 40), np.zeros(40, bool))
    rows = LabelledRows(np.arange(len(y)), np.array([], int), np.arange(40))
    p = fit_score(score, FitRequest(np.r_[y, np.zeros(40 - len(y))], rows)).p.astype(np.float32)
    assert (np.diff(p) > 0).all()


def test_separable_labels_keep_the_order_in_the_files():
    z = np.linspace(-3, 6, 60)
    score = FilledScore(z, np.zeros(60, bool))
    y = (z > 1).astype(float)
    p = fit_score(score, FitRequest(y, LabelledRows(np.arange(60), np.array([], int), np.arange(60)))).p
    assert (np.diff(p.astype(np.float32)) > 0).all()


def test_an_evaluation_has_no_row_of_a_score_for_a_phenotype(run):
    folder, _ = run
    results = evaluate_run(folder, replicates=20).results
    kinds = results.groupby("model")["task_kind"].unique()
    assert set(kinds["SOFA"]) == set(kinds["SAPS-I"]) == {"mortality"}
    assert set(kinds["LR"]) == {"mortality", "phenotype"}


def test_a_score_that_nobody_has_is_no_number_of_anyone(cohort, tmp_path):
    stays = cohort.stays.assign(SOFA=np.nan)
    data = run_data(Cohort(cohort.events, stays, cohort.channels, cohort.tasks, cohort.meta), tmp_path, hours=12)
    filled = fill_score(data, "SOFA")
    assert (filled.z == 0).all() and filled.is_missing.all()
    assert reason_no_score(data, "SOFA", "mortality") is None


def test_where_the_names_are():
    assert SCORE_SYSTEMS == ["SAPS-I", "SOFA"] and not set(SCORE_SYSTEMS) & set(SYSTEM_NAMES)
    assert all(SYSTEMS[name].kind == "score" and SYSTEMS[name].group == "control" for name in SCORE_SYSTEMS)
    assert not any(parse_model(n).definition.is_trained or parse_model(n).depends_on_seed for n in SCORE_SYSTEMS)
    assert set(SCORE_SYSTEMS) <= set(PROFILES["repeated"]["models"])
    assert not set(SCORE_SYSTEMS) & {*PROFILES["quick"]["models"], *PROFILES["open"]["models"]}


# ---------------------------------------------------------------- real data


def test_real_scores_rank_the_deaths_of_set_b(shared, tmp_path):
    from rnn_transfer.sources import physionet2012

    made = physionet2012.cohort(shared / "data" / "physionet2012")
    task = next(task for task in made.tasks if task.kind == "mortality")
    few = made.events[made.events["hour"] < 1]  # the grid plays no part here
    data = run_data(Cohort(few, made.stays, made.channels, [task], made.meta), tmp_path, hours=1)
    y = data.stays[task.name].to_numpy(float)
    for name, known_alone in (("SAPS-I", 0.671), ("SOFA", 0.654)):
        filled, found = fill_score(data, name), []
        for fraction in (0.01, 1.0):
            rows = labelled_rows(data, task.name, fraction, 0)
            result = fit_score(filled, FitRequest(visible_labels(y, rows), rows))
            known = ~filled.is_missing[rows.test]
            assert round(roc_auc_score(y[rows.test][known], result.p[known]), 3) == known_alone
            found.append(roc_auc_score(y[rows.test], result.p))
            assert result.info["n_missing"] == (~known).sum() > 100
        assert found[0] == found[1]
        assert abs(result.p.mean() - y[rows.test].mean()) < 0.02
