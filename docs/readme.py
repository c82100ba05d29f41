"README.md is the front page nbs/index.ipynb: its prose as it stands, its links seen from the root."

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Made from nbs/index.ipynb by docs/readme.py: change it there. -->\n\n"


def text(part) -> str:
    "A notebook stores text as one string or as a list of lines."
    return "".join(part) if isinstance(part, list) else part


def outputs(cell: dict) -> str:
    "The saved outputs of a code cell, as Markdown or as a plain block."
    shown = []
    for out in cell.get("outputs", []):
        data = out.get("data", {"text/plain": out.get("text", "")})
        if "text/markdown" in data:
            shown.append(text(data["text/markdown"]).strip())
        elif plain := text(data.get("text/plain", "")).rstrip():
            shown.append("\n".join("    " + line for line in plain.splitlines()))
    return "\n\n".join(shown)


def from_root(markdown: str, nbs: str = "nbs") -> str:
    "Relative links are written as seen from the notebook's folder; show them as seen from the root."

    def link(m):
        target = m[1]
        if re.match(r"[a-z]+:|#|/", target):
            return m[0]
        return f"]({target[3:] if target.startswith('../') else f'{nbs}/{target}'})"

    return re.sub(r"\]\(([^)\s]+)\)", link, markdown)


def readme(notebook: Path) -> str:
    "The Markdown of the notebook, without hidden cells and directives."
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(from_root(source.strip()))
        if cell["cell_type"] != "code" or re.search(r"^#\|\s*(hide|default_exp|exporti?)\b", source, re.M):
            continue
        code = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()
        parts += [p for p in (f"```python\n{code}\n```" if code else "", outputs(cell)) if p]
    return NOTE + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(ROOT / "nbs" / "index.ipynb"), encoding="utf-8")
