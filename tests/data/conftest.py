from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tunesmith.chats import Chat
from tunesmith.data.load import load
from tunesmith.data.load_chats import load_chats
from tunesmith.data.options import DataOptions
from tunesmith.types import Dataset

SHARED = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture
def shared() -> Path:
    """The data that lies beside the checkout on some machines."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED.resolve()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Dataset]:
    """Loads a path with options, and holds the law: read = used + quarantined + blank, and nothing lost on disk."""

    def open_it(
        path: str | Path, *, inputs: tuple[str, ...] = ("text",), kind: str = "texts", **options: Any
    ) -> Dataset:
        folder = tmp_path / "run"
        dataset = load(DataOptions(path=str(path), **options), folder, inputs=inputs, kind=kind)
        summary = dataset.summary
        assert summary.read == summary.used + summary.quarantined + summary.blank
        assert len(quarantined(folder)) == summary.quarantined
        parts = (dataset.train, dataset.validation, dataset.test)
        assert [len(part) for part in parts] == list(summary.split_sizes.values())
        if dataset.summary and "limit" not in options:
            assert sum(map(len, parts)) == summary.used
        return dataset

    return open_it


@pytest.fixture
def heard(tmp_path: Path) -> Callable[..., Dataset]:
    """Loads chats, or with `kind` preferences, under the same law."""

    def open_it(path: str | Path, *, kind: str = "chats", **options: Any) -> Dataset:
        folder = tmp_path / "run"
        dataset = load_chats(DataOptions(path=str(path), **options), folder, kind)
        summary = dataset.summary
        assert summary.read == summary.used + summary.quarantined + summary.blank
        assert len(quarantined(folder)) == summary.quarantined
        parts = (dataset.train, dataset.validation, dataset.test)
        assert [len(part) for part in parts] == list(summary.split_sizes.values())
        assert sum(map(len, parts)) == summary.used or "limit" in options
        assert dataset.labels == ()
        return dataset

    return open_it


def in_order(dataset: Dataset) -> list[Any]:
    """The examples of all parts in the order in which they stand in their files."""
    examples = [*dataset.train, *dataset.validation, *dataset.test]
    return sorted(examples, key=lambda example: (example.file, example.line))


def chats_of(dataset: Dataset) -> list[Chat]:
    """The chats of all parts in the order in which they stand in their files."""
    return [Chat.from_json(example.inputs["chat"]) for example in in_order(dataset)]


def said(dataset: Dataset) -> list[list[tuple[str, str]]]:
    """Of each chat who says what."""
    return [[(message["role"], message["content"]) for message in chat.messages] for chat in chats_of(dataset)]


@pytest.fixture
def seen(opened: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Loads pictures with options, under the same law."""
    return partial(opened, inputs=("image",), kind="images")


def picture_file(number: int, *, size: tuple[int, int] = (8, 6), form: str = "PNG") -> bytes:
    """A small picture file; another number gives another picture. size: width, height."""
    draw = np.random.default_rng(number)
    stream = BytesIO()
    Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


def quarantined(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file and gives its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
