"""Another size of pictures than the one a network was trained at.

Conv nets take any size. Vision transformers have a position for each patch: those are interpolated, by the library's
own means.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.vision_weights import few


def set_size(
    model: nn.Module, library: str, size: tuple[int, int], arguments: dict[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network for pictures of [height, width], and the arguments to build it with again (torchvision).

    ModelError where the network is bound to another size.
    """
    own: Any = model
    try:
        if library == "timm":
            if hasattr(own, "set_input_size"):
                own.set_input_size(img_size=size)
            return own, arguments
        if library == "torchvision":
            return _torchvision(own, size, arguments)
        return _transformers(own, size), arguments
    except (AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{type(model).__name__} cannot take pictures of {_said(size)}: {error}") from error


def _torchvision(model: Any, size: tuple[int, int], arguments: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    if not isinstance(model, VisionTransformer) or (model.image_size, model.image_size) == size:
        return model, arguments
    if size[0] != size[1] or size[0] % model.patch_size:
        raise ModelError(
            f"torchvision's vision transformers take square pictures of a multiple of {model.patch_size} pixels, not "
            f"{_said(size)}."
        )
    weights = interpolate_embeddings(size[0], model.patch_size, model.state_dict())
    new: Any = copy.deepcopy(model)
    new.image_size = size[0]
    new.seq_length = weights["encoder.pos_embedding"].shape[1]
    new.encoder.pos_embedding = nn.Parameter(weights["encoder.pos_embedding"])
    return new, {**arguments, "image_size": size[0]}


def _transformers(model: Any, size: tuple[int, int]) -> nn.Module:
    """The same network built for the size; its positions come from the old one's own interpolation."""
    from transformers import AutoModelForImageClassification

    old = getattr(model.config, "image_size", None)
    if old is None or (tuple(old) if isinstance(old, list | tuple) else (old, old)) == size:
        return model  # type: ignore[no-any-return]
    config = copy.deepcopy(model.config)
    config.image_size = size[0] if size[0] == size[1] else list(size)
    new = AutoModelForImageClassification.from_config(config, dtype=torch.float32).eval()
    weights, shapes = model.state_dict(), {name: t.shape for name, t in new.state_dict().items()}
    for name, module in model.named_modules():
        own: Any = module
        place = f"{name}.position_embeddings"
        if hasattr(own, "interpolate_pos_encoding") and place in weights and shapes[place] != weights[place].shape:
            positions = weights[place]
            # One token more than there are positions: a picture of the trained size would be left as it is.
            dummy = positions.new_zeros(1, positions.shape[1] + 1, positions.shape[2])
            with torch.no_grad():
                weights[place] = own.interpolate_pos_encoding(dummy, *size).clone()
    odd = [name for name, shape in shapes.items() if weights[name].shape != shape]
    if odd:
        raise ModelError(
            f"{type(model).__name__} is bound to pictures of {old} pixels, not {_said(size)}: {few(odd)} would have "
            "another shape. Leave task.size out, or take a network of timm, which can be resized."
        )
    new.load_state_dict(weights)
    return new  # type: ignore[no-any-return]


def _said(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
