"""Write `docs/methods/NAME.md` for every method: its module's docstring and a table of its options.

Run after a change to a method: `python docs/method_pages.py`. A test fails while page and method differ.
"""

from __future__ import annotations

from pathlib import Path

from tunesmith.methods.base import registry

FOLDER = Path(__file__).parent / "methods"


def page(name: str) -> str:
    """The page of one method, in Markdown."""
    method = registry.get(name)
    first, _, rest = registry.page(name).partition("\n")
    lines = [f"# {name}", "", first, rest.rstrip(), "", "## In a recipe", "", "```yaml", "method:", f"  name: {name}"]
    lines += [f"  {option}: {_yaml(field['default'])}" for option, field in _options(name).items()] + ["```", ""]
    if _options(name):
        lines += ["| option | default | limits | meaning |", "|---|---|---|---|"]
        for option, field in _options(name).items():
            cells = (f"`{option}`", f"`{_yaml(field['default'])}`", _limits(field), field.get("description", ""))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(f"Learning rate: {method.learning_rate:g} ({method.learning_rate_source}).")
    return "\n".join(lines) + "\n"


def _options(name: str) -> dict[str, dict]:
    return registry.get(name).model_json_schema().get("properties", {})


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
            high = f"below {part['exclusiveMaximum']}" if "exclusiveMaximum" in part else f"{part.get('maximum')}"
            found.append(f"{low} {high}" if "minimum" in part else f"{low} up to {high}")
        elif part.get("type") == "boolean":
            found.append("true, false")
        elif part.get("type") == "string":
            found.append("text")
    return " or ".join(found)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for method_name in registry.names():
        (FOLDER / f"{method_name}.md").write_text(page(method_name), encoding="utf-8")
