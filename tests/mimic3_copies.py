"Copies of raw tables with something changed."

from collections.abc import Callable
from pathlib import Path

import pandas as pd


def rewrite(source, target, change, suffix=".csv"):
    "Copy the tables, each frame and name changed by `change`."
    target.mkdir(parents=True, exist_ok=True)
    for p in source.glob("*.csv"):
        name, d = change(p.stem, pd.read_csv(p, dtype=str, keep_default_na=False))
        d.to_csv(target / f"{name}{suffix}", index=False)
    return target


def spoil(toy, folder, name, change):
    rewrite(toy, folder, lambda n, d: (n, d))
    p = folder / f"{name}.csv"
    text = change(p.read_text())
    p.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder
