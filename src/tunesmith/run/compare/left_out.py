"""Rows of a study that are not compared or never advised, and numbers that flatter, each with its reason in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    for olds, some in _grouped([(row.broken, row) for row in (rows[number] for number in compared)]):
        told, it = ", ".join(_scored(row) for row in some), "it" if len(some) == 1 else "they"
        said.append(
            f"Never advised, and on no front: {told}, since {' and '.join(olds)} had a score before "
            f"and {'has' if len(olds) == 1 else 'have'} no number any more, so that what {it} forgot is not known."
        )
    scored = [row for row in rows if row.runs]
    for olds, some in _grouped([(tuple(chosen_by(row.runs)), row) for row in scored]):
        who = "All rows" if 1 < len(some) == len(scored) else " and ".join(row.name for row in some)
        its, it = ("its state", "it") if len(some) == 1 else ("their states", "they")
        said.append(
            f"{who} chose {its} by the very examples that {' and '.join(olds)} "
            f"{'is' if len(olds) == 1 else 'are'} reported on: on others {it} may have lost more."
        )
    return said


def _grouped(rows: Iterable[tuple[tuple[str, ...], Row]]) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Rows by the same old tasks, in their order; those without any left out."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for olds, row in rows:
        if olds:
            groups.setdefault(olds, []).append(row)
    return list(groups.items())


def _scored(row: Row) -> str:
    return f"{row.name} ({words.score(None if row.score is None else row.score.value)})"
