"""Griffe's extension: names in single backticks of docstrings lead to where the site has them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")


class Crossrefs(griffe.Extension):
    """A name is looked up where the docstring stands, as Python would, or is a full path."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Make links of ``obj``'s docstring."""
        if obj.docstring:
            obj.docstring.value = _NAME.sub(lambda name: _link(obj, name[1]), obj.docstring.value)


def _link(scope: griffe.Object, name: str) -> str:
    head, _, rest = name.partition(".")
    try:
        path = scope.resolve(head) + (f".{rest}" if rest else "")
    except griffe.NameResolutionError:
        path = name
    # optional: of names that no page is about, or that are no names of Python, the text stays
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'
