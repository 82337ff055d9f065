"""The documentation's site: built strictly (no broken link, no missing anchor), whole, and without the network."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import longgen

ROOT = Path(__file__).parents[1]
FIGURES = Path("paper_figures/published")
# What a browser loads by itself; links to other pages may lead anywhere.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Loads(HTMLParser):
    """What a page loads."""

    def __init__(self, page: Path):
        super().__init__()
        self.sources: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.sources |= {value for name, value in attributes if (tag, name) in LOADED and value}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("MkDocs is not installed: `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for source in Loads(page).sources:
            assert not re.match(r"(\w+:)?//", source), f"{page} loads {source}"
            if not source.startswith("/"):  # of the page of errors, which may stand anywhere
                assert (page.parent / source.partition("?")[0]).exists(), f"{page} lacks {source}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_published_figure_is_shown_on_the_page_of_its_run(site):
    runs = [run for run in (ROOT / FIGURES).iterdir() if run.is_dir()]
    assert runs
    for run in runs:
        shown = Loads(site / FIGURES / run.name / "index.html").sources
        assert {path.name for path in run.glob("*.png")} <= shown, run


def test_the_readme_is_the_front_page_and_its_links_stay_inside(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert '<h2 id="two-commands">' in page
    assert 'href="docs/results.html"' in page and 'href="results/published/smollm2-cpu/index.html"' in page


def test_every_page_stands_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    written = [path.relative_to(ROOT) for name in ("*.md", "docs/*.md", "docs/api/*.md") for path in ROOT.glob(name)]
    missing = [str(path) for path in written if not re.search(rf"[ \[]{re.escape(str(path))}\b", navigation)]
    assert not missing, "mkdocs.yml"


def test_the_api_has_every_name_of_the_face_and_runs():
    page = (ROOT / "docs/api/index.md").read_text(encoding="utf-8")
    assert {name for name in longgen.__all__ if f"[`{name}`][" in page} == set(longgen.__all__)
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
