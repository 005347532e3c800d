"""Pictures of the examples: small ones from the run folder, carried inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.answers import surest_mistakes, told
from tunesmith.run.report_parts.facts import Facts

SAMPLES = 12
"""Pictures shown with the model's answer, right or wrong, beside the worst mistakes."""
LARGEST = 256 * 1024
"""Bytes of a picture above which it is not carried: the page is to stay one that can be sent."""


def mistakes(facts: Facts) -> list[dict[str, Any]]:
    """The wrong answers of which the model was most sure, each with its picture; empty for tasks on texts."""
    if facts.noun != "picture" or facts.after is None:
        return []
    answers = facts.after
    places = surest_mistakes(answers.truth, answers.said, answers.probabilities)
    return [told(answers, place, facts.labels) | seen(facts, answers.rows[place]) for place in places]


def samples(facts: Facts) -> list[dict[str, Any]]:
    """Answers of all kinds, spread evenly over the examples whose picture was kept."""
    if facts.noun != "picture" or facts.after is None:
        return []
    answers = facts.after
    worst = set(surest_mistakes(answers.truth, answers.said, answers.probabilities))
    kept = [place for place, row in enumerate(answers.rows) if row.get("thumbnail") and place not in worst]
    return [told(answers, place, facts.labels) | seen(facts, answers.rows[place]) for place in spread(kept, SAMPLES)]


def spread(places: Sequence[int], most: int) -> list[int]:
    """At most `most` of the places, evenly over all of them."""
    if len(places) <= most:
        return list(places)
    return [places[(2 * i + 1) * len(places) // (2 * most)] for i in range(most)]


def seen(facts: Facts, row: Mapping[str, Any]) -> dict[str, Any]:
    """`picture`, mark-up of a row's thumbnail or None, and `path`, where the whole picture lies."""
    path = str(row.get("image", ""))
    return {"picture": embedded(facts.folder, row.get("thumbnail"), path), "path": path}


def embedded(folder: Path, name: object, told_as: str) -> Markup | None:
    """An `img` that carries the JPEG `folder/predictions/NAME`; None for what is missing, too large, or no JPEG.

    A name that leads out of `predictions` is none of the run's, and is not read.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    home = (folder / "predictions").resolve()
    try:
        file = (home / name).resolve()
        if not file.is_relative_to(home) or not file.is_file() or file.stat().st_size > LARGEST:
            return None
        data = file.read_bytes()
    except (OSError, RuntimeError):
        return None
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    source = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
    return Markup('<img src="{}" alt="{}">').format(source, words.ending(told_as))
