"""Where everything came from: the data's rows, the recipe's values, versions and hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.run.report_parts.facts import Facts

CLASSES = 20
"""Most classes in the picture of the training rows; the table of classes has them all."""


def data(facts: Facts) -> dict[str, Any]:
    """Rows by fate, parts, classes, notes, files, and examples of quarantined rows."""
    summary = (facts.manifest.get("data") or {}).get("summary") or {}
    if not summary:
        return {}
    fates = [(key, int(summary.get(key) or 0)) for key in ("used", "quarantined", "blank")]
    counts = summary.get("class_counts", {}).get("train", {})
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return {
        "read": summary.get("read"),
        "fates": _shares(fates),
        "splits": _shares([(part, int(size)) for part, size in summary.get("split_sizes", {}).items()]),
        "classes": [(label, size, size / max(ranked[0][1], 1)) for label, size in ranked[:CLASSES]],
        "more_classes": max(0, len(ranked) - CLASSES),
        "notes": [*summary.get("notes", ()), *([facts.cut] if facts.cut else [])],
        "files": [_file(entry) for entry in summary.get("files", ())],
        "quarantine": [_quarantined(row) for row in facts.quarantine],
        "reasons": facts.quarantine_reasons,
    }


def _shares(counts: list[tuple[str, int]]) -> list[tuple[str, int, float]]:
    total = max(1, sum(size for _, size in counts))
    return [(key, size, size / total) for key, size in counts]


def _file(entry: Any) -> dict[str, Any]:
    """A file's name, and all else that was found out about it as words."""
    if not isinstance(entry, Mapping):
        return {"name": entry, "found": []}
    key = next((k for k in ("file", "path", "name") if k in entry), None)
    found = [(k, plainly(v)) for k, v in entry.items() if k != key and v not in (None, "", {}, [])]
    return {"name": entry[key] if key else "", "found": found}


def _quarantined(row: Mapping[str, Any]) -> dict[str, Any]:
    raw = next((row[k] for k in ("raw", "row") if k in row), "")
    return {
        "file": row.get("file", ""),
        "line": row.get("line", ""),
        "reason": row.get("reason", ""),
        "raw": plainly(raw),
    }


def recipe(facts: Facts) -> list[tuple[str, str, str]]:
    """Every setting as (dotted path, value, where it came from)."""
    origins = facts.manifest.get("origins") or {}
    return [(path, plainly(value), str(origins.get(path, ""))) for path, value in flat(facts.recipe)]


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A nested mapping as dotted paths and values; lists stay whole."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, value


def plainly(value: Any) -> str:
    """A value as a recipe would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {plainly(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plainly, value))
    return str(value)


def origins(facts: Facts) -> list[tuple[str, str]]:
    """Versions, threads, seed, model and hashes as (name, value): what a repeat of the run needs."""
    manifest = facts.manifest
    rows = [(str(k), plainly(v)) for k, v in (manifest.get("versions") or {}).items()]
    rows += [(key, plainly(manifest[key])) for key in ("seed", "threads") if key in manifest]
    for part in ("model", "data", "split"):
        held = manifest.get(part) or {}
        if isinstance(held, Mapping):
            rows += [(p, plainly(v)) for p, v in flat({part: {k: v for k, v in held.items() if k != "summary"}})]
    return rows
