"""What a person sees of many runs at a time: a live line a running cell, and a comparison as a table."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from tunesmith.run.compare.cell import CellBegan, CellEnded, CellEvent, CellLearns, CellScored, CellsPlanned, CellWaits
from tunesmith.run.compare.verdict_words import amount
from tunesmith.run.report_parts import words
from tunesmith.terminal_text import plain

if TYPE_CHECKING:
    from rich.progress import TaskID

    from tunesmith.run.compare.compare import Comparison
    from tunesmith.run.compare.verdict import Row

PLAIN_SECONDS = 10.0
"""Seconds between two lines of one cell where nothing can be redrawn (a log file, a pipe)."""


class StudyProgress:
    """Shows the events of a study's cells: live bars in a terminal, lines elsewhere. Use as `on_event`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(),
                   TextColumn("{task.fields[note]}"), TimeElapsedColumn())  # fmt: skip
        self.bar = Bar(*columns, console=self.console, expand=True, disable=not self.console.is_terminal)
        self._all = self.bar.add_task("[bold]all runs[/]", total=None, note="")
        self._cells: dict[str, TaskID] = {}
        self._shown: dict[str, float] = {}

    def __enter__(self) -> StudyProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, event: CellEvent) -> None:
        """Show one event."""
        if isinstance(event, CellsPlanned):
            self.bar.update(self._all, total=event.total)
            return
        name = event.cell.name
        if isinstance(event, CellBegan):
            self._line(f"{plain(name)}: {'goes on' if event.resumed else 'begins'}")
            self._cells[name] = self.bar.add_task(plain(name), total=100, note="")
        elif isinstance(event, CellLearns):
            self.bar.update(self._cells[name], completed=round(100 * event.share), note=f"loss {event.loss:.3f}")
            if not self.console.is_terminal and time.monotonic() - self._shown.get(name, 0.0) >= PLAIN_SECONDS:
                self._shown[name] = time.monotonic()
                self._line(f"{plain(name)}: {100 * event.share:.0f} %, step {event.step}, loss {event.loss:.3f}")
        elif isinstance(event, CellScored):
            pass  # the run's own log has it; here the line of a cell would jump
        elif isinstance(event, CellWaits):
            self._forget(name)
            self._line(f"{plain(name)}: waits, another process works in {plain(str(event.folder))}")
        else:
            self._end(event)

    def _end(self, event: CellEnded) -> None:
        self._forget(event.cell.name)
        self.bar.advance(self._all)
        outcome, name = event.outcome, plain(event.cell.name)
        if outcome.state == "failed":
            first = outcome.reason.partition("\n")[0]
            self._line(f"[red]{name}: failed ({outcome.exit_code})[/] {plain(first)}")
        elif outcome.state == "finished":
            self._line(f"{name}: {'done' if outcome.made else 'is there already'}")

    def _forget(self, name: str) -> None:
        if name in self._cells:
            self.bar.remove_task(self._cells.pop(name))

    def _line(self, text: str) -> None:
        self.bar.console.print(text, soft_wrap=True)


def show_comparison(found: Comparison, console: Console | None = None) -> None:
    """The verdict, the table, the runs that failed, and where the page lies."""
    console = console or Console(highlight=False)
    for number, sentence in enumerate(found.sentences):
        console.print(f"[bold]{plain(sentence)}[/]" if number == 0 else plain(sentence))
    scored = [row for row in found.rows if row.score is not None]
    if scored:
        console.print(comparison_table(scored))
    for row in found.rows:
        for reason in dict.fromkeys(reason for _, reason in row.failed):
            seeds = ", ".join(str(seed) for seed, why in row.failed if why == reason)
            told = "\n        ".join(plain(reason).splitlines())
            console.print(f"[red]failed[/]  {plain(row.name)}, seed {seeds}: {told}", soft_wrap=True)
    for note in found.notes:
        console.print(f"[dim]{plain(note)}[/]")
    console.print(f"page  {plain(str(found.page))}", soft_wrap=True)


def comparison_table(rows: list[Row]) -> Table:
    """A row a method and retention, with 95 % intervals; a star marks those that no other row beats in all."""
    metric = words.name(str(rows[0].runs[0].scores["main_score"]["name"]))
    olds = list(dict.fromkeys(name for row in rows for name in (*row.forgetting, *row.broken)))
    caption = "* beaten by no other row in new score, forgetting and time together; brackets: 95 % intervals"
    counts = {len(row.runs) for row in rows}
    if len(counts) == 1:
        caption += f"; seeds: {max(counts)}"
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left", caption=caption)
    table.add_column("method", no_wrap=True)
    table.add_column(metric, justify="right", no_wrap=True)
    for name in olds:
        unit = next(amount(row, name, 0.0)[1] for row in rows if name in row.forgetting or name in row.broken)
        title = f"forgetting\n{words.brief(name, 20)}\n({unit})"
        table.add_column(title, justify="right", overflow="fold", no_wrap=len(olds) == 1)  # one old task has room
    for title in ("learned\nvalues", "time", "peak\nmemory", "file"):
        table.add_column(title, justify="right", overflow="fold")
    if len(counts) > 1:
        table.add_column("seeds", justify="right", no_wrap=True)
    for row in rows:
        held = "" if row.retention == "none" else f"\n  with {plain(row.retention)}"
        cells = [f"{plain(row.method)}{' *' if row.on_front else ''}{held}"]
        cells += [_score(row), *(_lost(row, name) for name in olds), *_costs(row)]
        table.add_row(*cells, *([str(len(row.runs))] if len(counts) > 1 else []))
    return table


def _score(row: Row) -> str:
    assert row.score is not None
    span = words.span([row.score.low, row.score.high])
    return words.score(row.score.value) + (f"\n\\[{span}]" if span else "")


def _lost(row: Row, task: str) -> str:
    found = row.forgetting.get(task)
    if found is None:
        return "no number" if task in row.broken else "–"
    low, high = (amount(row, task, end)[0] for end in (found.low, found.high))
    return amount(row, task, found.value)[0] + ("" if math.isnan(found.low) else f"\n\\[{low}, {high}]")


def _costs(row: Row) -> list[str]:
    ways = (("learned", words.large), ("seconds", words.seconds), ("peak_mib", words.mebibytes),
            ("file_mib", words.mebibytes))  # fmt: skip
    return [say(row.cost.get(key)) for key, say in ways]
