"""Why a row is no chat that can be learned from: raised where it is found out, and kept with the row in quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ChatFault(Exception):
    """What is wrong with one row, in words; never leaves the reading of data."""


def kind_of(value: Any) -> str:
    """What a value is, as a person would say it."""
    if value is None or value != value:
        return "empty"
    names = {str: "text", bytes: "binary data", bool: "true or false", int: "a number", float: "a number"}
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, Mapping) else names.get(type(value), type(value).__name__)
