"""Write the table of keys in `docs/recipes.md` from the options themselves.

Run after a change to an option: `python docs/recipe_keys.py`. A test fails while the page and the options differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from tunesmith.data.options import DataOptions
from tunesmith.methods.base import registry as methods
from tunesmith.plugin import Options, Plugin
from tunesmith.recipe.forgetting import OldTask
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.wanted import members, wanted
from tunesmith.retention.base import registry as retentions
from tunesmith.tasks.base import registry as tasks

PAGE = Path(__file__).parent / "recipes.md"
START, END = "<!-- keys: written by docs/recipe_keys.py -->", "<!-- end of keys -->"
HEAD = "| key | default | takes | meaning |\n|---|---|---|---|"


def table() -> str:
    """Every key of a recipe, a table a section; methods' own options stand on their pages."""
    parts = [START]
    for section, field in Recipe.model_fields.items():
        parts += [f"### {section}", "", f"{(field.description or '').capitalize()}.", ""]
        if section == "task":
            for name in tasks.names():
                parts += [f"For [`{name}`](tasks/{name}.md):", "", HEAD, *_rows(section, tasks.get(name)), ""]
        elif section == "method":
            pages = ", ".join(f"[`{name}`](methods/{name}.md)" for name in methods.names())
            parts += [f"`method.name` is one of these; the options of each are on its page: {pages}.", ""]
        elif section == "retention":
            pages = ", ".join(f"[`{name}`](retentions/{name}.md)" for name in retentions.names())
            parts += [f"`retention.name` is one of these; the options of each are on its page: {pages}.", ""]
        else:
            kind = _inner(field.annotation)
            if section == "forgetting":
                parts += ["Of each old task:", "", HEAD, *_rows("forgetting.old_tasks.[]", OldTask), ""]
            if kind is not None:
                parts += [HEAD, *_rows(section, kind), ""]
            else:
                parts += [HEAD, _row(section, field), ""]
    return "\n".join([*parts, END])


def _rows(section: str, kind: type[Options]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        inner = _inner(field.annotation)
        if inner is not None and issubclass(inner, Plugin | DataOptions) and section.endswith("[]"):
            yield _row(f"{section}.{name}", field)  # as the section of that name, described there
        elif inner is not None:
            yield from _rows(f"{section}.{name}", inner)
        else:
            yield _row(f"{section}.{name}", field)


def _row(path: str, field: FieldInfo) -> str:
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    written = value if isinstance(value, str) else json.dumps(value, default=lambda task: task.source)
    default = "needed" if field.is_required() else f"`{written}`"
    cells = (f"`{path}`", default, wanted(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _inner(annotation: object) -> type[Options] | None:
    kinds = [kind for kind, _ in members(annotation)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Options)), None)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    old = re.compile(re.escape(START) + ".*" + re.escape(END), re.DOTALL)
    PAGE.write_text(old.sub(lambda _: table(), text), encoding="utf-8")
