"""What the profile paper would cost on a cohort of this size, from what another run of it took.

    python benchmarks/protocol.py RUN [--slower 10]

RUN is a finished run with all systems. Its networks' updates are multiplied by --slower, because the learning rate of
the profile paper is that much smaller than the run's (1e-4 instead of 1e-3), up to the profile's cap; the time of an
update of h units is measured here, on one core. Linear models and trees take what they took. It is an estimate by these
rules and no measurement: how many updates a smaller learning rate needs is not known before the run.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch

from rnn_transfer.experiment.plan import plan_steps
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.learning.systems import parse_model
from rnn_transfer.model import init_network, multilabel_loss

PAPER = PROFILES["paper"]
TRAINED = ("recurrent", "multi-task")


def update(hidden: int, repeats: int = 6) -> float:
    "Processor seconds of one update on a batch of 128 stays, 48 hours, 76 columns, one core."
    X, y, net = torch.randn(128, 48, 76), (torch.rand(128, 20) < 0.2).float(), init_network(76, hidden, 20, 0).train()
    adam = torch.optim.Adam(net.parameters(), PAPER["lr"], fused=True)
    for i in range(repeats + 2):
        if i == 2:
            start = time.process_time()
        loss = multilabel_loss(net(X), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return (time.process_time() - start) / repeats


def pretraining(run: Path, cost: dict, slower: float) -> float:
    "Core seconds of the networks of all splits: those whose size is chosen at every h, the others at the largest."
    total, largest = 0.0, max(PAPER["hidden"])
    for p in sorted(run.glob("split-*/pretrain/split.json")):
        about = json.loads(p.read_text())
        for name, nets in ((k, v["networks"]) for k, v in about.items() if isinstance(v, dict) and v.get("networks")):
            sizes = PAPER["hidden"] if len(nets) > 1 else [largest]
            most = max(n["updates"] or 0 for n in nets)
            total += sum(min(most * slower, PAPER["max_updates"]) * cost[h] for h in sizes) * (
                2 if name == "autoencoder" else 1
            )  # an encoder and a decoder
    return total


def transfer(run: Path, cost: dict, slower: float, hidden: int) -> pd.Series:
    "Core seconds of all transfer runs by system, when MIMIC-Net has `hidden` units."
    r = pd.read_parquet(run / "results.parquet").dropna(subset="seconds")
    r = r[~r["model"].str.contains(":literal|:full-val")].assign(
        kind=lambda d: [parse_model(m).definition.kind for m in d["model"]]
    )
    trained = r["kind"].isin(TRAINED)
    factor = (
        (r["updates"] * slower).clip(upper=PAPER["max_updates"]) / r["updates"] * cost[hidden] / r["hidden"].map(cost)
    )
    r["cost"] = r["seconds"].where(~trained, r["seconds"] * factor)
    drawn = r.groupby(["split", "fraction"])["seed"].nunique()
    wanted = {f: PAPER["seeds"][0 if f <= 0.05 else 1] for f in PAPER["fractions"]}
    share = [wanted[f] / drawn[s, f] for s, f in zip(r["split"], r["fraction"])]
    return (r["cost"] * share).groupby(r["model"]).sum().sort_values(ascending=False)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("run", type=Path)
    a.add_argument("--slower", type=float, default=10)
    a = a.parse_args()
    torch.set_num_threads(1)
    sizes = sorted({32, 64, *PAPER["hidden"]})
    cost = {h: update(h) for h in sizes}
    print("| hidden units | seconds of an update |\n|--:|--:|")
    print(*(f"| {h} | {c:.3f} |" for h, c in cost.items()), sep="\n")
    print(
        f"\n{sum(s.kind == 'transfer' for s in plan_steps(PAPER))} transfer runs; "
        f"pre-training {pretraining(a.run, cost, a.slower) / 3600:,.0f} core hours\n"
    )
    both = (
        pd.DataFrame({h: transfer(a.run, cost, a.slower, h) for h in (min(PAPER["hidden"]), max(PAPER["hidden"]))})
        / 3600
    )
    print("| core hours of transfer | " + " | ".join(f"h = {h}" for h in both) + " |\n|:--|--:|--:|")
    print(
        *(
            f"| {m} | {' | '.join(f'{v:,.1f}' for v in row)} |"
            for m, row in zip(both.index, both.to_numpy())
            if row[-1] >= 1
        ),
        sep="\n",
    )
    print("| all | " + " | ".join(f"{v:,.0f}" for v in both.sum()) + " |")


if __name__ == "__main__":
    main()
