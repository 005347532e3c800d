"""Write `docs/methods/NAME.md` for every method and `docs/retentions/NAME.md` for every retention: its module's
docstring and a table of its options.

Run after a change to one: `python docs/method_pages.py`. A test fails while page and plugin differ.
"""

from __future__ import annotations

from pathlib import Path

from tunesmith.methods.base import registry as methods
from tunesmith.plugin import Registry
from tunesmith.retention.base import registry as retentions

FOLDERS = {"method": Path(__file__).parent / "methods", "retention": Path(__file__).parent / "retentions"}
REGISTRIES: dict[str, Registry] = {"method": methods, "retention": retentions}


def page(name: str, section: str = "method") -> str:
    """The page of one method or retention, in Markdown."""
    registry = REGISTRIES[section]
    plugin, options = registry.get(name), _options(name, section)
    first, _, rest = registry.page(name).partition("\n")
    head = [f"# {name}", "", first, rest.rstrip(), "", "## In a recipe", "", "```yaml", f"{section}:"]
    lines = [*head, f"  name: {name}"]
    lines += [f"  {option}: {_yaml(field['default'])}" for option, field in options.items()] + ["```", ""]
    if options:
        lines += ["| option | default | limits | meaning |", "|---|---|---|---|"]
        for option, field in options.items():
            cells = (f"`{option}`", f"`{_yaml(field['default'])}`", _limits(field), field.get("description", ""))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if section == "method":
        power = "the root of {0} / width" if plugin.adapter else "{0} / width"
        lines.append(f"Learning rate: {plugin.learning_rate:g} ({plugin.learning_rate_source}).")
        lines.append(f"Classifiers of texts that are wider than 384 take it times {power.format(384)}.")
        for kind, what in (("vision", "pictures"), ("language", "language models")):
            rate, source = getattr(plugin, f"{kind}_learning_rate"), getattr(plugin, f"{kind}_learning_rate_source")
            if rate is not None:
                lines.append(f"For {what}: {rate:g} ({source}).")
        if not plugin.only_head:
            lines.append(f"Language models that are wider than 576 take it times {power.format(576)}.")
    return "\n".join(lines).rstrip() + "\n"


def _options(name: str, section: str) -> dict[str, dict]:
    return REGISTRIES[section].get(name).model_json_schema().get("properties", {})


def _yaml(value: object) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _limits(field: dict) -> str:
    found = []
    for part in field.get("anyOf", [field]):
        if "enum" in part:
            found.append(", ".join(part["enum"]))
        elif "const" in part:
            found.append(part["const"])
        elif part.get("type") == "array":
            found.append("a list")
        elif part.get("type") in ("integer", "number"):
            low = f"{part['minimum']} to" if "minimum" in part else f"above {part.get('exclusiveMinimum')},"
            high = f"below {part['exclusiveMaximum']}" if "exclusiveMaximum" in part else part.get("maximum")
            if high is None:
                found.append(f"at least {part['minimum']}" if "minimum" in part else low.rstrip(","))
            else:
                found.append(f"{low} {high}" if "minimum" in part else f"{low} up to {high}")
        elif part.get("type") == "boolean":
            found.append("true, false")
        elif part.get("type") == "string":
            found.append("text")
    return " or ".join(found)


if __name__ == "__main__":
    for kind, folder in FOLDERS.items():
        folder.mkdir(exist_ok=True)
        for each in REGISTRIES[kind].names():
            (folder / f"{each}.md").write_text(page(each, kind), encoding="utf-8")
