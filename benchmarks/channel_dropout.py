"""What channel dropout in pre-training brings where a hospital lacks channels: the table of nbs/estimators/pretraining.

    rnn_transfer_cohort physionet2012 --path FOLDER --out COHORT
    python benchmarks/channel_dropout.py COHORT

Networks of 32 units, three with and three without channel dropout, learn from the train stays in at most 600 updates,
fewer than a network for use would take. Five phenotypes, drawn by a seed among those with 40 positives or more in the
validation stays, are held out of their tasks. Then 0, 25 and 50 % of the channels are taken from all validation stays,
as at a hospital that never measures them, in five draws that all networks share. Ridge on the features of these stays
predicts the held-out labels, in five folds of the validation stays: mean AUROC over folds, tasks and draws. Test stays
are never read. The validation stays also stop the training, by their other labels, with and without dropout alike. The
interval of a difference is Student's over the three pairs of networks with the same seed: it is about other networks,
on these stays. Three minutes on one core.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.model_selection import StratifiedKFold, cross_val_score

from rnn_transfer.data import Cohort, Grid
from rnn_transfer.estimators.extraction import align_to_network
from rnn_transfer.estimators.features import MIMICNetFeatures
from rnn_transfer.estimators.linear import FewLabelClassifier
from rnn_transfer.estimators.pretraining import pretrain_network
from rnn_transfer.learning.training import TrainSettings
from rnn_transfer.utilities.seeds import seeded_rng

RATES, SEEDS, HIDDEN = (0.0, 0.2), range(3), 32
SHARES, DRAWS, N_HELD_OUT, MIN_POSITIVE = (0.0, 0.25, 0.5), 5, 5, 40
SETTINGS = TrainSettings(lr=1e-3, max_updates=600)


def without(cohort: Cohort, names: list[str]) -> Cohort:
    "The cohort of a hospital that never measures these channels."
    events = cohort.events[~cohort.events["channel"].isin(names)].reset_index(drop=True)
    kept = [channel for channel in cohort.channels if channel.name not in names]
    events["channel"] = events["channel"].cat.remove_unused_categories()
    return Cohort(events, cohort.stays, kept, cohort.tasks, cohort.meta)


def held_out_tasks(cohort: Cohort) -> list[str]:
    "Five phenotypes by the rule above."
    positive = {task.name: cohort.stays[task.name].sum() for task in cohort.tasks if task.kind == "phenotype"}
    usual = [name for name, n in positive.items() if n >= MIN_POSITIVE]
    return sorted(seeded_rng("channel dropout", "tasks").choice(usual, N_HELD_OUT, replace=False).tolist())


def lacking_grids(val: Cohort, meta: dict) -> dict[tuple, Grid]:
    "{(share, draw): the hours of the validation stays without some channels}."
    names, grids = [channel.name for channel in val.channels], {}
    for share in SHARES:
        for draw in range(DRAWS if share else 1):
            rng = seeded_rng("channel dropout", "channels", share, draw)
            lost = rng.choice(names, round(share * len(names)), replace=False).tolist()
            aligned, _ = align_to_network(without(val, lost), meta)
            grids[share, draw] = aligned.grid(meta["hours"], meta["masks"], meta["short"])
    return grids


def ridge_auroc(features: pd.DataFrame, stays: pd.DataFrame, tasks: list[str]) -> float:
    "Mean AUROC of ridge over folds and tasks."
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    values = []
    for task in tasks:
        known = stays[task].notna().to_numpy()
        X, y = features.to_numpy()[known], stays[task].to_numpy()[known].astype(int)
        values.append(cross_val_score(FewLabelClassifier("ridge"), X, y, cv=folds, scoring="roc_auc").mean())
    return float(np.mean(values))


def measure(cohort: Cohort) -> pd.DataFrame:
    "A row for each network, share and draw: rate, seed, loss, share, draw, auroc."
    cohort = cohort.iloc[(cohort.stays["partition"] != "test").to_numpy()]
    val = cohort.iloc[(cohort.stays["partition"] == "val").to_numpy()]
    held_out = held_out_tasks(val)
    tasks = [task.name for task in cohort.tasks if task.kind == "phenotype" and task.name not in held_out]
    print(f"{len(val.stays)} validation stays; held out: {', '.join(held_out)}", flush=True)
    rows, grids, folder = [], {}, Path(tempfile.mkdtemp())
    for seed in SEEDS:
        for rate in RATES:
            made = pretrain_network(cohort, tasks, (HIDDEN,), SETTINGS, dropout_of_channels=rate, seed=seed)
            path, loss = made.save(folder / "net.safetensors"), made.net.meta["validation"]["loss"]
            grids = grids or lacking_grids(val, made.net.meta)
            for (share, draw), grid in grids.items():
                auroc = ridge_auroc(MIMICNetFeatures(path).fit(grid).transform(grid), val.stays, held_out)
                rows.append(dict(rate=rate, seed=seed, loss=loss, share=share, draw=draw, auroc=auroc))
            print(f"seed {seed}, channel dropout {rate}: validation loss {loss:.4f}", flush=True)
    return pd.DataFrame(rows)


def difference(by_network: pd.DataFrame) -> str:
    "Mean difference of the two arms over pairs of networks, with its interval."
    d = by_network[RATES[1]] - by_network[RATES[0]]
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    return f"{d.mean():+.3f} [{d.mean() - half:+.3f}, {d.mean() + half:+.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    found = measure(Cohort.load(parser.parse_args().cohort))
    losses = found.groupby(["seed", "rate"])["loss"].first().unstack()
    print(f"\nvalidation loss: {losses.mean().round(4).to_dict()}, difference {difference(losses)}")
    print("\n| channels removed | without dropout | with dropout | difference |\n|---|--:|--:|--:|")
    for share, of in found.groupby("share"):
        means = of.groupby(["seed", "rate"])["auroc"].mean().unstack()
        cells = [f"{v:.3f}" for v in means.mean()]
        print(f"| {100 * share:.0f} % | {cells[0]} | {cells[1]} | {difference(means)} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
