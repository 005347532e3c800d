"""What each library's reading of a picture classifier hands over, before it has the person's labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.vision_heads import Names
from tunesmith.models.vision_source import is_drawn
from tunesmith.models.vision_weights import read_file, read_folder
from tunesmith.types import ModelSource, PictureForm


@dataclass(frozen=True, slots=True)
class Read:
    """A network as its files bring it.

    outputs: names of its output layers. known: the names their rows go by. drawn: parameters that no file brought.
    all_drawn: whether none was brought. arguments: what torchvision built it with.
    """

    model: nn.Module
    form: PictureForm
    outputs: tuple[str, ...]
    known: Names = ()
    drawn: frozenset[str] = frozenset()
    all_drawn: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_tensors(source: ModelSource) -> dict[str, Tensor] | None:
    """The weights that the source names, on the CPU; None where all are to be drawn."""
    if is_drawn(source):
        return None
    return read_file(Path(source.weights)) if source.weights else read_folder(Path(source.path))


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """New weights made inside follow from `seed`; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fingerprint(model: nn.Module) -> str:
    """sha256 over all weights and statistics: tells whether weights drawn again are the same."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return found.hexdigest()
