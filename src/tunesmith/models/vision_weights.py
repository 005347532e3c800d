"""Weights of timm and torchvision networks: read from a file without trust, and put into a network, all of them.

A `.pth` is a pickle. It is opened by `torch.load(weights_only=True)` alone, which builds tensors and plain containers
and refuses everything that would run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.weights_file import INDEX, WEIGHTS, read_header, read_object, read_weights

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Under which training scripts keep the weights beside their optimizer."""

SHOWN = 6


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one weight file by name, in the file's order, on the CPU.

    ModelError, saying what to do, for a file that is broken, is no weight file, or would have to run code to be read.
    """
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path} is no weight file: tunesmith reads {', '.join(SUFFIXES)}.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        read_header(path)
        with vet.reading(path.parent, "safetensors"):
            tensors: dict[str, Tensor] = load_file(path)
    else:
        tensors = _plain(path, _unpickled(path))
    if not tensors:
        raise ModelError(f"{path} holds no tensors at all. Fetch it again.")
    bad = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise ModelError(
            f"{path} holds values that are not finite in {len(bad)} tensors: {few(bad)}. Every answer would be NaN. It "
            "was saved after its training failed, or is damaged: use another copy."
        )
    return tensors


def read_folder(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model folder (model.safetensors, or its parts and their index)."""
    read_weights(folder)
    if (folder / WEIGHTS).is_file():
        return read_file(folder / WEIGHTS)
    tensors: dict[str, Tensor] = {}
    for part in sorted(set(read_object(folder / INDEX)["weight_map"].values())):
        tensors |= read_file(folder / part)
    return tensors


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # tensors and plain containers; runs no code
    except Exception as error:  # torch raises a dozen kinds for a pickle that is damaged or forbidden
        raise ModelError(
            f"{path} could not be read as weights ({type(error).__name__}): it is damaged, or a pickle with more in "
            "it than tensors. Such a pickle can run any code, so it is not opened. Ask its source for safetensors, or "
            "convert it on a machine that you can lose: torch.save of model.state_dict() alone is read."
        ) from None


def _plain(path: Path, found: Any) -> dict[str, Tensor]:
    """The state dict itself, out of what training scripts wrap around it."""
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping):
        raise ModelError(f"{path} holds a {type(found).__name__}, not tensors by name: save model.state_dict().")
    odd = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise ModelError(
            f"{path} holds {len(odd)} entries that are no tensors: {few(odd)}. Save model.state_dict() alone, or under "
            f"one of the names {', '.join(WRAPPERS)}."
        )
    wrapped = bool(found) and all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in found.items()}


def renamed_in_order(tensors: Mapping[str, Tensor], model: nn.Module, path: str) -> dict[str, Tensor]:
    """The file's tensors under the network's names, first to first; ModelError if a shape or the number differs."""
    own = model.state_dict()
    if len(own) != len(tensors):
        raise ModelError(f"{path} has {len(tensors)} tensors, {type(model).__name__} has {len(own)}: not the same net.")
    pairs = list(zip(own.items(), tensors.items(), strict=True))
    odd = [
        f"{theirs} {list(t.shape)} for {name} {list(o.shape)}"
        for (name, o), (theirs, t) in pairs
        if o.shape != t.shape or o.is_floating_point() != t.is_floating_point()
    ]
    if odd:
        raise ModelError(
            f"{path} does not map onto {type(model).__name__} in order, in {len(odd)} tensors: {few(odd)}."
        )
    return {name: tensor for (name, _), (_, tensor) in pairs}


def faults(model: nn.Module, tensors: Mapping[str, Tensor], classifier: Collection[str]) -> list[str]:
    """What of the network the file does not bring, or brings beside it, in words; the classifier may be missing.

    classifier: names of its modules. The counter of BatchNorm's batches, which older files lack, decides no answer.
    """
    own = model.state_dict()
    head = tuple(f"{name}." for name in classifier)
    missing = [n for n in own if n not in tensors and not n.startswith(head) and not n.endswith("num_batches_tracked")]
    beside = [n for n in tensors if n not in own]
    other = [
        f"{n} {list(tensors[n].shape)} (the network's: {list(own[n].shape)})"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    told = (("lacks", missing), ("has beside the network's", beside), ("has in another shape", other))
    return [f"it {what} {len(names)} tensors: {few(names)}" for what, names in told if names]


def put(model: nn.Module, tensors: Mapping[str, Tensor], classifier: Collection[str], path: str) -> set[str]:
    """Copy the tensors into the network; gives the parameters that the file did not bring (of the classifier).

    ModelError, listing tensors, if anything but the classifier is missing or has another shape.
    """
    if found := faults(model, tensors, classifier):
        raise ModelError(
            f"{path} does not fit {type(model).__name__}: {'; '.join(found)}. Name the architecture it is of."
        )
    model.load_state_dict(tensors, strict=False)
    return {name for name, _ in model.named_parameters() if name not in tensors}


def few(names: Collection[str]) -> str:
    """Names for a message, cut after six."""
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
