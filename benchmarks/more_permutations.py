"""Shuffled labels with other draws than those of a run: is a mean that is not .5 chance?

    python benchmarks/more_permutations.py RUN OUT.csv [--first 50] [--draws 250] [--fractions .01 .02 .05 .1]
        [--networks 1]

RUN is a run folder whose pre-training is done; nothing is written into it but cached features. For every split and
task it draws a labelled subset, permutes its labels and fits MN-LR-2 by the paper's rule for lambda, as the system
shuffled-MN-LR-2 does, with seeds that the run does not have and with the first networks of the run. OUT has a row for
each kind of task and fraction: the mean AUROC on the test stays (tasks weighted by positives, then splits), and its
interval over the draws, and over the networks where there are three or more; and of the draws in whole blocks of
fifty, as many as a run has up to 10 % of the labels, how many intervals hold .5. Patients are left out of these
intervals: the standard deviation over them is about .001. All blocks share the networks, and the fractions of a draw
share their stays.

How it is read, written before its first result on PhysioNet 2012 with these seeds: where the interval holds .5, a mean
of the run that does not is chance. Where it does not hold .5, the page says by how much the mean is off; below .002
that is no sign of a leak, for the features of few positives are skewed and .5 is exact for symmetric ones alone. Of
the intervals of fifty draws, all cells together, at least nine of ten should hold .5.
With five networks, written when the run's own 12 of 14 intervals were known, before the first of these: whether nine of
ten hold .5 is measured on the intervals of fifty draws, those of the run up to 10 % of the labels and these together,
for fourteen intervals alone say little.
34 of those 40 did. Written then, before the first of the next: 1,000 draws more with five networks, seeds 300 to 1299,
are the last. Nine of ten of their 160 intervals, without those before, must hold .5, and the page says what they give.
152 of them did.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from rnn_transfer.data import PreparedCohort
from rnn_transfer.evaluation.components import MIN_NETWORKS, ThreeSourceInterval, three_source_interval
from rnn_transfer.learning.l1_logistic import LAMBDAS
from rnn_transfer.learning.networks import read_split
from rnn_transfer.learning.systems import parse_model
from rnn_transfer.learning.training import DEFAULT_SETTINGS
from rnn_transfer.transfer import TransferStep, fit_group


def fit_shuffled(step: TransferStep, networks: int) -> list[dict]:
    "AUROC of each task and network that can be fitted, and the positives among its test stays."
    found = []
    for network in range(networks):
        system = parse_model("shuffled-MN-LR-2" + (f"@{network}" if network else ""))
        for row, test, result in fit_group(step, [system]):
            if result:
                truth = step.data.stays[row["task"]].to_numpy(float)[test]
                cell = dict(split=step.split, task_kind=row["task_kind"], fraction=step.fraction, seed=step.seed)
                measured = dict(network=network, positives=truth.sum(), auroc=roc_auc_score(truth, result.p))
                found.append(cell | measured)
    return found


def make_steps(run: Path, fractions: list, seeds: range) -> Iterator[TransferStep]:
    "The steps of every split, one after the other; nothing of them is trained but linear models."
    data = PreparedCohort.load(run)
    for split in sorted(int(folder.name.removeprefix("split-")) for folder in run.glob("split-*")):
        manifest = read_split(run, split)
        for fraction, seed in product(fractions, seeds):
            yield TransferStep(run, split, data, manifest, fraction, seed, LAMBDAS, "nll", [], DEFAULT_SETTINGS)


BLOCK = 50  # draws, as many as a run has up to 10 % of the labels


def interval_of(table: np.ndarray) -> ThreeSourceInterval:
    "Over draws, the rows, and over networks, the columns, where there are enough of them; not over patients."
    many = table.shape[1] >= MIN_NETWORKS
    return three_source_interval(table if many else np.nanmean(table, 1, keepdims=True), np.zeros(2), networks=many)


def count_blocks(table: np.ndarray) -> dict:
    "How many whole blocks of draws there are, and of how many the interval holds .5."
    blocks = [table[end - BLOCK : end] for end in range(BLOCK, len(table) + 1, BLOCK)]
    ends = [interval_of(block).interval for block in blocks]
    return dict(blocks=len(blocks), blocks_holding=sum(low <= 0.5 <= high for low, high in ends))


def summarise(fits: pd.DataFrame) -> pd.DataFrame:
    "The mean and its interval, by kind of task and fraction."
    by = ["task_kind", "fraction", "seed", "network"]
    of_split = fits.groupby([*by, "split"]).apply(lambda f: np.average(f["auroc"], weights=f["positives"]))
    means = of_split.groupby(by).mean()
    rows = []
    for (kind, fraction), values in means.groupby(["task_kind", "fraction"]):
        table = values.unstack("network").to_numpy()
        found = interval_of(table)
        about = dict(task_kind=kind, fraction=fraction, n_draws=len(table), n_networks=table.shape[1])
        rows.append(about | dict(value=found.estimate, **found.interval._asdict()) | count_blocks(table))
    return pd.DataFrame(rows)


def main() -> None:
    "Fit, and write the table."
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("run", type=Path)
    a.add_argument("out", type=Path)
    a.add_argument("--first", type=int, default=50, help="the first seed: above those of the run")
    a.add_argument("--draws", type=int, default=250)
    a.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1])
    a.add_argument("--networks", type=int, default=1, help="of the run, from the first on")
    a = a.parse_args()
    steps = make_steps(a.run, a.fractions, range(a.first, a.first + a.draws))
    with threadpool_limits(1):
        fits = [fit for step in steps for fit in fit_shuffled(step, a.networks)]
    summary = summarise(pd.DataFrame(fits))
    summary.round(6).to_csv(a.out, index=False)
    print(summary.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
