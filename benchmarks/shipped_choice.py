"""Which network ships: four candidates, chosen on validation stays by a rule that was written before any was trained.

    make network DATA=FOLDER DATA2019=FOLDER   # makes the cohorts, and the network by the recipe chosen
    python benchmarks/shipped_choice.py COHORT CANDIDATE.safetensors ...   # the cohort of both

Candidates: {PhysioNet 2012, sets a and b; these and hospital A of PhysioNet 2019} x {channel dropout 0, 0.2}. All use
every phenotype of the cohort, h 100, learning rate 1e-3, patience 10, seed 0, one thread, and all stays but those of
validation to train on. At most 3,000 updates for 2012, and 4,000 for both, which have 3.4 times the stays. They are
trained in the order 2012 with dropout (the network of before), 2012 without, both without, both with; the choice is
among those that are trained when it is made, which no result decides.

Window: 48 hours for both sources. PhysioNet 2019 is built with --hours 48, so that its labels are limits over the same
48 hours as its input, as those of 2012 are: no label looks past the input, and no input past the hours of the label.
(With the usual 24 hours a task of one name would be another task than in 2012.) Stays of hospital A that end earlier
carry their last values, with masks of 0, as stays of users do. Sepsis is no phenotype and is not learned. Tasks of one
name are one task where the rule is the same and only its words differ (SAME); raised transaminases and marked
myocardial injury rest on fewer parameters in 2019 and stay tasks of their own (APART).

Score of a candidate: the mean of two halves. Half 2012: mean AUROC of its own outputs for the tasks of 2012, on the
validation stays of 2012. Half A: the same for the tasks in SAME, on the validation stays of hospital A. A task counts
in a half with at least 20 positive and 20 negative stays there. The candidate with the highest score ships, unless it
is trained on both and its half 2012 is more than 0.005 below the best one of 2012 alone; candidates within 0.002 of
the highest are equal, and the first of them in the order 2012, both; without, with dropout ships.

What the rule cannot see: validation stays also stop the training of the networks that learn from their source, so half
A favours those of both. Hospital A is the hospital of 2012, and patients may be in both. It is not asked how the
features do at another hospital: hospital B of PhysioNet 2019 has no part in training, validation or this choice, and
the network that ships is measured there afterwards (other_hospital.py). Set b is trained on and measures nothing.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_transfer.cohorts.normalization import Normalizer
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.extraction import align_to_network
from rnn_transfer.evaluation.measures import auroc
from rnn_transfer.model import MIMICNet, iter_batch_outputs, load_checkpoint

MIN_OF_A_CLASS, MAX_LOSS_ON_2012, EQUAL = 20, 0.005, 0.002
SAME = (
    "Renal dysfunction",
    "Acute kidney injury",
    "Azotaemia",
    "Hyperbilirubinaemia",
    "Thrombocytopenia",
    "Leucocytosis",
    "Leucopenia",
    "Severe anaemia",
    "Hyperlactataemia",
    "Low bicarbonate",
    "Hypercapnia",
    "Hypocapnia",
    "Hypokalaemia",
    "Hyperkalaemia",
    "Hypomagnesaemia",
)
APART = ("Raised transaminases", "Marked myocardial injury")


def logits(net: MIMICNet, cohort: Cohort) -> pd.DataFrame:
    "The network's outputs for all stays, a column for each of its tasks."
    aligned, _ = align_to_network(cohort, net.meta)
    grid = aligned.grid(net.meta["hours"], net.meta["masks"], net.meta["short"])
    Normalizer(net.meta["scale"]).transform(grid.X, grid.columns)
    out = np.concatenate([out.numpy() for _, out in iter_batch_outputs(net, grid.X)])
    return pd.DataFrame(out, columns=net.meta["tasks"])


def half(net: MIMICNet, stays: Cohort, tasks: list[str]) -> pd.Series:
    "AUROC of the tasks that count."
    out, found = logits(net, stays), {}
    for task in tasks:
        y = stays.stays[task].to_numpy(float)
        if min(np.nansum(y == 1), np.nansum(y == 0)) >= MIN_OF_A_CLASS:
            found[task] = auroc(y, out[task].to_numpy())
    return pd.Series(found)


def validation_stays(cohort: Cohort, site: str) -> Cohort:
    "The validation stays of a site."
    return cohort.iloc[((cohort.stays["partition"] == "val") & (cohort.stays["site"] == site)).to_numpy()]


def choose(table: pd.DataFrame) -> str:
    "The candidate that ships, by the rule above; `table` is in the order of the rule."
    least = table.loc[~table["both"], "2012"].max() - MAX_LOSS_ON_2012
    allowed = table[~table["both"] | ~(table["2012"] < least)]  # without a candidate of 2012 there is no limit
    return allowed.index[allowed["score"] >= allowed["score"].max() - EQUAL][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("candidates", type=Path, nargs="+", help="in the order of the rule")
    parser.add_argument("--site", default="PhysioNet 2012", help="the site of PhysioNet 2012 in the cohort")
    args = parser.parse_args()
    cohort, rows, of_2012, of_a = Cohort.load(args.cohort), {}, {}, {}
    first, a = validation_stays(cohort, args.site), validation_stays(cohort, "A")
    tasks = [t.name for t in cohort.tasks if t.kind == "phenotype" and first.stays[t.name].notna().any()]
    for path in args.candidates:
        net = load_checkpoint(path)
        of_2012[path.stem], of_a[path.stem] = half(net, first, tasks), half(net, a, list(SAME))
        means = {"2012": of_2012[path.stem].mean(), "A": of_a[path.stem].mean()}
        rows[path.stem] = means | {"both": len(net.meta["tasks"]) > len(tasks)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["score"] = (table["2012"] + table["A"]) / 2
    print(f"{len(first.stays)} validation stays of 2012, {len(of_2012[table.index[0]])} tasks; ", end="")
    print(f"{len(a.stays)} of hospital A, {len(of_a[table.index[0]])} tasks\n")
    print("| candidate | half 2012 | half A | score |\n|---|--:|--:|--:|")
    for name, row in table.iterrows():
        print(f"| {name} | {row['2012']:.4f} | {row['A']:.4f} | {row['score']:.4f} |")
    print(f"\nby the rule: {choose(table)}")


if __name__ == "__main__":
    main()
