"""The report: one page, one file, that tells what a run gained and what it cost.

It reads only the run folder and writes `report.html` into it: style and pictures inline, no script, nothing from the
network (a content security policy in the page forbids it), light or dark as the reader's system is. The same folder
gives the same bytes. A run that is still going gives a page of what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import DiskError
from tunesmith.run.report_parts import (
    answers,
    calibration,
    detection,
    forecast,
    forgotten,
    origins,
    pages,
    pictures,
    side_by_side,
    training,
    words,
)
from tunesmith.run.report_parts.facts import Facts, name_of, read_facts
from tunesmith.written import write_whole

BARS = ("accuracy", "micro_f1", "macro_f1", "subset_accuracy", "mcc", "auroc", "ap", "ap50", "ap75", "token_accuracy",
        "rouge_l", "normalised_match", "exact_match", "pattern_match", "number_match",
        "reward_accuracy", "likelier")  # fmt: skip
"""Scores between 0 and 1 where higher is better: drawn as bars, the main score first."""


def write_report(folder: Path) -> Path:
    """Write `folder/report.html` and return its path. RunError if it is no run folder, DiskError if it can't write."""
    folder = Path(folder)
    page = render(read_facts(folder))
    target = folder / "report.html"
    try:
        write_whole(target, page)
    except OSError as error:
        raise DiskError(
            f"cannot write {target}: {error.strerror or error}. Free some space or check its rights."
        ) from error
    return target


def render(facts: Facts) -> str:
    """The page as text."""
    here = Path(__file__).parent
    of_kind = ("report_pictures.css",) if facts.noun == "picture" else ("report_answers.css",) if facts.speaks else ()
    sheets = ("report.css", *of_kind)
    style = pages.style_of(*(here / sheet for sheet in sheets))
    return pages.environment(here).get_template("report.html.j2").render(style=style, **context(facts))


def context(facts: Facts) -> dict[str, Any]:
    """Everything the template shows, by section."""
    scores, by_class = facts.scores, answers.classes(facts)
    return {
        "run": facts.folder.resolve().name,
        "facts": facts,
        "about": _about(facts),
        "headline": words.headline(scores, facts.examples) if facts.finished else {},
        "tiles": _tiles(facts) if facts.finished else [],
        "bars": _bars(scores) if facts.finished else [],
        "others": _others(scores) if facts.finished else [],
        "turned": answers.turned(facts),
        "curves": training.curves(facts),
        "confusions": answers.confusions(facts),
        "classes": by_class,
        "old_and_new": answers.old_and_new(by_class),
        "mistakes": answers.mistakes(facts) if facts.noun == "text" else pictures.mistakes(facts),
        "samples": pictures.samples(facts),
        "spoken_answers": side_by_side.side_by_side(facts),
        "detection": detection.detection(facts),
        "calibration": calibration.calibration(facts),
        "forgotten": forgotten.forgotten(facts),
        "forecast": forecast.forecast(facts),
        "data": origins.data(facts),
        "recipe": origins.recipe(facts),
        "origins": origins.origins(facts),
    }


def _about(facts: Facts) -> list[tuple[str, str]]:
    """Task, method and model of the run."""
    named = [(key, name_of(facts.recipe.get(key)).replace("_", " ")) for key in ("task", "method")]
    told = facts.manifest.get("model")
    bits = told.get("bits") if isinstance(told, Mapping) else None
    named += [("model", facts.model_name), ("bits", str(bits or ""))]
    return [(key, value) for key, value in named if value]


def _tiles(facts: Facts) -> list[dict[str, str]]:
    """What it cost, in five figures at most."""
    cost = facts.scores.get("cost") or {}
    trained = sum(float(s.get("seconds") or 0) for s in facts.steps)
    seen = sum(int(s.get("examples") or 0) for s in facts.steps)
    pace = f"{len(facts.steps):,} steps" + (f", {seen / trained:,.0f} examples a second" if trained else "")
    adapter = any((facts.folder / "best" / name).is_file() for name in ("adapter_config.json", "base_model.json"))
    tiles = [
        (
            "learned",
            "Learned parameters",
            words.large,
            f"{words.share(cost.get('learned'), cost.get('total'))} of {words.large(cost.get('total'))}",
        ),
        ("seconds", "Time", words.seconds, pace),
        ("peak_mib", "Peak memory", words.mebibytes, "most held at once"),
        ("file_mib", "File size", words.mebibytes, "the adapter alone" if adapter else "the whole model"),
    ]
    return [
        {"name": n, "value": say(cost[key]), "more": more} for key, n, say, more in tiles if cost.get(key) is not None
    ]


def _bars(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Scores of 0 to 1 before and after with their intervals, the main one first."""
    main = scores["main_score"]["name"]
    order = [m for m in (main, *BARS) if m in BARS and m in scores["after"]]
    return [_compared(scores, metric) for metric in dict.fromkeys(order)]


def _others(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The remaining scores, those of single classes aside: they stand in the table of classes."""
    return [_compared(scores, m) for m in scores["after"] if m not in BARS and not m.startswith(words.BY_CLASS)]


def _compared(scores: Mapping[str, Any], metric: str) -> dict[str, Any]:
    before, after = (words.measured(metric, scores.get(when, {}).get(metric)) for when in ("before", "after"))
    intervals = scores.get("intervals", {})
    return {
        "name": words.name(metric),
        "means": words.NAMES.get(metric, ("", ""))[1],
        "before": before,
        "after": after,
        "change": None if before is None or after is None else after - before,
        "before_ends": intervals.get("before", {}).get(metric),
        "after_ends": intervals.get("after", {}).get(metric),
    }
