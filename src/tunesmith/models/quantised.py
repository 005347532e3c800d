"""Language models whose linear layers are stored in 4 or 8 bits (bitsandbytes), as a frozen base to learn beside.

    4 bits: NF4 in blocks of 64, the blocks' scales in 8 bits again (Dettmers et al. 2023, QLoRA, arXiv 2305.14314);
    8 bits: round(127 w / max|w|) a row (Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339)

A layer's weights are worked out anew whenever it runs, forwards and backwards, and multiplied as any linear layer's
are, in float32 or under autocast in bfloat16. bitsandbytes' own products would round an example's states to 8 bits
together with the batch it stands in, or take another way where one token is asked for; these do not, so an example's
answer depends on nothing but itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tunesmith.errors import ModelError
from tunesmith.models.shared_cast import bfloat16, casts_to_bfloat16

EXTRA = "pip install 'tunesmith[quantised]'"
LIBRARY = "bitsandbytes"
BLOCK = 64
"""Weights that share a scale in 4 bits."""
_CLASSES = {"Linear4bit": 4, "Linear8bitLt": 8}


def bits_of(model: nn.Module) -> int:
    """4 or 8 for a model with linear layers so stored, 0 for any other."""
    return next((_CLASSES[type(layer).__name__] for _, layer in _layers(model)), 0)


def turned(model: nn.Module) -> bool:
    """Whether layers of few bits stand in the place of ones that hold their weights turned (GPT-2's Conv1D)."""
    return any(_is_turned(layer) for _, layer in _layers(model))


def packed(parameter: Tensor) -> bool:
    """Whether a parameter holds weights in few bits, whatever type its bytes go by."""
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def weights_in(parameter: Tensor) -> int:
    """How many weights a parameter holds: of one in 4 bits twice its bytes."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def check_readable(told: Mapping[str, Any], folder: Path) -> None:
    """ModelError unless weights with this `quantization_config` can be a base to learn beside on this machine."""
    method = told.get("quant_method") or (
        LIBRARY if told.get("load_in_4bit") or told.get("load_in_8bit") else "unknown"
    )
    if str(method) not in (LIBRARY, "QuantizationMethod.BITS_AND_BYTES"):
        raise ModelError(
            f"The weights in {folder} are quantised ({method}), and this kind cannot be trained on here. Use the "
            "model's plain safetensors (where memory is short with model.bits: 4), or its GGUF file."
        )
    need_library(f"The weights in {folder} are quantised by {LIBRARY}")


def need_library(why: str) -> None:
    """ModelError, beginning with `why`, where bitsandbytes is not installed or does not run here."""
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # a library of another system, or of another CUDA: whatever its loading raises
        short = " ".join(str(error).split())[:200]
        raise ModelError(f"{why}, which needs the package {LIBRARY}: {EXTRA}. Importing it said: {short}") from error


def multiply_plainly(model: nn.Module, folder: Path) -> None:
    """Let the layers of few bits work as told above, in place; weights, names and what is saved stay as they are.
    ModelError where the weights in `folder` lack their scales, or those are not finite."""
    for name, layer in _layers(model):
        _check_scales(name, layer.weight, folder)
        if "forward" not in vars(layer):
            # A bound method moves with the layer when a model is copied.
            layer.forward = MethodType(_forward, layer)


def _check_scales(name: str, weight: Any, folder: Path) -> None:
    state = getattr(weight, "quant_state", None)
    if state is None and getattr(weight, "SCB", None) is None:
        raise ModelError(
            f"config.json in {folder} says that its weights are quantised, and those of {name} have no scales: they "
            "are plain, or a part of the file is missing. Remove quantization_config there, or fetch the model again."
        )
    nested = getattr(state, "state2", None)
    scales = [weight.SCB] if state is None else [state.absmax, getattr(state, "offset", None)]
    scales += [] if nested is None else [nested.absmax]
    if not all(bool(torch.isfinite(one).all()) for one in scales if isinstance(one, Tensor)):
        raise ModelError(
            f"The scales of {name} in {folder} are not finite: every answer would be NaN. Use another copy."
        )


def dequantise(model: nn.Module) -> None:
    """Put plain float32 layers with the very same weights in place of those of few bits, in place, if there are any."""
    if not bits_of(model):
        return
    for name, layer in list(_layers(model)):
        model.set_submodule(name, _plain(layer))
    known: Any = model
    # How the files' tensors became the model's, to be gone back when it is saved: those of few bits have no way back.
    ways = getattr(known, "_weight_conversions", None) or []
    known._weight_conversions = [w for w in ways if not _of_few_bits(w)] or None
    for flag in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        setattr(known, flag, False)
    for owner, name in ((known, "hf_quantizer"), (known, "quantization_method"), (known.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)


def _of_few_bits(way: Any) -> bool:
    return any("Bnb" in type(operation).__name__ for operation in getattr(way, "operations", ()))


def weight_of(layer: Any, dtype: torch.dtype) -> Tensor:
    """The weights of a layer of few bits [outputs, inputs], worked out."""
    from bitsandbytes import functional

    weight = layer.weight
    with torch.no_grad():
        if type(layer).__name__ == "Linear4bit":
            state = copy.copy(weight.quant_state)
            # As one long row: of some shapes whose rows no whole number of blocks fills, bitsandbytes 0.50 works out
            # wrong weights on a CPU (docs/experiments.md).
            state.shape = torch.Size([torch.Size(state.shape).numel()])
            found: Tensor = functional.dequantize_4bit(weight.data, state)
            return found.view(weight.quant_state.shape).to(dtype)
        scales = weight.SCB.to(weight.device).float()  # they do not move with the weights
        rows: Tensor = weight.data.float() * (scales / 127)[:, None]
        return rows.to(dtype)


def _is_turned(layer: Any) -> bool:
    return getattr(getattr(layer, "source_cls", None), "__name__", "") == "Conv1D"


def _plain(layer: Any) -> nn.Module:
    """The layer as the model's code has it: GPT-2's hold their weights turned."""
    weight = weight_of(layer, torch.float32)
    plain: Any
    if _is_turned(layer):
        plain, weight = layer.source_cls(layer.out_features, layer.in_features), weight.T.contiguous()
    else:
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(weight)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().float())
    found: nn.Module = plain
    return found


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Of bitsandbytes itself, not peft's of the same names around them."""
    for name, module in model.named_modules():
        if type(module).__name__ in _CLASSES and type(module).__module__.startswith(LIBRARY):
            yield name, module


def _forward(layer: Any, x: Tensor) -> Tensor:
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x = bfloat16(x) if casts_to_bfloat16(x) else x.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        out: Tensor = _Product.apply(x, layer)
        return out if layer.bias is None else out + layer.bias.to(out.dtype)


class _Product(torch.autograd.Function):
    """x [..., inputs] times the layer's weights, which are not kept for backward but worked out again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, weight_of(layer, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] @ weight_of(ctx.layer, gradients[0].dtype), None
