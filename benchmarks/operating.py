"""Operating characteristics of the rules for the claims, for runs with given numbers of draws

    python benchmarks/operating.py OUT.csv [--linear 50,20] [--trained 20,10,5] [--runs 300]

Draws of linear systems are up to 10 % of the labels and above, of trained ones up to 5 %, up to 20 % and above.
"""

import argparse
from bisect import bisect_left

from rnn_transfer.evaluation.claim_operating import (
    DRAWS_SD,
    NETWORKS_SD,
    Design,
    operating_characteristics,
    simulate_verdicts,
)
from rnn_transfer.experiment.draws import LINEAR_SEED_LIMITS, SEED_LIMITS


def draws_by_fraction(text: str, limits: tuple) -> dict:
    "Numbers such as `50,20` as the draws of each fraction."
    numbers = [int(number) for number in text.split(",")]
    return {f: numbers[min(bisect_left(limits, f), len(numbers) - 1)] for f in DRAWS_SD}


def main() -> None:
    "Invent runs in the world of the paper and in one without differences, and judge them."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--linear", default="50,20")
    parser.add_argument("--trained", default="20,10,5")
    parser.add_argument("--runs", type=int, default=300)
    args = parser.parse_args()
    design = Design(draws_by_fraction(args.linear, LINEAR_SEED_LIMITS), draws_by_fraction(args.trained, SEED_LIMITS))
    worlds = [(world, sd) for world in ("as published", "no difference") for sd in NETWORKS_SD]
    verdicts = {(world, sd): simulate_verdicts(world, sd, args.runs, design=design) for world, sd in worlds}
    found = operating_characteristics(verdicts).round(3)
    found.assign(linear=args.linear, trained=args.trained).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
