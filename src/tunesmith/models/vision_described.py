"""What a loaded picture classifier must still know about itself when it is written: kept on the module, as a value.

timm and transformers keep a config on their modules, torchvision keeps none; the labels, the seed of new weights and
the arguments it was built with are needed for all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_ATTRIBUTE = "described"


@dataclass(frozen=True, slots=True)
class Described:
    """labels: one an output. seed: drew the new weights. size: pixels asked for, or None for the model's own.
    test_size: pixels of a side asked for outside of training, "model" for those that its config names, None for the
    same. arguments: what torchvision built the network with."""

    labels: tuple[str, ...]
    multi_label: bool = False
    seed: int = 0
    size: tuple[int, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    test_size: int | Literal["model"] | None = None


def describe(model: nn.Module, described: Described) -> None:
    """Keep the description on the module; copies of the module and peft's wrappers hand it on."""
    setattr(model, _ATTRIBUTE, described)


def description(model: nn.Module) -> Described:
    """What `describe` kept; ModelError for a module that was loaded by other means."""
    found = getattr(model, _ATTRIBUTE, None)
    if not isinstance(found, Described):
        raise ModelError(
            f"This {type(model).__name__} was not loaded by tunesmith, so its labels are unknown: call describe first."
        )
    return found
