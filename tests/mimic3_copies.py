"Copies of raw tables with something changed."

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd


def rewrite(
    source: Path, target: Path, change: Callable, suffix: str = ".csv", only: Collection[str] | None = None
) -> Path:
    "Copy the tables; `change` gives each of `only` (None: of all) its new name and frame, the others stay as they are."
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.csv"):
        if only is not None and path.stem not in only:
            shutil.copy(path, target)
            continue
        name, d = change(path.stem, pd.read_csv(path, dtype=str, keep_default_na=False))
        d.to_csv(target / f"{name}{suffix}", index=False)
    return target


def spoil(source: Path, target: Path, name: str, change: Callable) -> Path:
    "Copy the tables, and change the text of one."
    shutil.copytree(source, target, dirs_exist_ok=True)
    write(target / f"{name}.csv", change)
    return target


def write(path: Path, change: Callable) -> None:
    "Replace a file by what `change` makes of its text: text or bytes."
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
