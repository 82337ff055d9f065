"""MkDocs' hook: the site is the repository's pages and what they link to, at the same paths.

Links are therefore the same in the site and where the repository is browsed, README.md is the front page, and nothing
stands twice. A file that is no page itself (a source, a configuration) gets one that shows it, a folder one that lists
its files, and the pictures of every published run one with their captions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FIGURES = PurePosixPath("paper_figures/published")
CAPTIONS = ROOT / "workflows" / "report"
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
# As they are, not as a page that shows them.
_SERVED = {".csv", ".ipynb", ".json", ".pdf", ".png"}
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".sh": "sh"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of published runs to the navigation, below `paper_figures/published/index.md`."""
    for section in config.nav:
        for entry in section.get("Results", []):
            if "Figures" in entry:
                entry["Figures"] += [{run.name: f"{run}/index.md"} for run in _runs()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files: pages by hand, pages of published runs, and whatever they link to."""
    pages = {path: _read(path) for path in _written_pages()}
    pages |= {run / "index.md": _gallery(run) for run in _runs()}
    pages[FIGURES / "index.md"] = _overview()
    linked = [path for run in _runs() for path in _files(run) if path.suffix in _SERVED]
    for page, text in list(pages.items()):
        pages[page] = _LINK.sub(lambda link, page=page: _target(page, link[1], pages, linked), text)
    shown: set[PurePosixPath] = set()
    while linked:
        path = linked.pop()
        if path in shown:
            continue
        shown.add(path)
        if (ROOT / path).is_dir():
            pages[path / "index.md"] = _listing(path, pages)
            linked += [file for file in _files(path) if file not in pages]
        elif path.suffix in _SERVED:
            files.append(File.generated(config, str(path), abs_src_path=str(ROOT / path)))
        else:
            pages[_page_of(path)] = _source(path)
    for file in [file for file in files if file.src_uri.endswith((".md", ".py"))]:
        files.remove(file)
    for path, text in pages.items():
        files.append(File.generated(config, str(path), content=text))
    return files


def _written_pages() -> Iterator[PurePosixPath]:
    for pattern in ("*.md", "docs/*.md", "docs/api/*.md", f"{FIGURES}/**/*.md"):
        yield from sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in ROOT.glob(pattern))


def _runs() -> list[PurePosixPath]:
    return [FIGURES / path.name for path in sorted((ROOT / FIGURES).iterdir()) if path.is_dir()]


def _files(folder: PurePosixPath) -> list[PurePosixPath]:
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in found)


def _read(path: PurePosixPath) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _target(page: PurePosixPath, link: str, pages: dict[PurePosixPath, str], linked: list[PurePosixPath]) -> str:
    """What ``link`` of ``page`` becomes; what it leads to, if that is no page, is added to ``linked``."""
    file = (ROOT / page.parent / link).resolve()
    if not file.is_relative_to(ROOT) or not file.exists():
        return link  # which MkDocs reports
    path = PurePosixPath(file.relative_to(ROOT).as_posix())
    if file.is_dir():
        if path / "index.md" not in pages:
            linked.append(path)
        return f"{link.rstrip('/')}/index.md"
    if path in pages:
        return link
    linked.append(path)
    return link if path.suffix in _SERVED else str(_page_of(PurePosixPath(link)))


def _page_of(path: PurePosixPath) -> PurePosixPath:
    return path.with_name(f"{path.name}.md")


def _source(path: PurePosixPath) -> str:
    fence = "~~~~"
    language = _LANGUAGES.get(path.suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n{fence}{language}\n{_read(path)}{fence}\n"


def _listing(folder: PurePosixPath, pages: Collection[PurePosixPath]) -> str:
    lines = []
    for path in _files(folder):
        name = path.relative_to(folder)
        target = name if path.suffix in _SERVED or path in pages else _page_of(name)
        lines.append(f"- [{name}]({target})")
    return "\n".join([f"# {folder}", "", *lines, ""])


def _overview() -> str:
    """The page that leads to those of the published runs."""
    lines = [
        "# Published figures",
        "",
        "Drawn by `make figures` from [the tracked results](../../results/published):",
        "",
    ]
    lines += [f"- [{run.name}]({run.name}/index.md): {_contents(run)}" for run in _runs()]
    return "\n".join([*lines, "", "[The ledger of claims](claims.md) is about all of them.", ""])


def _contents(run: PurePosixPath) -> str:
    suffixes = [path.suffix for path in _files(run)]
    counts = {"figure": suffixes.count(".png"), "table": suffixes.count(".md")}
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count)


def _gallery(run: PurePosixPath) -> str:
    """The figures of a run with the captions of its report, and links to its tables."""
    files = _files(run)
    lines = [f"# {run.name}", ""]
    tables = [path.stem for path in files if path.suffix == ".md"]
    if tables:
        lines += ["Tables: " + ", ".join(f"[{_title(name)}]({name}.md)" for name in tables) + ".", ""]
    for name in (path.stem for path in files if path.suffix == ".png"):
        lines += [f"## {_title(name)}", "", _caption(name), "", f"![{_title(name)}]({name}.png)", ""]
        lines += [f"[PDF]({name}.pdf) · [what is drawn, as CSV]({name}.csv)", ""]
    return "\n".join(lines)


def _title(name: str) -> str:
    caption = CAPTIONS / f"{name}.rst"
    return caption.read_text(encoding="utf-8").splitlines()[0] if caption.is_file() else name


def _caption(name: str) -> str:
    caption = CAPTIONS / f"{name}.rst"
    return "\n".join(caption.read_text(encoding="utf-8").splitlines()[2:]).strip() if caption.is_file() else ""
