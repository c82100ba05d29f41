"""What the network that ships is worth with few labels at another hospital: the table of the page on own data.

    rnn_transfer_cohort physionet2019 --path FOLDER --out COHORT
    python benchmarks/other_hospital.py COHORT [--checkpoint FILE] [--all] [--new-label]

The rule, fixed before any result of the network was read: hospital B of PhysioNet 2019, the partitions of the source
(24 h, seed 0); of the phenotypes with 10 to 20 % positives among the labelled train and val stays of B, the four with
the most labels there; ten draws of 100 and of 200 labels, stratified and by whole subjects; the systems named in
SYSTEMS, in the order of the table; mean AUROC of the four tasks on the test stays of B. The network and the untrained
one are one each, so the intervals are over test patients and draws only. With --all the first two systems also learn
from all labels. Some minutes on one core.

With --new-label the task is one that the network never learned, sepsis after the window, and the sizes are 1,000 and
2,000 labels, since of fewer than 1,000 not 40 are positive. Fixed before a result of it was read: the question is the
difference of the first two systems with 1,000 labels; 0 in its interval is inconclusive, and 2,000 labels stand next
to it. It was not blind: networks of hospital A alone were seen above L1 on the statistics there, with 20 % of the
labels.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from rnn_transfer import shipped_network
from rnn_transfer.apply.divisions import divide_by_partition, divide_by_size
from rnn_transfer.apply.fitting import fit_division
from rnn_transfer.apply.material import Material
from rnn_transfer.apply.systems import APPLIED_SYSTEMS
from rnn_transfer.data import Cohort
from rnn_transfer.estimators.classifier import labels_of
from rnn_transfer.evaluation.components import three_source_interval
from rnn_transfer.evaluation.intervals import percentile_interval
from rnn_transfer.evaluation.measures import Bootstrap
from rnn_transfer.model import read_checkpoint

SITE, N_TASKS, SIZES, DRAWS, REPLICATES = "B", 4, (100, 200), 10, 500
PREVALENCE = (0.10, 0.20)
NEW_LABEL, NEW_SIZES = "Sepsis after the window", (1000, 2000)
SYSTEMS = ("network-ridge", "statistics-ridge", "MN-LR-2", "untrained-ridge", "LR")


def choose_tasks(cohort: Cohort) -> list[str]:
    "The four tasks by the rule above; test stays are not looked at."
    to_fit = cohort.stays[cohort.stays["partition"] != "test"]
    names = [task.name for task in cohort.tasks if task.kind == "phenotype"]
    usual = [name for name in names if PREVALENCE[0] <= to_fit[name].mean() <= PREVALENCE[1]]
    return sorted(usual, key=lambda name: -to_fit[name].notna().sum())[:N_TASKS]


def fit_subsets(material: Material, task: str, sizes: tuple) -> tuple[dict, int]:
    "{(system, size): (draws, 1 + replicates) AUROC}, and the number of fits that predict one number for all."
    cohort, y = material.cohort, labels_of(material.cohort, task)
    whole = divide_by_partition(y, cohort.stays)
    n_constant, found, p = 0, {}, np.full(len(y), np.nan)
    is_test = (cohort.stays["partition"] == "test").to_numpy()
    bootstrap = Bootstrap(cohort.stays["subject_id"].to_numpy()[is_test], REPLICATES)  # the same for every task
    for division in divide_by_size(y, cohort.stays, whole, list(sizes), DRAWS, task, 0):
        for system in SYSTEMS:
            fit = fit_division(system, material, y, division)
            n_constant += fit.info["constant"]
            p[division.test] = fit.p
            found.setdefault((system, division.size), []).append(bootstrap.measure(y[is_test], p[is_test])["auroc"])
    return {key: np.array(values) for key, values in found.items()}, n_constant


def with_interval(tables: list[np.ndarray]) -> str:
    "A mean over tasks of (draws, 1 + replicates), with its interval over patients and draws."
    values = np.stack([table[:, :1] for table in tables])
    replicates = np.stack([table[:, 1:].mean(0) for table in tables])
    found = three_source_interval(values, replicates, networks=False)
    return f"{found.estimate:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]"


def print_sizes(found: dict, tasks: list[str], sizes: tuple) -> None:
    "The table of the page, and differences from the first system."
    for title, less in (("mean AUROC", None), (f"{SYSTEMS[0]} minus the model", SYSTEMS[0])):
        head = " | ".join(f"{size} labels" for size in sizes)
        print(f"\n| {title} | {head} |\n" + "|---" * (1 + len(sizes)) + "|")
        for system in SYSTEMS if less is None else SYSTEMS[1:]:
            cells = []
            for size in sizes:
                tables = [found[task][system, size] for task in tasks]
                if less is not None:
                    tables = [found[task][less, size] - table for task, table in zip(tasks, tables)]
                cells.append(with_interval(tables))
            print(f"| {APPLIED_SYSTEMS[system].text} | {' | '.join(cells)} |", flush=True)


def print_all_labels(material: Material, tasks: list[str]) -> None:
    "The first two systems with all labels, and their paired difference over test patients."
    print(f"\n| task, all labels | {SYSTEMS[0]} | {SYSTEMS[1]} | difference |\n|---|---|---|---|")
    for task in tasks:
        y = labels_of(material.cohort, task)
        division = divide_by_partition(y, material.cohort.stays)[0]
        bootstrap = Bootstrap(material.cohort.stays["subject_id"].to_numpy()[division.test], REPLICATES)
        fits = [fit_division(system, material, y, division) for system in SYSTEMS[:2]]
        first, second = (bootstrap.measure(y[division.test], fit.p)["auroc"] for fit in fits)
        lead = first - second
        ends = percentile_interval(lead)
        print(f"| {task} | {first[0]:.3f} | {second[0]:.3f} | {lead[0]:.3f} [{ends.low:.3f}, {ends.high:.3f}] |")


def print_counts(cohort: Cohort, tasks: list[str]) -> None:
    "Labels and positives of each task."
    print("\n| task | labelled train and val | positive | labelled test | positive |\n|---|--:|--:|--:|--:|")
    is_test = (cohort.stays["partition"] == "test").to_numpy()
    for task, y in ((task, labels_of(cohort, task)) for task in tasks):
        parts = [y[rows & ~np.isnan(y)] for rows in (~is_test, is_test)]
        print(f"| {task} | " + " | ".join(f"{len(part)} | {int(part.sum())}" for part in parts) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=shipped_network())
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--new-label", action="store_true")
    args = parser.parse_args()
    sizes = NEW_SIZES if args.new_label else SIZES
    cohort = Cohort.load(args.cohort)
    cohort = cohort.iloc[(cohort.stays["site"] == SITE).to_numpy()]
    material, tasks = Material(cohort, args.checkpoint), [NEW_LABEL] if args.new_label else choose_tasks(cohort)
    network = read_checkpoint(args.checkpoint).description
    if args.new_label and NEW_LABEL in network["tasks"]:
        raise SystemExit(f"{args.checkpoint}: it has learned {NEW_LABEL}")
    print(f"network {network['sha256'][:12]}, {len(cohort.stays):,} stays of {SITE}")
    print_counts(cohort, tasks)
    fitted = {task: fit_subsets(material, task, sizes) for task in tasks}
    print_sizes({task: found for task, (found, _) in fitted.items()}, tasks, sizes)
    n_fits = len(list(product(tasks, sizes, range(DRAWS), SYSTEMS)))
    print(f"\n{sum(n for _, n in fitted.values())} of {n_fits} fits predict one number for every stay")
    if args.all:
        print_all_labels(material, tasks)


if __name__ == "__main__":
    main()
