"""What can go wrong, and the exit code each fault ends with.

0 done; 2 the person's input (recipe, arguments, data, model); 70 internal; 73 folder in use; 74 disk;
75 interrupted and resumable; 76 not finite. Every message says what was asked, what was found, what to write instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class TunesmithError(Exception):
    """A fault that the person can act on; `cli.py` prints it as one block and leaves with `exit_code`."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a recipe: its dotted path, 1-based line (0: not from a file), and what to do about it."""

    path: str
    message: str
    line: int = 0


class RecipeError(TunesmithError):
    """The recipe or the command line is wrong; carries every fault found, not just the first."""

    def __init__(self, faults: str | Sequence[Fault], *, file: str = "") -> None:
        self.faults: tuple[Fault, ...] = (Fault("", faults),) if isinstance(faults, str) else tuple(faults)
        self.file = file
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterable[str]:
        for fault in self.faults:
            where = f"{self.file}:{fault.line}: " if self.file and fault.line else f"{self.file}: " if self.file else ""
            yield f"{where}{fault.path}: {fault.message}" if fault.path else f"{where}{fault.message}"


class DataError(TunesmithError):
    """The data cannot be used as it is."""


class ModelError(TunesmithError):
    """The pretrained model cannot be found, read, or used for this task or method."""


class RunError(TunesmithError):
    """A run folder cannot be used for what was asked."""


class FolderInUseError(RunError):
    """Another process holds the run folder's lock."""

    exit_code = 73


class DiskError(RunError):
    """The disk refused (full, read-only, gone)."""

    exit_code = 74


class InterruptedRun(TunesmithError):
    """A signal asked the run to stop; its state is saved and `tunesmith resume` goes on from there."""

    exit_code = 75


class NotFiniteError(TunesmithError):
    """The loss or its gradient became NaN or infinite; the weights were not touched by it."""

    exit_code = 76


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint such as ' Did you mean "lora"?', or an empty string when nothing is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""
