"""Who imports whom: no module imports itself by way of others, be it at its top or inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules() -> dict[str, Path]:
    paths = [*(ROOT / "longgen").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(node: ast.AST) -> Iterator[str]:
    """Names that running ``node`` imports: not those that only type checkers read."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def graph(found: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> modules that it imports, packages on the way to them among them, except those that it is in."""
    edges: dict[str, set[str]] = {name: set() for name in found}
    for module, path in found.items():
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            parts = name.split(".")
            ways = {".".join(parts[:count]) for count in range(2, len(parts) + 1)} & found.keys()
            edges[module] |= {way for way in ways if way != module and not module.startswith(f"{way}.")}
    return edges


def test_no_module_imports_itself_by_way_of_others():
    edges = graph(modules())
    assert len(edges) > 300 and "longgen.pattern" in edges["longgen.hybrid"], "the graph is not read"
    TopologicalSorter(edges).prepare()  # raises CycleError, which names the modules


def test_no_package_imports_itself_by_way_of_others():
    packages: dict[str, set[str]] = {}
    for module, imports in graph(modules()).items():
        package = ".".join(module.split(".")[:2])
        packages.setdefault(package, set()).update({".".join(name.split(".")[:2]) for name in imports} - {package})
    assert {"longgen.attention", "longgen.hybrid"} <= packages["longgen.modeling"], "the graph is not read"
    TopologicalSorter(packages).prepare()  # raises CycleError, which names the packages


def test_no_folder_of_the_repository_hides_a_package_of_others():
    """`kernels` is one on PyPI, which transformers looks for: if ours were a package, it would get that from here."""
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == {"longgen", "tests"}


def test_a_circle_is_seen(tmp_path):
    texts = {
        "longgen.a": "from longgen.b import c\n",
        "longgen.b.c": "def f():\n    import longgen.d\n",
        "longgen.b": "",
        "longgen.d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from longgen.a import x\n",
    }
    found = {name: tmp_path / name for name in texts}
    for name, text in texts.items():
        found[name].write_text(text)
    assert graph(found) == {
        "longgen.a": {"longgen.b", "longgen.b.c"},
        "longgen.b.c": {"longgen.d"},
        "longgen.b": set(),
        "longgen.d": set(),
    }
