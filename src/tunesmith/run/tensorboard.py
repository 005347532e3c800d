"""TensorBoard logs of a run, on request."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.events import Evaluated, Step


class Board:
    """Writes each event's numbers to `tensorboard/` in the run folder; does nothing unless wanted."""

    def __init__(self, folder: Path, *, wanted: bool) -> None:
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise RecipeError("train.tensorboard needs a package: pip install tensorboard") from error
            self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, event: Step | Evaluated) -> None:
        """Log one event at its step."""
        if self._writer is None:
            return
        if isinstance(event, Step):
            for name in ("loss", "learning_rate", "gradient_norm"):
                self._writer.add_scalar(f"train/{name}", getattr(event, name), event.step)
        else:
            for name, value in event.scores.items():
                self._writer.add_scalar(f"validation/{name}", value, event.step)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
