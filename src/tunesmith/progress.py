"""What a person sees while a model learns: a live bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from tunesmith.events import Begun, Evaluated, Event, Stage, Step
from tunesmith.pulse import listening
from tunesmith.terminal_text import plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PLAIN_SECONDS = 10.0
"""Seconds between two progress lines where nothing can be redrawn (a log file, a pipe)."""
SMOOTHING = 0.9
"""Share of the old value in the running mean of the shown loss."""


class Progress:
    """Shows the events of a fit: a live bar in a terminal, a line now and then elsewhere. Use as `on_event`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, quiet=os.environ.get("RANK", "0") != "0")
        self.steps = 0
        self.loss = Smoothed(SMOOTHING)
        self.rate = Smoothed(SMOOTHING)
        self._bar: Bar | None = None
        self._shown = 0.0
        self._told = 0.0
        self._doing = ""
        self._listening = ExitStack()

    def __enter__(self) -> Progress:
        self._listening.enter_context(listening(self._pulse))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self._stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Stage):
            self._stop()
            self._line(f"[dim]{plain(event.text)}[/]")
            self._doing, self._told = event.text, time.monotonic()
        elif isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Evaluated):
            self._line(_evaluation(event))
        else:
            self._step(event)

    def _pulse(self, done: int, whole: int | None) -> None:
        """A line now and then on work that takes long; beside a bar that moves by steps, on scoring between them."""
        if time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            of = "" if whole is None else f" of {whole:,}"
            self._line(f"[dim]{plain(self._doing)}: {done:,}{of}[/]")

    def _begin(self, event: Begun) -> None:
        self._doing = "scoring"
        for line in event.lines:
            self._line(plain(line))
        name = event.main_score.name
        if name in event.before:
            self._line(f"[bold]untouched model[/]  {name} {event.before[name]:.3f}")
        self._line(f"run folder  {plain(str(event.folder))}")
        self.steps = event.steps
        if self.console.is_terminal:
            self._bar = _bar(self.console)
            self._task = self._bar.add_task(
                "", total=event.steps, completed=event.done, loss="-", rate="-", speed="-", left=""
            )
            self._bar.start()

    def _step(self, event: Step) -> None:
        self._told = time.monotonic()
        self.loss.add(event.loss)
        if event.seconds > 0:
            self.rate.add(event.examples / event.seconds)
        left = ""
        if self.rate.value:
            left = f"{_duration((self.steps - event.step) * event.examples / self.rate.value)} left"
        told = {
            "loss": f"{self.loss.value:.4f}",
            "rate": f"{event.learning_rate:.2g}",
            "speed": f"{self.rate.value:.0f}",
            "left": left,
        }
        if self._bar is not None:
            self._bar.update(self._task, completed=event.step, **told)  # type: ignore[arg-type]
        elif time.monotonic() - self._shown >= PLAIN_SECONDS or event.step == self.steps:
            self._shown = time.monotonic()
            self._line(
                f"step {event.step}/{self.steps}  epoch {event.epoch:.2f}  loss {told['loss']}  "
                f"learning rate {told['rate']}  {told['speed']} examples/s  {left}"
            )

    def _line(self, text: str) -> None:
        (self._bar.console if self._bar is not None else self.console).print(text, soft_wrap=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Smoothed:
    """A running mean that starts unbiased: the first value stands for itself (Kingma and Ba 2014, section 3)."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.weight = self.total = 0.0

    @property
    def value(self) -> float:
        """The mean so far; 0 before the first value."""
        return self.total / self.weight if self.weight else 0.0

    def add(self, value: float) -> None:
        """Take one more value in."""
        self.total = self.keep * self.total + (1 - self.keep) * value
        self.weight = self.keep * self.weight + (1 - self.keep)


def _bar(console: Console) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("rate {task.fields[rate]}"),
        TextColumn("{task.fields[speed]} examples/s"),
        TextColumn("{task.fields[left]}"),
        console=console,
        expand=True,
    )


def _evaluation(event: Evaluated) -> str:
    """The scores of the whole part; those of single classes stand in events.jsonl."""
    scores = "  ".join(f"{name} {value:.4f}" for name, value in event.scores.items() if "/" not in name)
    best = "  [green]best so far[/]" if event.best else ""
    return f"[bold]step {event.step}[/]  validation  {plain(scores)}{best}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
