"""Build the site into _docs, offline, from the notebooks as they were saved.

nbdev's documentation step, then smalldocs, then the corrections that both need. It works on a copy, so the tree stays
as it is, and fails on a broken link, a missing anchor, a warning of smalldocs or TeX that is not understood.
"""

import argparse
import ast
import functools
import hashlib
import html
import json
import logging
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from math_core import LatexError, LatexToMathML

ROOT = Path(__file__).resolve().parents[1]
# The order of the sidebar. A page that is not listed is shown under More; tests/test_house.py wants every page listed.
MENU = [
    (
        "",
        [
            "index.ipynb",
            "getting-started.md",
            "own-data.md",
            "inputs.md",
            "clusters.md",
            "glossary.md",
            "architecture.md",
            "one_stay.ipynb",
        ],
    ),
    (
        "The method",
        [f"{name}.ipynb" for name in ("00_data", "01_model", "02_pretrain", "03_transfer", "04_evaluate", "05_paper")],
    ),
    (
        "Cohorts",
        [
            f"cohorts/{name}.ipynb"
            for name in (
                *("channels", "descriptors", "validation", "description", "storage", "fingerprint"),
                *("partitions", "label_facts", "summary", "prepared_files"),
                *("units", "alignment", "sites", "joining", "databases"),
                *("hourly", "statistics", "normalization", "losses"),
            )
        ],
    ),
    (
        "Tables of your own",
        [
            f"frames/{name}.ipynb"
            for name in (
                *(
                    "tables",
                    "options",
                    "mapping",
                    "stay_table",
                    "stays",
                    "times",
                    "dates",
                    "time_units",
                    "values",
                    "events",
                ),
                *("files", "problems", "input_report", "conversion", "own_labels", "stay_rows"),
            )
        ],
    ),
    (
        "Learning",
        [
            f"learning/{name}.ipynb"
            for name in (
                *("systems", "splits", "training", "networks", "heads", "autoencoder", "fits", "features"),
                *(
                    "l1_logistic",
                    "linear",
                    "ridge_paths",
                    "few_labels",
                    "fine_grid",
                    "fast_gru",
                    "recurrent",
                    "multitask",
                    "trees",
                    "zero_shot",
                ),
                *("score_baseline", "pooled", "carried", "outputs"),
            )
        ],
    ),
    (
        "On your own patients",
        [
            f"estimators/{name}.ipynb"
            for name in (
                *(
                    "classifier",
                    "stay_names",
                    "features",
                    "extraction",
                    "shipped",
                    "input_check",
                    "linear",
                    "label_evaluation",
                ),
                *("precision", "recalibration", "prediction_spread"),
                *("persistence", "pretraining", "model_card", "onnx_export"),
            )
        ],
    ),
    (
        "Which model for your label",
        [
            f"apply/{name}.ipynb"
            for name in (
                "run",
                "systems",
                "divisions",
                "material",
                "fitting",
                "scores",
                "label_curves",
                "answer",
                "report",
            )
        ],
    ),
    (
        "Evaluation",
        [
            f"evaluation/{name}.ipynb"
            for name in (
                *("run_folder", "measures", "intervals", "delong", "comparisons", "label_efficiency"),
                *("components", "component_coverage", "sums", "null_fits", "three_sources", "source_tables"),
                *("scoring", "results", "formats", "captions", "layout", "plotting", "toy"),
                *("label_notes", "hospitals", "hospital_differences", "hospital_calibration", "task_counts"),
                *("learning_curves", "differences"),
                *("difference_tests", "labels_saved"),
                *("controls", "variance", "stability", "sparsity", "features", "per_task"),
                *("calibration", "calibration_lines", "decision_curves", "subgroups", "provenance"),
                *("claim_rules", "claim_run", "claim_tests", "claim_overfitting", "claim_features"),
                *("claim_form", "claim_register", "claims", "claim_operating", "verdict_stability"),
                *("checklist_facts", "checklists", "limits", "report"),
            )
        ],
    ),
    (
        "The experiment",
        [
            f"experiment/{name}.ipynb"
            for name in (
                *("profiles", "notebooks", "draws", "plan", "store", "provenance", "execute", "cluster"),
                *("hospitals", "run", "each_site"),
                *("status", "commandline", "commands", "join_command", "pretrain_command", "apply_command", "combine"),
            )
        ],
    ),
    (
        "Sources of data",
        [
            f"sources/{name}.ipynb"
            for name in (
                "known_sources",
                *("synthetic", "synthetic_patients", "synthetic_course", "synthetic_chart"),
                *("synthetic_raw", "synthetic_raw_chart", "synthetic_tables"),
                *("physionet2012", "physionet2012_sets", "physionet2012_files", "physionet2012_rows"),
                *("physionet2012_outcomes", "physionet2012_descriptors", "physionet2012_losses", "threshold_tasks"),
                *("physionet2019", "physionet2019_files", "physionet2019_rows", "physionet2019_descriptors"),
                *("physionet2019_losses", "given_partitions"),
                "join",
                "archive_files",
                *("mimic3", "mimic3_tables", "mimic3_stays", "mimic3_rules", "mimic3_corrections", "mimic3_events"),
                *("mimic3_diagnoses", "icd9", "mimic3_texts", "mimic3_losses", "times"),
                *("mimic3_samples", "mimic3_export", "mimic3_verify", "mimic3_benchmarks"),
                *("mimic_releases", "mimic4", "mimic4_tables"),
                *("meds", "meds_files", "meds_codes", "meds_stays", "meds_events", "meds_tasks", "meds_code_tasks"),
                "meds_conversion",
                *("table", "csv_files", "csv_scans", "duckdb_tables", "other_databases"),
            )
        ],
    ),
    (
        "Utilities",
        [
            f"utilities/{name}.ipynb"
            for name in (
                *(
                    "errors",
                    "name_lists",
                    "seeds",
                    "ranking",
                    "files",
                    "encodings",
                    "csv_forms",
                    "gzip_files",
                    "json_files",
                ),
                *("checkpoint_form", "run_records", "code_hashes", "processes", "help_texts", "display"),
            )
        ]
        + ["testing.ipynb"],
    ),
    ("", ["results.ipynb", "hospitals.ipynb", "benchmarks.md", "changelog.md"]),
]


class SiteError(Exception):
    "What is wrong with the site, one finding a line."


# ---- nbdev: the notebooks as pages


def copy_sources(root: Path, work: Path) -> None:
    "Copy what the build reads into a folder that it may write to."
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_quarto.yml", "nbdev.yml", "sidebar.yml")
    for name in ("nbs", "rnn_transfer"):
        shutil.copytree(root / name, work / name, ignore=ignore)
    shutil.copy2(root / "settings.ini", work / "settings.ini")
    for path in sorted((work / "nbs").rglob("*.ipynb")):
        split_heading(path)
        fold_code(path)


def fold_code(path: Path) -> None:
    "nbdev shows the signatures of exported code and hides the code: keep a folded copy below them."
    nb = json.loads(path.read_text(encoding="utf-8"))
    shown = []
    for cell in nb["cells"]:
        shown.append(cell)
        text = "".join(cell["source"])
        if cell["cell_type"] != "code" or not re.search(r"^#\|\s*export\b", text, re.M):
            continue
        code = "\n".join(line for line in text.splitlines() if not line.startswith("#|")).strip()
        if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(code).body):
            continue
        folded = f"<details class=\"exported\"><summary>Code</summary>\n\n```python\n{code}\n```\n\n</details>"
        shown.append({"cell_type": "markdown", "id": f"code-{len(shown)}", "metadata": {}, "source": folded})
    nb["cells"] = shown
    path.write_text(json.dumps(nb), encoding="utf-8")


def split_heading(path: Path) -> None:
    """Keep the sentences below a page's title and subtitle in a cell of their own.

    nbdev turns the whole cell of the H1 into title and subtitle.
    """
    nb = json.loads(path.read_text(encoding="utf-8"))
    for i, cell in enumerate(nb["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] != "markdown" or not text.startswith("# "):
            continue
        head = re.match(r"# .+\n*(?:>.*(?:\n|$))*", text)[0]
        rest = {"cell_type": "markdown", "id": "below-heading", "metadata": {}, "source": text[len(head) :].strip()}
        if rest["source"]:
            nb["cells"][i : i + 1] = [{**cell, "source": head.strip()}, rest]
        break
    path.write_text(json.dumps(nb), encoding="utf-8")


def process(work: Path) -> Path:
    "nbdev's own step, in a fresh process: directives applied, documentation of the functions filled in."
    env = {
        **os.environ,
        "PYTHONPATH": str(work),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("nbdev_step.py"))],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
    )
    if ran.returncode:
        raise SiteError(f"nbdev could not process the notebooks:\n{ran.stdout}{ran.stderr}")
    return work / "_proc"


# ---- the sources of the pages


def page_names(proc: Path) -> dict[str, str]:
    "Where nbdev wants each notebook: it says so in `output-file`, which smalldocs does not read."
    names = {}
    for path in sorted(proc.rglob("*.ipynb")):
        source = path.relative_to(proc).as_posix()
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        front = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "raw" else ""
        wanted = re.search(r"^output-file: (\S+)\.html$", front, re.M)
        names[source] = posixpath.join(posixpath.dirname(source), f"{wanted[1] if wanted else path.stem}.ipynb")
    return names


def planned() -> set[str]:
    "Every page of the menu, whether it exists or not."
    return {page for _, pages in MENU for page in pages}


def rewrite_links(markdown: str, source: str, names: dict[str, str]) -> str:
    "Links between notebooks and to files of the tree become links between pages."
    here = posixpath.dirname(source)

    def link(m):
        label, target, anchor = m[1], m[2], m[3] or ""
        if re.match(r"[a-z]+:|#|/", target):
            return m[0]
        full = posixpath.normpath(posixpath.join("nbs", here, target))
        if full == "CHANGELOG.md":
            full = "nbs/changelog.md"
        full = re.sub(r"^docs/pages/", "nbs/", full)
        if report := re.fullmatch(r"docs/results/([\w-]+)/report\.html", full):
            return f"[{label}]({posixpath.relpath(f'reports/{report[1]}.html', here or '.')})"
        if not full.startswith("nbs/"):
            return f"`{full}`" if label == posixpath.basename(full) else f"{label} (`{full}`)"
        page = full.removeprefix("nbs/")
        if page in names or page.endswith(".md"):
            return f"[{label}]({posixpath.relpath(names.get(page, page), here or '.')}{anchor})"
        return label if page in planned() else m[0]

    return re.sub(r"(?<!!)\[([^\]\[]*)\]\(([^)\s#]+)(#[^)\s]*)?\)", link, markdown)


def rewrite_equations(markdown: str, numbers: dict[str, str]) -> str:
    "`$$…$$ {#eq-name}` gets an anchor, `\\tag{n}` a number next to it, `@eq-name` a link."

    def equation(m):
        tex, label = m[1], m[2]
        tag = re.search(r"\\tag\*?\{([^}]*)\}", tex)
        number = tag[1] if tag else str(len(numbers) + 1) if label else ""
        if label:
            numbers[label] = number
        tex = re.sub(r"\\tag\*?\{[^}]*\}|\\label\{[^}]*\}", "", tex).strip()
        attrs = f' id="{label}"' if label else ""
        if not (label or tag):
            return m[0]
        block = f'<div class="equation"{attrs} data-number="{number}">\\[{html.escape(tex)}\\]</div>'
        return f"\n\n```{{=html}}\n{block}\n```\n\n"

    return re.sub(r"\$\$(.+?)\$\$[ \t]*(?:\{#(eq-[\w-]+)\})?", equation, markdown, flags=re.S)


def outside_code(markdown: str, change) -> str:
    "Apply `change` to the prose of a Markdown text, leaving fenced blocks and code spans as they are."
    parts = re.split(r"(^[ \t]*(`{3,}|~{3,}).*?^[ \t]*\2[ \t]*$)", markdown, flags=re.S | re.M)
    out, i = [], 0
    while i < len(parts):
        out.append(change(parts[i]))
        if i + 1 < len(parts):
            out.append(parts[i + 1])
        i += 3
    return "".join(out)


def rewrite_notebook(path: Path, source: str, names: dict[str, str], numbers: dict[str, str]) -> None:
    "Rewrite links and equations in the Markdown of one notebook of the build copy."
    nb = json.loads(path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "raw":
            cell["source"] = re.sub(r"^output-file: .*\n", "", "".join(cell["source"]), flags=re.M)
        if cell["cell_type"] != "markdown":
            continue
        text = "".join(cell["source"])
        text = outside_code(text, lambda s: rewrite_equations(rewrite_links(s, source, names), numbers))
        cell["source"] = text
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = outside_code(
                cell["source"],
                lambda s: re.sub(r"(?<![\w`])@(eq-[\w-]+)", lambda m: f"[({numbers.get(m[1], m[1])})](#{m[1]})", s),
            )
    path.write_text(json.dumps(nb), encoding="utf-8")


def add_pages(root: Path, proc: Path, names: dict[str, str]) -> None:
    "The pages that are not notebooks: docs/pages and the changelog."
    for path in sorted((root / "docs" / "pages").glob("*.md")):
        text = path.read_text(encoding="utf-8").replace("](../../nbs/", "](")
        page = outside_code(text, functools.partial(rewrite_links, source=path.name, names=names))
        (proc / path.name).write_text(page, encoding="utf-8")
    for path in sorted((root / "docs" / "pages").glob("*.svg")):
        shutil.copy2(path, proc / path.name)
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    (proc / "changelog.md").write_text(re.sub(r"\A# (.+)\n", r"---\ntitle: \1\n---\n", changes), encoding="utf-8")


def add_reports(root: Path, proc: Path) -> set[str]:
    "The reports of runs that the repository keeps, one file each: they stay as they were written."
    names = {
        f"reports/{path.parent.name}.html": path for path in sorted((root / "docs" / "results").glob("*/report.html"))
    }
    (proc / "reports").mkdir(exist_ok=True)
    for name, path in names.items():
        shutil.copy2(path, proc / name)
    return set(names)


def title(path: Path) -> str:
    "What the sidebar calls a page."
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "".join((json.loads(text)["cells"] or [{"source": ""}])[0]["source"])
    found = re.search(r"^title: (.+)$", text, re.M) or re.search(r"^# (.+)$", text, re.M)
    return found[1].strip("'\" ") if found else path.stem


def configure(root: Path, proc: Path, names: dict[str, str]) -> None:
    "The options of the site, in the files Quarto reads as well."
    import configparser

    ini = configparser.ConfigParser(interpolation=None)
    ini.read(root / "settings.ini")
    cfg, contents, seen = ini["DEFAULT"], [], set()
    known = {p.relative_to(proc).as_posix() for p in proc.rglob("*") if p.suffix in (".ipynb", ".md")}
    for section, pages in MENU:
        found = [names.get(p, p) for p in pages if names.get(p, p) in known]
        seen |= set(found)
        entries = [{"text": title(proc / p) if p != "index.ipynb" else "Front page", "href": p} for p in found]
        if entries:
            contents += [{"section": section, "contents": entries}] if section else entries
    rest = sorted(p for p in known - seen if not Path(p).name.startswith("_"))
    if rest:
        contents.append({"section": "More", "contents": [{"text": title(proc / p), "href": p} for p in rest]})
    licence = cfg["license"].replace("apache2", "Apache License 2.0")
    options = {
        "project": {"type": "website", "output-dir": "_site"},
        "format": {
            "html": {
                "theme": {"light": "default", "dark": "bootstrap"},
                "css": "theme.css",
                "toc": True,
                "code-copy": True,
            }
        },
        "website": {
            "title": cfg["title"],
            "description": cfg["description"],
            "site-url": cfg["doc_host"] + cfg["doc_baseurl"],
            "repo-url": cfg["git_url"],
            "page-navigation": True,
            "favicon": "favicon.svg",
            "navbar": {"search": True, "right": [{"text": "Source", "href": cfg["git_url"]}]},
            "sidebar": {"style": "docked", "contents": contents},
            "page-footer": {"left": f"{cfg['title']} {cfg['version']}, {licence}"},
        },
    }
    (proc / "_quarto.yml").write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")
    for name in ("theme.css", "favicon.svg"):
        shutil.copy2(root / "docs" / name, proc / name)


# ---- the finished pages


def mathml(page: str, name: str) -> str:
    "TeX between \\( \\) and \\[ \\] becomes MathML; nothing is fetched to draw it."
    convert = LatexToMathML(fancy_error=False)

    def tex(source: str, display: bool) -> str:
        source = html.unescape(source).strip()
        try:
            return convert.convert_with_local_state(source, displaystyle=display)
        except LatexError as e:
            raise SiteError(f"{name}: TeX not understood: {source!r}: {e}") from e

    page = re.sub(r'<span class="math inline">\\\((.*?)\\\)</span>', lambda m: tex(m[1], False), page, flags=re.S)
    page = re.sub(
        r'<p><span class="math display">\\\[(.*?)\\\]</span></p>',
        lambda m: f'<div class="equation">{tex(m[1], True)}</div>',
        page,
        flags=re.S,
    )
    page = re.sub(r'<span class="math display">\\\[(.*?)\\\]</span>', lambda m: tex(m[1], True), page, flags=re.S)

    def numbered(m):
        number = f'<span class="number">({m[2]})</span>' if m[2] else ""
        return f'<div class="equation"{m[1]}>{tex(m[3], True)}{number}</div>'

    page = re.sub(
        r'<div class="equation"([^>]*?) data-number="([^"]*)">\\\[(.*?)\\\]</div>', numbered, page, flags=re.S
    )
    return re.sub(r'\s*<(link|script)\b[^>]*katex[^>]*>(</script>)?', "", page)


def finish_page(page: str, name: str, host: str) -> str:
    "One finished page: MathML, relative links, tables that scroll."
    up = "../" * name.count("/")
    page = mathml(page, name)
    page = re.sub(
        rf'(<a\b[^>]*\shref=")({re.escape(host)})/?([^"]*)"', lambda m: f'{m[1]}{up}{m[3] or "index.html"}"', page
    )
    page = re.sub(
        r'(<table\b(?![^>]*mtable).*?</table>)', r'<div class="table-scroll" tabindex="0">\1</div>', page, flags=re.S
    )
    return page


class Links(HTMLParser):
    "The ids of a page, what it links to and what it loads."

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"):
            self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("name"):
            self.ids.add(attrs["name"])
        if tag == "a" and attrs.get("href") is not None:
            self.links.append(attrs["href"])
        if tag in ("script", "img", "iframe", "source", "video") and attrs.get("src"):
            self.loads.append(attrs["src"])
        if tag == "link" and attrs.get("href") and attrs.get("rel") not in ("canonical",):
            self.loads.append(attrs["href"])


PARSED: dict[bytes, Links] = {}  # by the hash of a page's text


def read_links(text: str) -> Links:
    "As `Links`; a page that is read again is not parsed again, wherever it lies."
    key = hashlib.sha256(text.encode()).digest()
    if key not in PARSED:
        PARSED[key] = Links(text)
    return PARSED[key]


def link_to_classes(site: Path) -> None:
    "A method has no heading of its own: a link to it leads to its class."
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    ids = {path: read_links(text).ids for path, text in pages.items()}

    def link(m, path):
        target = (path.parent / unquote(m[1])).resolve() if m[1] else path
        known = ids.get(target, set())
        method = m[2]
        return m[0] if method in known or method.split(".")[0] not in known else f'href="{m[1]}#{method.split(".")[0]}"'

    for path, text in pages.items():
        fixed = re.sub(r'href="([^"#:]*)#([\w]+\.[\w.]+)"', functools.partial(link, path=path.resolve()), text)
        if fixed != text:
            path.write_text(fixed, encoding="utf-8")


def broken(site: Path) -> list[str]:
    "Every link, anchor and file that a page asks for and the site lacks, and what it would load from elsewhere."
    paths = sorted(site.rglob("*.html"))
    pages = {path.relative_to(site).as_posix(): read_links(path.read_text(encoding="utf-8")) for path in paths}
    found = []
    for name, page in pages.items():
        for href in page.loads:
            if href.startswith("data:"):
                continue
            if urlsplit(href).scheme or href.startswith("//"):
                found.append(f"{name}: loads {href} from elsewhere")
        for href in [*page.links, *page.loads]:
            url = urlsplit(href)
            if url.scheme or href.startswith("//"):
                continue
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(url.path))) if url.path else name
            )
            if (site / target).is_dir():
                target = posixpath.join(target, "index.html")
            if target.startswith("..") or url.path.startswith("/") or not (site / target).is_file():
                found.append(f"{name}: broken link {href}")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                found.append(f"{name}: no such anchor {href}")
    return found


def render(proc: Path) -> Path:
    "smalldocs over the processed notebooks; its warnings are errors."
    from smalldocs import highlight
    from smalldocs.site import build as smalldocs

    highlight.css_class = functools.cache(highlight.css_class)  # asked for half a million words, mostly the same
    made = smalldocs(proc, quiet=True)
    if made.warnings:
        raise SiteError("\n".join(made.warnings))
    return Path(made.out)


def build(root: Path = ROOT, out: Path | None = None) -> Path:
    "Build the site of the tree at `root`; returns the folder it is in."
    out = out or root / "_docs"
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp).resolve()
        copy_sources(root, work)
        proc = process(work)
        names = page_names(proc)
        for source, name in names.items():
            rewrite_notebook(proc / source, source, names, {})
            (proc / source).rename(proc / name)
        add_pages(root, proc, names)
        reports = add_reports(root, proc)
        configure(root, proc, names)
        site = render(proc)
        options = yaml.safe_load((proc / "_quarto.yml").read_text(encoding="utf-8"))
        for path in site.rglob("*.html"):
            name = path.relative_to(site).as_posix()
            if name not in reports:
                path.write_text(
                    finish_page(path.read_text(encoding="utf-8"), name, options["website"]["site-url"]),
                    encoding="utf-8",
                )
        link_to_classes(site.resolve())
        if found := broken(site):
            raise SiteError("\n".join(found))
        fresh = out.with_name(out.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(site, fresh)
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    return out


def main() -> int:
    "The command line."
    parser = argparse.ArgumentParser(description="Build the site, offline, from the notebooks as they were saved.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "_docs", help="folder of the site; replaced as a whole (default: _docs)"
    )
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    try:
        out = build(out=args.out)
    except SiteError as e:
        print(f"error: the site was not built:\n{e}", file=sys.stderr)
        return 1
    shown = os.path.relpath(out)
    print(f"{len(list(out.rglob('*.html')))} pages, start at {shown}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
