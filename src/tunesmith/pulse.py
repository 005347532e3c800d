"""How far long work has come, told to whoever listens: to the terminal's progress, or to nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int, int | None], None]
"""Takes how much is done, and of how much where that is known."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, `listener` hears every pulse; it is called often, and thins them out itself."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def pulse(done: int, whole: int | None = None) -> None:
    """Tell that so much of the work is done."""
    for listener in _listeners:
        listener(done, whole)
