"""Processor seconds of each system in transfer steps of a run, before and after a change.

    python benchmarks/transfer_step.py RUN OUT [--before OUT] [--fractions .05 1] [--targets 1] [--models ...]
        [--torch] [--patience N]

RUN is a run folder whose pre-training of split 0 is done; nothing is written into it but cached features. OUT gets
seconds.csv (processor seconds of the making and the fits of a system, all tasks and selection criteria together) and
predictions.parquet. Run the script once with the package as it was (PYTHONPATH), once as it is with --before, and it
prints a table with the ratios, the largest change of a prediction and the mean change of the AUROC over tasks and
selection criteria, with its sign and without. --torch trains networks with PyTorch's GRU in place of ours, --patience
stops them after so many checks without a lower validation loss. Processor time, not wall time: other programs on the
same machine change both sides alike when both run at the same time.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from rnn_transfer.data import PreparedCohort
from rnn_transfer.experiment.profiles import PROFILES, step_parameters
from rnn_transfer.learning.features import model_features
from rnn_transfer.learning.networks import read_split
from rnn_transfer.learning.systems import parse_model
from rnn_transfer.learning.training import TrainSettings, torch_threads
from rnn_transfer.transfer import TransferStep, fit_group


def make_step(run: Path, fraction: float, targets: int, torch_gru: bool, patience: int | None) -> TransferStep:
    "The step of split 0, seed 0, with the settings of the profile open, and only so many held-out phenotypes."
    data, manifest = PreparedCohort.load(run), read_split(run, 0)
    manifest = dict(manifest) | dict(target=manifest["target"][:targets])
    options = step_parameters("transfer", PROFILES["open"])
    options |= dict(patience=patience or options["patience"])
    names = ("lr", "batch", "max_updates", "eval_every", "patience")
    settings = TrainSettings(**{name: options[name] for name in names}, device="cpu")
    hidden = [manifest["hidden"]]
    step = TransferStep(run, 0, data, manifest, fraction, 0, options["lambdas"], options["choose"], hidden, settings)
    return replace(step, fast_gru=False) if torch_gru else step


def measure(step: TransferStep, models: list) -> tuple:
    "Rows of seconds and frames of predictions, one for each system."
    systems, seconds, predictions = [parse_model(m) for m in models], [], []
    for name, init in dict.fromkeys((s.system, s.init) for s in systems):
        group = [s for s in systems if (s.system, s.init) == (name, init)]
        start = time.process_time()
        fits = list(fit_group(step, group))
        spent = time.process_time() - start
        label = f"{name}@{init}" if init else name
        fitted = [(row, test, result) for row, test, result in fits if result]
        seconds.append(dict(fraction=step.fraction, system=label, seconds=spent, fits=len(fitted)))
        for row, test, result in fitted:
            about = dict(fraction=step.fraction, task=row["task"], model=row["model"])
            y = step.data.stays[row["task"]].to_numpy(float)[test]
            predictions.append(pd.DataFrame(about | dict(row=test, y=y, p=result.p)))
        print(f"{step.fraction:g} {label}: {spent:.1f}", flush=True)
    return seconds, predictions


def compare(seconds: pd.DataFrame, predictions: pd.DataFrame, before: Path) -> pd.DataFrame:
    "Seconds before and after, their ratio, and the largest change of a prediction."
    keys = ["fraction", "system"]
    both = pd.read_csv(before / "seconds.csv").merge(seconds, on=keys, suffixes=("_before", ""))
    both = both.assign(ratio=both["seconds_before"] / both["seconds"])
    by = ["fraction", "task", "model", "row"]
    old = pd.read_parquet(before / "predictions.parquet", columns=[*by, "p"])
    p = old.merge(predictions, on=by, suffixes=("_before", ""), validate="one_to_one")
    p = p.assign(system=p["model"].str.replace(r":[a-z-]+", "", regex=True), change=(p["p"] - p["p_before"]).abs())
    changes = p.groupby(keys)["change"].max().rename("largest change").reset_index()
    fits = p.groupby([*keys, "task", "model"])
    gains = fits.apply(lambda f: roc_auc_score(f["y"], f["p"]) - roc_auc_score(f["y"], f["p_before"])).rename("gain")
    aurocs = gains.groupby(keys).agg(signed="mean", size=lambda gain: gain.abs().mean()).reset_index()
    columns = [*keys, "seconds_before", "seconds", "ratio"]
    return both[columns].merge(changes, on=keys).merge(aurocs, on=keys)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("run", type=Path)
    a.add_argument("out", type=Path)
    a.add_argument("--before", type=Path)
    a.add_argument("--fractions", type=float, nargs="+", default=[0.05, 1.0])
    a.add_argument("--targets", type=int, default=1)
    a.add_argument("--torch", action="store_true")
    a.add_argument("--patience", type=int)
    a.add_argument("--models", nargs="+", default=PROFILES["open"]["models"])
    a = a.parse_args()
    seconds, predictions = [], []
    steps = [make_step(a.run, fraction, a.targets, a.torch, a.patience) for fraction in a.fractions]
    with torch_threads(1), threadpool_limits(1):
        for model in a.models:  # features are cached before the clock starts
            if parse_model(model).definition.kind == "linear":
                model_features(a.run, 0, steps[0].data, model)
        for step in steps:
            s, p = measure(step, a.models)
            seconds, predictions = seconds + s, predictions + p
    a.out.mkdir(parents=True, exist_ok=True)
    seconds, predictions = pd.DataFrame(seconds), pd.concat(predictions, ignore_index=True)
    seconds.to_csv(a.out / "seconds.csv", index=False)
    predictions.to_parquet(a.out / "predictions.parquet", index=False)
    if a.before:
        print("| share of labels | system | before | now | before / now | change of p | AUROC | AUROC, unsigned |")
        print("|--:|:--|--:|--:|--:|--:|--:|--:|")
        for row in compare(seconds, predictions, a.before).itertuples(index=False):
            fraction, system, old, new, ratio, change, gain, size = row
            numbers = f"{old:.1f} | {new:.1f} | {ratio:.2f} | {change:.2g} | {gain:+.4f} | {size:.4f}"
            print(f"| {fraction:g} | {system} | {numbers} |")


if __name__ == "__main__":
    main()
