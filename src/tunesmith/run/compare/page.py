"""The page of a comparison: one file that tells at a glance which method to use, and how sure that is.

Style and pictures inline, no script, nothing from the network, light or dark as the reader's system is; the same
comparison gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.charts import axis_of, pictures, reach
from tunesmith.run.compare.comparable import none_shared
from tunesmith.run.compare.verdict import Pair, Row, comparable, lower_is_better
from tunesmith.run.compare.verdict_words import amount
from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.facts import name_of
from tunesmith.run.report_parts.pages import environment, style_of
from tunesmith.train.checkpoint import write_atomically
from tunesmith.types import Interval

HOW = (
    "Runs are scored on the same test examples, but for rows that the verdict names; seeds differ in the training "
    "alone (start of the new head, order of the examples, dropout), never in which examples are held out.",
    "Intervals hold two sources of chance: other test examples (resampled) and, from two runs a row on, other seeds "
    "(their own spread, with t quantiles). They lie rather too wide than too narrow.",
    "Two rows are compared on the same resamples of the same examples; where the score is a share of right answers, "
    "a permutation test must agree. “As good as” means that the whole interval of the difference lies within 0.02.",
    "“Beaten by none” goes by the means alone, without their intervals. Memory is the most that a run's process held, "
    "with the program itself; time is that of the training steps.",
)


def write_page(
    file: Path,
    recipe: Recipe,
    *,
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    sentences: Sequence[str],
    over: Sequence[str],
    notes: Sequence[str],
) -> Path:
    """Write the page to `file`, in one rename. DiskError where the disk refuses."""
    here = Path(__file__).parent
    style = style_of(here.parent / "report.css", here / "compare.css")
    told = context(rows, pairs, recipe) | {"sentences": list(sentences[1:]), "over": _joined(over)}
    told["title"], told["figures"] = _headline(sentences[0])
    told["how"] = [*notes, *HOW, *_definitions(rows)]
    name = file.resolve().parent.name
    write_atomically(file, environment(here).get_template("compare.html.j2").render(style=style, name=name, **told))
    return file


def context(rows: Sequence[Row], pairs: Sequence[Pair], recipe: Recipe) -> dict[str, Any]:
    """Everything that the template shows but for the words that come ready."""
    lower = any(lower_is_better(row) for row in rows)
    scored = [number for number, row in enumerate(rows) if row.score is not None]
    compared = comparable(rows)
    ranked = sorted(
        scored, key=lambda n: (n not in compared, bool(rows[n].broken), _value(rows[n]) * (1 if lower else -1))
    )
    shown = [rows[number] for number in ranked]
    olds = _olds(shown)
    axis = axis_of(shown)
    gaps = [_gap(rows, pair, lower) for pair in _ordered(pairs, ranked)]
    alone = none_shared([row.runs for row in rows])
    best = rows[ranked[0]].name if ranked and not rows[ranked[0]].broken and not alone else ""
    return {
        "about": _about(recipe, rows),
        "metric": words.name(_metric(shown[0])) if shown else "",
        "retained": any(row.retention != "none" for row in rows),
        "olds": olds,
        "axis": axis,
        "rows": [_row(row, olds, axis) for row in shown],
        "failed": list(_failed(rows)),
        "failures": sum(len(row.failed) for row in rows),
        "missing": sum(row.missing for row in rows),
        "pictures": pictures([rows[number] for number in ranked if number in compared], olds),
        "glance": f"The best place is {'below' if lower else 'above'} and left.",
        "best": best,
        "single": all(len(row.runs) == 1 for row in shown),
        "tests": sum(not math.isnan(pair.p) for pair in pairs),
        "against": [gap for gap in gaps if gap["second"] == best],
        "all_pairs": gaps,
        "runs": list(_runs(shown, olds)),
        "recipe": list(_flat(recipe.as_dict())),
    }


def _headline(sentence: str) -> tuple[str, str]:
    """The first sentence without the figures in its brackets, and those, which stand below it."""
    before, opened, rest = sentence.partition(" (")
    figures, closed, after = rest.rpartition(")") if ");" not in rest else rest.partition(")")
    if not (opened and closed):
        return sentence, ""
    return before + after, f"{figures[:1].upper()}{figures[1:]}."


def _failed(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    """Row, seeds and reason of what failed; seeds that failed alike stand together."""
    for row in rows:
        for reason in dict.fromkeys(reason for _, reason in row.failed):
            yield row.name, ", ".join(str(seed) for seed, why in row.failed if why == reason), reason


def _about(recipe: Recipe, rows: Sequence[Row]) -> list[tuple[str, str]]:
    settings = recipe.as_dict()
    model = name_of(settings["model"])
    runs = [run for row in rows for run in row.runs]
    told = [
        ("task", name_of(settings["task"]).replace("_", " ")),
        ("model", Path(model).name if Path(model).is_absolute() else model),
        ("data", Path(settings["data"]["path"]).name),
        ("runs", str(len(runs))),
        ("test examples", f"{runs[0].examples:,}" if runs and runs[0].examples else ""),
    ]
    return [(key, value) for key, value in told if value]


def _olds(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Old tasks that any row has, with the unit that their forgetting is said in."""
    first = {name: row for row in reversed(rows) for name in row.forgetting}
    first = {name: row for row in reversed(rows) for name in row.broken} | first
    names = dict.fromkeys(name for row in rows for name in (*row.forgetting, *row.broken))
    return [{"name": name, "unit": amount(first[name], name, 0.0)[1]} for name in names]


def _row(row: Row, olds: Sequence[Mapping[str, str]], axis: tuple[float, float] | None) -> dict[str, Any]:
    assert row.score is not None
    seeds = len(row.runs)
    lacking = len(row.failed) + row.missing
    told = f"{seeds} seed{'s' if seeds > 1 else ''}" + (f" of {seeds + lacking}" if lacking else "")
    if row.spread is not None:
        told += f", ± {row.spread:.3f}"
    return {
        "method": row.method,
        "retention": row.retention,
        "seeds": told,
        "front": row.on_front,
        "score": row.score.value,
        "span": words.span([row.score.low, row.score.high]),
        "picture": reach(row, axis),
        "forgetting": [_lost(row, old["name"]) for old in olds],
        "learned": row.cost.get("learned"),
        "seconds": row.cost.get("seconds"),
        "peak": row.cost.get("peak_mib"),
        "file": row.cost.get("file_mib"),
    }


def _lost(row: Row, task: str) -> dict[str, str]:
    found = row.forgetting.get(task)
    if found is None:
        return {"value": "no number" if task in row.broken else "–", "span": ""}
    ends = [amount(row, task, end)[0] for end in (found.low, found.high) if not math.isnan(end)]
    return {"value": amount(row, task, found.value)[0], "span": f"[{ends[0]}, {ends[1]}]" if len(ends) == 2 else ""}


def _ordered(pairs: Sequence[Pair], ranked: Sequence[int]) -> list[Pair]:
    """The pairs with the worse row first, those against the best before all others."""
    place = {number: rank for rank, number in enumerate(ranked)}
    turned = []
    for pair in pairs:
        gap = pair.difference
        if place[pair.first] < place[pair.second]:
            gap = Interval(-gap.value, -gap.high, -gap.low, gap.share)
            pair = Pair(pair.second, pair.first, gap, pair.p, pair.holm, pair.paired)
        turned.append(pair)
    return sorted(turned, key=lambda pair: (place[pair.second], place[pair.first]))


def _gap(rows: Sequence[Row], pair: Pair, lower: bool) -> dict[str, Any]:
    gap, known = pair.difference, not math.isnan(pair.p)
    better = (gap.value < 0) == lower
    word = ("better" if better else "worse") if pair.real else "within chance" if known else "not comparable"
    p = "–" if not known else "< 0.001" if pair.holm < 0.001 else f"{pair.holm:.3f}"
    return {
        "first": rows[pair.first].name,
        "second": rows[pair.second].name,
        "value": gap.value,
        "span": "–" if math.isnan(gap.low) else f"{words.signed(gap.low)} to {words.signed(gap.high)}",
        "p": p + ("" if pair.paired or not known else " (unpaired)"),
        "kind": word if word in ("better", "worse") else "",
        "word": word,
    }


def _runs(rows: Sequence[Row], olds: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for run in row.runs:
            cost = run.scores.get("cost") or {}
            lost = []
            for old in olds:
                held = ((run.scores.get("old_tasks") or {}).get(old["name"]) or {}).get("forgetting") or {}
                lost.append(tuple(_first(row, old["name"], held.get(key)) for key in ("initial_minus_last", "off")))
            yield {"name": row.name, "seed": run.seed, "value": run.value, "lost": lost, "folder": run.folder.name,
                   "seconds": cost.get("seconds"), "peak": cost.get("peak_mib")}  # fmt: skip


def _first(row: Row, task: str, told: Any) -> str:
    value = told[0] if isinstance(told, list) and told else told
    if isinstance(value, int | float) and math.isnan(value):
        return "no number"
    return amount(row, task, float(value))[0] if isinstance(value, int | float) else "–"


def _definitions(rows: Sequence[Row]) -> list[str]:
    tasks = {
        name: task for row in rows for run in row.runs for name, task in (run.scores.get("old_tasks") or {}).items()
    }
    return [f"{name}: {task['definition']}" for name, task in tasks.items() if task.get("definition")]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, "none" if value is None else value


def _metric(row: Row) -> str:
    return str(row.runs[0].scores["main_score"]["name"])


def _value(row: Row) -> float:
    return math.nan if row.score is None else row.score.value


def _joined(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
