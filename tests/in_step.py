"Are the library, the notebooks and the README in step? Works on a copy, so the tree it is asked about stays as it is."

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["settings.ini", "pyproject.toml", "README.md", "nbs", "rnn_transfer", "docs", ".github"]
SKIP = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_quarto.yml", "nbdev.yml", "sidebar.yml")


def tree(root: Path) -> dict[str, bytes]:
    "Every file below `root`, by its relative path."
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    "The paths that were added, removed or rewritten."
    return sorted(p for p in {*before, *after} if before.get(p) != after.get(p))


def copy_tree(root: Path, to: Path) -> None:
    "Copy what the checks need."
    for name in PARTS:
        src = root / name
        if src.is_dir():
            shutil.copytree(src, to / name, ignore=SKIP)
        elif src.exists():
            shutil.copy2(src, to / name)


def out_of_step(root: Path = ROOT) -> dict[str, list[str]]:
    "Run export, clean, readme and sources on a copy; for each the files that it would change."
    bin = Path(sys.executable).parent
    steps = {
        "nbdev_export": [bin / "nbdev_export"],
        "nbdev_clean": [bin / "nbdev_clean"],
        "docs/readme.py": [sys.executable, "docs/readme.py"],
        "docs/sources.py": [sys.executable, "docs/sources.py"],
    }
    found = {}
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp).resolve()
        copy_tree(root, copy)
        for name, command in steps.items():
            before = tree(copy)
            env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
            ran = subprocess.run([str(c) for c in command], cwd=copy, env=env, capture_output=True, text=True)
            if ran.returncode:
                raise RuntimeError(f"{name} failed:\n{ran.stdout}{ran.stderr}")
            if diff := changed(before, tree(copy)):
                found[name] = diff
    return found


if __name__ == "__main__":
    bad = out_of_step()
    for name, files in bad.items():
        print(f"out of step, {name} changes: {', '.join(files)} (fix with `make export`)", file=sys.stderr)
    sys.exit(bool(bad))
