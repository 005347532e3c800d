"""What a selection found: candidates in order, with the evidence and the reasons in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.models.candidates import LeftOut
from tunesmith.models.cards import ModelCard
from tunesmith.models.tokenizer_fit import TokenizerFit
from tunesmith.types import Interval

SMALL = 0.1
"""Share by which one speed must exceed another to be called faster: readings on a busy machine differ by less."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate.

    probe: the main score of the linear probe, on examples that each fit had not seen. ways: that score by how the
    features were taken, the best first. behind: probe minus that of the first row, on the same examples; None for the
    first. logme, h_score: of the features taken in the best way (H-score with a shrunk covariance; None for several
    labels a row). examples_a_second, training: forward passes, and updates of all weights; peak memory of each in
    `answering_mib`, `training_mib`, of the whole process.
    """

    card: ModelCard
    parameters: int
    probe: Interval
    ways: Mapping[str, float]
    scores: Mapping[str, float]
    width: int
    logme: float
    h_score: float | None
    examples_a_second: float
    answering_mib: float
    training: float | None
    training_mib: float | None
    remark: str
    tokenizer: TokenizerFit | None
    behind: Interval | None = None

    @property
    def level(self) -> bool:
        """Whether the examples do not tell it from the first."""
        return self.behind is None or self.behind.high >= 0

    def reasons(self, score: str, noun: str) -> list[str]:
        """Why it stands where it does."""
        best, *others = self.ways.items()
        beside = "".join(f", {way} {value:.3f}" for way, value in others)
        told = [f"linear probe {score} {best[1]:.3f} ({best[0]}{beside})"]
        if self.behind is not None:
            gap = f"{self.behind.value:+.3f}, between {self.behind.low:+.3f} and {self.behind.high:+.3f}"
            told.append(f"{'not clearly behind' if self.level else 'behind'} the first ({gap})")
        told += self.tokenizer.words() if self.tokenizer is not None else []
        told.append(f"{self.parameters / 1e6:.1f}M parameters")
        told.append(f"{_rate(self.examples_a_second)} {noun}s a second, {self.answering_mib:,.0f} MiB")
        if self.training is not None:
            told.append(f"full fine-tuning {_rate(self.training)} {noun}s a second, {self.training_mib or 0:,.0f} MiB")
        told += [self.remark] if self.remark else []
        told.append(f"licence {self.card.licence or 'not known'}")
        return told


@dataclass(frozen=True, slots=True)
class Selection:
    """rows: the best first. examples: how many were measured on, all of the training part. chance: the score of always
    answering the most frequent class. settings: of the data and the task, as they were given.
    busy: whether more was going on than the machine has cores, so that speeds are no fair comparison.
    """

    task: str
    data: str
    score: str
    noun: str
    examples: int
    classes: int
    chance: float | None
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    settings: tuple[str, ...]
    busy: bool

    @property
    def best(self) -> Row | None:
        """The first."""
        return self.rows[0] if self.rows else None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        told = [{"reasons": row.reasons(self.score, self.noun), "not_clearly_behind": row.level} for row in self.rows]
        return asdict(self) | {"rows": [asdict(row) | more for row, more in zip(self.rows, told, strict=True)]}

    def lines(self) -> list[str]:
        """A ranked table, the reasons of each, advice, what was left out, and notes on the data."""
        chance = f"; always answering the most frequent class would score {self.chance:.3f}" if self.chance else ""
        head = [
            f"{len(self.rows)} candidates on {self.examples:,} {self.noun}s of the training part of {self.data}, "
            f"{self.classes} classes{chance}.",
            f"Ranked by the {self.score} of a linear probe, answered on {self.noun}s it was not fitted on. Memory is "
            "the peak of a whole process, its libraries included.",
        ]
        reasons = [
            f"{place}. {row.card.name}: {'; '.join(row.reasons(self.score, self.noun))}."
            for place, row in enumerate(self.rows, 1)
        ]
        left_out = [f"left out: {each.name}: {each.reason}" for each in self.left_out]
        notes = [f"note: {note}" for note in self.notes]
        return [*head, "", *self._table(), "", *reasons, "", *self._advice(), *left_out, *notes]

    def _table(self) -> list[str]:
        titles = ("", "model", f"probe {self.score}", "95 % interval", "LogME", "H-score", "parameters",
                  f"{self.noun}s/s", "training/s", "MiB", "training MiB")  # fmt: skip
        table = [titles] + [
            (
                str(place),
                row.card.name,
                f"{row.probe.value:.3f}",
                f"{row.probe.low:.3f} to {row.probe.high:.3f}",
                f"{row.logme:.3f}",
                "-" if row.h_score is None else f"{row.h_score:.2f}",
                f"{row.parameters / 1e6:.1f}M",
                _rate(row.examples_a_second),
                "-" if row.training is None else _rate(row.training),
                f"{row.answering_mib:,.0f}",
                "-" if row.training_mib is None else f"{row.training_mib:,.0f}",
            )
            for place, row in enumerate(self.rows, 1)
        ]
        return [line.rstrip() for line in _aligned(table)] if self.rows else ["no candidate could be measured"]

    def _advice(self) -> list[str]:
        if self.best is None:
            return []
        words = ["tunesmith", "fit", "--task", self.task, "--data", self.data, "--model", self.best.card.name]
        told = [f"Try: {shlex.join([*words, *self.settings])}"]
        level = [row for row in self.rows[1:] if row.level]
        fast = max(level, key=lambda row: row.examples_a_second, default=None)
        if fast is not None and fast.examples_a_second > (1 + SMALL) * self.best.examples_a_second:
            doubt = " (speeds were read on a busy machine)" if self.busy else ""
            times = fast.examples_a_second / self.best.examples_a_second
            told.append(f"{fast.card.name} is not clearly behind and answers {times:.1f} times as fast{doubt}.")
        return told


def _rate(value: float) -> str:
    """A speed with two telling digits."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; the name stands left, numbers right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 1 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
