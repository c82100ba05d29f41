"""Processor seconds until a command is there, and what a step of a run costs beyond its own work.

    python benchmarks/startup.py [--run RUN] [--against PYTHON]

RUN is a run folder for `rnn_transfer_status`; PYTHON is the interpreter of another installation, whose numbers stand in
a column of their own. Each number is the best of three, user and system time together, so other load hardly matters.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = ["cohort", "paper", "status", "features", "export", "verify"]
STEP = """
import os, sys, time
from pathlib import Path
from rnn_transfer.experiment.execute import execute_step
from rnn_transfer.experiment.plan import plan_steps
from rnn_transfer.experiment.profiles import PROFILES
from rnn_transfer.experiment.store import fill_in_keys
from rnn_transfer.testing import toy_cohort
run = Path(sys.argv[1])
toy_cohort().save(run / "cohort")
data, model = fill_in_keys(plan_steps(PROFILES["quick"]), "toy")[:2]
execute_step(data, str(run), "cohort")
start = time.perf_counter()
outcome = execute_step(model, str(run), "cohort")
assert outcome["state"] == "done", outcome
print(time.perf_counter() - start)
"""


def processor_seconds(command: list[str]) -> float:
    "User and system time of a command and its children, best of three."
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True, cwd=tempfile.gettempdir())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def measure(python: str, run: str | None) -> dict[str, float]:
    "What starts, and how long it takes."
    folder = Path(python).parent
    found = {"import rnn_transfer": processor_seconds([python, "-c", "import rnn_transfer"])}
    for name in COMMANDS:
        found[f"rnn_transfer_{name} --help"] = processor_seconds([str(folder / f"rnn_transfer_{name}"), "--help"])
    if run:
        found["rnn_transfer_status"] = processor_seconds([str(folder / "rnn_transfer_status"), run])
    return found


def step_seconds() -> float:
    "Wall seconds of a step whose own work is a few hundredths of a second: two small networks without training."
    with tempfile.TemporaryDirectory() as run:
        ran = subprocess.run([sys.executable, "-c", STEP, run], capture_output=True, text=True, check=True)
    return float(ran.stdout.split()[-1])


def main() -> None:
    "Print the table."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="run folder for rnn_transfer_status")
    parser.add_argument("--against", help="Python of another installation")
    given = parser.parse_args()
    run = given.run and str(Path(given.run).resolve())
    columns = [measure(sys.executable, run)]
    if given.against:
        columns.append(measure(given.against, run))
    print("| what | " + " | ".join(["processor seconds", "the other"][: len(columns)]) + " |")
    print("|:--|" + "--:|" * len(columns))
    for name in columns[0]:
        print(f"| `{name}` | " + " | ".join(f"{column[name]:.2f}" for column in columns) + " |")
    print(f"\nA step without work: {step_seconds():.1f} seconds, wall time.")


if __name__ == "__main__":
    main()
