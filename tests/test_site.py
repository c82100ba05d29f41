"The site builds offline, every link in it leads somewhere, and every page opens in a browser without a word."

import functools
import http.server
import importlib.util
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import Browser, chromium, complaints, requests

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def builder():
    "docs/build.py as a module; it remembers the links of pages that it has read."
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    "The site of this tree."
    return builder().build(out=tmp_path_factory.mktemp("site") / "_docs")


@pytest.fixture(scope="module")
def served(site):
    "The site at an address of this machine."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/", folder=site)
    server.shutdown()


def test_every_notebook_has_a_page_and_every_link_a_target(site):
    build = builder()
    assert build.broken(site) == []
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        if any(p.startswith((".", "_")) for p in notebook.relative_to(ROOT / "nbs").parts):
            continue
        name = notebook.relative_to(ROOT / "nbs").with_suffix(".html").as_posix()
        parts = name.rsplit("/", 1)
        parts[-1] = parts[-1].split("_", 1)[-1] if parts[-1][:2].isdigit() else parts[-1]
        assert (site / "/".join(parts)).is_file(), name


def test_exported_code_can_be_unfolded(site):
    page = (site / "utilities" / "seeds.html").read_text(encoding="utf-8")
    assert '<details class="exported">' in page and "default_rng" in page


def test_reports_of_runs_stand_in_the_site(site):
    pages = "".join((site / name).read_text(encoding="utf-8") for name in ("results.html", "hospitals.html"))
    for report in (ROOT / "docs" / "results").glob("*/report.html"):
        assert (site / "reports" / f"{report.parent.name}.html").read_bytes() == report.read_bytes()
        assert f'href="reports/{report.parent.name}.html"' in pages


def test_sentences_below_the_title_are_kept(site):
    assert "few hundred labelled" in (site / "index.html").read_text(encoding="utf-8")


def test_no_tex_and_no_label_is_left(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "math inline" not in text and "katex" not in text and "{#eq-" not in text, path.name


def test_a_broken_link_and_a_missing_anchor_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">b</a><a href="#here">here</a><a href="c.html#x">x</a><img src="https://example.org/x.png">'
    )
    (tmp_path / "c.html").write_text('<p id="y">')
    assert [f.split(": ", 1)[1] for f in builder().broken(tmp_path)] == [
        "loads https://example.org/x.png from elsewhere",
        "broken link b.html",
        "no such anchor #here",
        "no such anchor c.html#x",
    ]


def test_equations_get_numbers_anchors_and_links():
    build, numbers = builder(), {}
    text = build.rewrite_equations("Before\n$$a = b \\tag{2}$$ {#eq-two}\nafter", numbers)
    assert numbers == {"eq-two": "2"} and 'id="eq-two"' in text and "\\tag" not in text
    page = build.mathml('<div class="equation" id="eq-two" data-number="2">\\[a = b\\]</div>', "p")
    assert "<math" in page and "(2)" in page
    with pytest.raises(build.SiteError, match="TeX not understood"):
        build.mathml('<span class="math inline">\\(\\nonsense\\)</span>', "p")


def test_links_between_notebooks_become_links_between_pages():
    rewrite = builder().rewrite_links
    names = {"00_data.ipynb": "data.ipynb", "sources/synthetic.ipynb": "sources/synthetic.ipynb"}
    assert rewrite("[d](00_data.ipynb#the-grid)", "index.ipynb", names) == "[d](data.ipynb#the-grid)"
    assert rewrite("[d](../00_data.ipynb)", "sources/synthetic.ipynb", names) == "[d](../data.ipynb)"
    assert rewrite("[r](results.ipynb)", "index.ipynb", names) == "r"
    assert rewrite("[c](../CHANGELOG.md)", "index.ipynb", names) == "[c](changelog.md)"
    assert (
        rewrite("[r](../docs/results/physionet2012/report.html)", "results.ipynb", names)
        == "[r](reports/physionet2012.html)"
    )
    assert rewrite("[e](https://example.org/a.ipynb)", "index.ipynb", names) == "[e](https://example.org/a.ipynb)"


def pages_to_open(folder: Path, every: bool) -> list[Path]:
    "All pages, or those of the front, the chapters and the smallest report, and the largest page of each folder."
    pages = sorted(folder.rglob("*.html"), key=lambda path: path.stat().st_size)
    if every:
        return pages
    of_folder = {path.parent: path for path in pages if path.parent.name != "reports"}
    reports = [path for path in pages if path.parent.name == "reports"][:1]
    return list(dict.fromkeys([*folder.glob("*.html"), *of_folder.values(), *reports]))


def every_and_some(test):
    "A test of the pages that show each kind of content, and, among the slow ones, of every page."
    test = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])(test)
    return pytest.mark.skipif(chromium() is None, reason="needs a Chromium (Debian: apt install chromium)")(test)


@every_and_some
def test_pages_open_in_a_browser(served, every):
    with Browser() as browser:
        for path in pages_to_open(served.folder, every):
            name = path.relative_to(served.folder).as_posix()
            events = browser.open(served.url + name)
            assert complaints(events) == [], name
            assert [r for r in requests(events) if not r.startswith((served.url, "data:"))] == [], name
            assert browser.value("document.querySelector('h1').innerText.length") > 0, name
            assert browser.value("document.documentElement.scrollWidth <= innerWidth + 1"), (
                f"{name} is wider than the window"
            )


@pytest.mark.skipif(chromium() is None, reason="needs a Chromium (Debian: apt install chromium)")
def test_search_finds_a_word(served):
    with Browser() as browser:
        browser.open(served.url + "index.html")
        typed = "i.focus(); i.value = 'bootstrap'; i.dispatchEvent(new Event('input', {bubbles: true}))"
        browser.value(f"(i => {{{typed}}})(document.querySelector('.smalldocs-search input'))")
        for _ in range(40):
            while browser.read(0.25) is not None:
                pass
            if found := browser.value(
                "[...document.querySelectorAll('.smalldocs-search-results a')].map(a => a.innerText)"
            ):
                break
        assert found


@every_and_some
def test_a_phone_does_not_scroll_sideways(served, every):
    with Browser() as browser:
        browser.ask(
            "Emulation.setDeviceMetricsOverride",
            browser.session,
            width=390,
            height=800,
            deviceScaleFactor=1,
            mobile=True,
        )
        for path in pages_to_open(served.folder, every):
            browser.open(served.url + path.relative_to(served.folder).as_posix(), quiet=0.1)
            assert browser.value("document.documentElement.scrollWidth <= 391"), path.name
