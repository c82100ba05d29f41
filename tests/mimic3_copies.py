"Copies of raw tables with something changed."

from collections.abc import Callable
from pathlib import Path

import pandas as pd


def rewrite(source: Path, target: Path, change: Callable, suffix: str = ".csv") -> Path:
    "Copy the tables; `change` gives each its new name and frame."
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.csv"):
        name, d = change(path.stem, pd.read_csv(path, dtype=str, keep_default_na=False))
        d.to_csv(target / f"{name}{suffix}", index=False)
    return target


def spoil(source: Path, target: Path, name: str, change: Callable) -> Path:
    "Copy the tables, and change the text of one."
    rewrite(source, target, lambda n, d: (n, d))
    write(target / f"{name}.csv", change)
    return target


def write(path: Path, change: Callable) -> None:
    "Replace a file by what `change` makes of its text: text or bytes."
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
