"The form for bugs offers the sources of `nbs/sources/known_sources.ipynb`."

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORM = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"


def bug_form(text: str, sources: list[str]) -> str:
    "The form with these sources to choose from."
    options = ", ".join([*sources, "my own", "none"])
    return re.sub(r"(label: Which data\?\n\s+options: \[).*(\])", rf"\g<1>{options}\g<2>", text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # the library that was exported just now
    from rnn_transfer.sources.known_sources import SOURCES

    FORM.write_text(bug_form(FORM.read_text(encoding="utf-8"), list(SOURCES)), encoding="utf-8")
