"""Rows of a study that are not compared or never advised, and numbers that flatter, each with its reason in words."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.run.compare.comparable import chosen_by
from tunesmith.run.compare.verdict import Row, comparable
from tunesmith.run.report_parts import words


def left_out(rows: Sequence[Row]) -> list[str]:
    """A sentence for each reason that there is, with the rows that it is about."""
    compared = comparable(rows)
    others = [row for number, row in enumerate(rows) if row.score is not None and number not in compared]
    said = []
    if others and compared:
        told = ", ".join(_scored(row) for row in others)
        said.append(
            f"Not compared with {rows[compared[0]].name} and those scored as it was, since test examples differ or the "
            f"score is no number: {told}."
        )
    for row in (rows[number] for number in compared if rows[number].broken):
        said.append(
            f"Never advised, and on no front: {_scored(row)}, since {' and '.join(row.broken)} had a score before it "
            f"and {'has' if len(row.broken) == 1 else 'have'} no number any more, so that what it forgot is not known."
        )
    for row in rows:
        if olds := chosen_by(row.runs):
            said.append(
                f"{row.name} chose its state by the very examples that {' and '.join(olds)} "
                f"{'is' if len(olds) == 1 else 'are'} reported on: on others it may have lost more."
            )
    return said


def _scored(row: Row) -> str:
    return f"{row.name} ({words.score(None if row.score is None else row.score.value)})"
