"""Where the factors of PiSSA and OLoRA start, and the frozen weights that are lowered by their product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.methods import _peft

if TYPE_CHECKING:
    from torch import Tensor


def start_from_qr(layer: Any) -> None:
    """OLoRA's start, W = Q R with the first r columns and rows; peft's own fails on layers that store W turned and on
    convolutions."""
    import torch

    q, r = torch.linalg.qr(_matrix(layer))
    _start_from(layer, q[:, : layer.r[_peft.ADAPTER]], r[: layer.r[_peft.ADAPTER]])


def start_from_svd(layer: Any) -> None:
    """PiSSA's start, W = U S V' with the r largest singular values shared by both factors, for convolutions as well."""
    import torch

    rank = layer.r[_peft.ADAPTER]
    u, s, v = torch.linalg.svd(_matrix(layer), full_matrices=False)
    root = (s[:rank] / layer.scaling[_peft.ADAPTER]).sqrt()
    _start_from(layer, u[:, :rank] * root, root[:, None] * v[:rank])


def _start_from(layer: Any, b: Tensor, a: Tensor) -> None:
    """Let the factors start as B [outputs, r] and A [r, inputs], and take scale x B A off the frozen weight."""
    for factor, start in ((layer.lora_A, a), (layer.lora_B, b)):
        weight = factor[_peft.ADAPTER].weight
        weight.data.copy_(start.reshape(weight.shape))
    add_to_base(layer, -(b @ a))


def _matrix(layer: Any) -> Tensor:
    """The frozen weight as [outputs, inputs]; of a convolution [outputs, inputs x places of the kernel]."""
    weight: Tensor = layer.get_base_layer().weight.detach().float()
    return weight.T if getattr(layer, "fan_in_fan_out", False) else weight.flatten(1)


def add_to_base(layer: Any, product: Tensor) -> None:
    """Add scale x product [outputs, inputs] to the frozen weight."""
    weight = layer.get_base_layer().weight
    change = layer.scaling[_peft.ADAPTER] * product
    turned = change.T if getattr(layer, "fan_in_fan_out", False) else change.reshape(weight.shape)
    weight.data += turned.to(weight.dtype)
