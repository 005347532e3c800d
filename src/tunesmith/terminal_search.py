"""What a person sees of a search: a line whenever something happened, and its end."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from tunesmith.terminal_text import plain

if TYPE_CHECKING:
    from tunesmith.run.search.files import Searched


class SearchLines:
    """Says each line with the time since the beginning. Lines of a trial's evaluations stand on one place in a
    terminal and are not said elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._began = time.monotonic()
        self._status = self.console.status("")

    def __enter__(self) -> SearchLines:
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()

    def __call__(self, line: str) -> None:
        """Say one line."""
        passing = line.startswith("  trial ")
        if self.console.is_terminal:
            self._status.update(plain(line.strip()) if passing else "")
        if not passing:
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            self.console.print(f"[dim]{minutes:3d}:{seconds:02d}[/]  {plain(line)}", soft_wrap=True)

    def show(self, found: Searched) -> None:
        """Where everything lies."""
        self.console.print(f"best recipe {plain(str(found.folder / 'best.yaml'))}", soft_wrap=True)
        self.console.print(f"report      {plain(str(found.folder / 'search.html'))}", soft_wrap=True)
