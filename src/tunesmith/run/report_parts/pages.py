"""What every page is made with: templates that escape all that is not our own mark-up, numbers in words, one style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.run.report_parts import words

FILTERS = (words.score, words.signed, words.span, words.count, words.large, words.seconds, words.mebibytes, words.share,
           words.name, words.chance, words.brief, words.ending)  # fmt: skip


def environment(folder: Path) -> Environment:
    """Templates of `folder`; `cut` makes foreign text visible, the other filters are those of `words`, by name."""
    page = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {f.__name__: f for f in FILTERS} | {"cut": words.shown}
    return page


def style_of(*sheets: Path) -> Markup:
    """The style sheets as one text, to stand in the page."""
    return Markup("".join(sheet.read_text(encoding="utf-8") for sheet in sheets))


def _visible(value: Any) -> Any:
    """Every printed expression passes here before it is escaped: only our own mark-up stays as it is."""
    return value if isinstance(value, Markup) else words.shown("" if value is None else value)
