"""The values that flow between the rooms: frozen, small, and free of behaviour.

torch and numpy stand here in annotations only, so that reading a recipe or printing a listing never waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Label = str | tuple[str, ...]
"""A class name, or for multi-label data the (possibly empty) tuple of class names that apply."""


@dataclass(frozen=True, slots=True)
class Example:
    """One raw row, cleaned: named inputs (`text`, perhaps `text_pair`), its label, and where it came from."""

    inputs: Mapping[str, Any]
    label: Label | None = None
    file: str = ""
    line: int = 0
    """1-based line of the file on which the row starts (for files without lines: the row's number)."""


class Examples(Protocol):
    """A sequence of examples that may live on disk; reading one never loads the rest."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...

    def __iter__(self) -> Iterator[Example]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Collated tensors of some examples.

    inputs: what the model's forward takes (`input_ids` [examples, tokens], `attention_mask` [examples, tokens], ...).
    labels: class indices [examples] (int64), or 0/1 [examples, classes] (float32) for multi-label; None to predict.
    positions: place of each example in the whole batch of its step, [examples]. Dropout is drawn by place, so that
        how a batch is cut into micro-batches or over processes changes no mask.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor | None
    positions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum of losses and the count it runs over; unequal micro-batches add up exactly only in this form."""

    total: Tensor
    count: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a model as methods see it.

    role: `query`, `key`, `value`, `query_key_value`, `attention_output`, `up` (widens a block), `gate` (the other half
        of a gated up), `gate_up` (both in one), `down` (narrows it again), or `other`. For a convolution: `stem` (reads
        the picture), `pointwise` (1 x 1), `spatial` (larger, all channels), `depthwise` (a channel alone), `grouped`.
    block: depth index, or -1 outside the blocks.
    groups, kernel: of a convolution.
    """

    name: str
    kind: Literal["linear", "conv1d", "conv", "norm", "embedding"]
    role: str
    block: int
    inputs: int
    outputs: int
    groups: int = 1
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Names of a model's parts, found by type, shape and role (see `models/anatomy.py`); in order of depth.

    head: modules between the last block and the logits that hold parameters (for BERT: pooler and classifier).
    classifier: the modules of the head that no pretrained file brought, hence newly drawn.
    """

    head: tuple[str, ...]
    classifier: tuple[str, ...]
    blocks: tuple[str, ...]
    attention: tuple[str, ...]
    layers: tuple[Layer, ...]
    embeddings: tuple[str, ...]
    hidden_size: int
    heads: int

    def of(self, *roles: str) -> tuple[Layer, ...]:
        """The layers inside blocks that have one of these roles (all linear ones if none is named)."""
        return tuple(
            layer
            for layer in self.layers
            if layer.block >= 0 and layer.kind in ("linear", "conv1d") and (not roles or layer.role in roles)
        )

    @property
    def norms(self) -> tuple[Layer, ...]:
        """Every normalisation layer."""
        return tuple(layer for layer in self.layers if layer.kind == "norm")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a pretrained model came from: what the person wrote, the folder or hub name it means, file hashes.

    library: which library builds the network: transformers, timm or torchvision. architecture: its name there.
    weights: the weight file, where `path` is no folder that holds it; `drawn` where all weights come from the seed.
    """

    name: str
    path: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    library: str = "transformers"
    architecture: str = ""
    weights: str = ""


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How a model wants its pictures.

    height, width: pixels it is given for scores and answers; train: in training, where that is another size.
    crop_share: the share of a resized picture's side that the centre crop keeps. mean, std: of each channel, RGB, for
    values 0 to 1. squash: resized without regard to the ratio of the sides.
    """

    height: int
    width: int
    crop_share: float = 1.0
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    squash: bool = False
    train: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model ready for a method: module, its processor (a tokenizer, or for pictures a `PictureForm`), the names of
    its parts, its source, the library whose program shall load what is written, and the labels whose rows its head
    brought along."""

    model: nn.Module
    processor: Any
    anatomy: Anatomy
    source: ModelSource
    library: str = "transformers"
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer to one example: raw scores [classes] and the label they mean."""

    logits: np.ndarray
    label: Label


@dataclass(frozen=True, slots=True)
class MainScore:
    """The score that decides, and which way is better."""

    name: str
    better: Literal["higher", "lower"]

    def beats(self, new: float, old: float | None) -> bool:
        """Whether `new` is strictly better than `old`; a score that is not a number never is."""
        if new != new:
            return False
        if old is None or old != old:
            return True
        return new > old if self.better == "higher" else new < old


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval: point estimate, low and high end, and the share it covers (0.95)."""

    value: float
    low: float
    high: float
    share: float = 0.95


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What became of the rows that were read. The law: read = used + quarantined + blank.

    files: per file its counts and what was found out about it (encoding, separator, columns chosen).
    notes: plain sentences for the person, the worst first (duplicates, leaks, imbalance, conflicting labels).
    """

    read: int
    used: int
    quarantined: int
    blank: int
    files: tuple[Mapping[str, Any], ...]
    split_sizes: Mapping[str, int]
    class_counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Cleaned data in its three parts (validation and test may be empty), the label names in their fixed order."""

    train: Examples
    validation: Examples
    test: Examples
    labels: tuple[str, ...]
    multi_label: bool
    summary: DataSummary
    folder: Path
