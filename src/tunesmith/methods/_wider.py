"""Feed-forward parts with learned units beside the frozen ones: two layers that wrap a block's own.

The layer up gives the outputs of the frozen matrix and of the learned one side by side, the activation between runs
over both, and the layer down adds what each makes of its part. So activation, gate and dropout inside a block stay
the model's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.types import Layer

_WIDTHS = ("intermediate_size", "hidden_dim", "n_inner", "ffn_dim", "d_ff")
"""What configurations call the width of the feed-forward part; which one applies is tried, not looked up."""

_KEPT = ("described", "label_names", "pretrained_cfg", "generation_config")
"""What is told on the module itself: of a picture model its labels and the form it is written in, of a language model
how it generates (the tokens at which it stops among it)."""


class WiderUp(nn.Module):
    """[..., hidden] -> [..., units + size]. `halves`: 2 where input and gate come out of one matrix, else 1."""

    def __init__(self, base: nn.Module, layer: Layer, size: int, *, halves: int) -> None:
        super().__init__()
        self.base = base
        self.layer = layer
        self.halves = halves
        self.off = False
        self.added = nn.Parameter(torch.empty(halves * size, layer.inputs, device=_device(base)))
        nn.init.kaiming_uniform_(self.added, a=math.sqrt(5))
        biased = getattr(base, "bias", None) is not None
        # Without a bias of the model's own there is no place to merge one into.
        self.added_bias = nn.Parameter(torch.zeros(halves * size, device=_device(base))) if biased else None

    def forward(self, inputs: Tensor) -> Tensor:
        """The frozen units' values and the learned ones', half by half; with `off` the frozen ones alone."""
        if self.off:
            return self.base(inputs)  # type: ignore[no-any-return]
        frozen = self.base(inputs).chunk(self.halves, dim=-1)
        learned = _product(inputs, self.added, self.added_bias).chunk(self.halves, dim=-1)
        return torch.cat([part for pair in zip(frozen, learned, strict=True) for part in pair], dim=-1)

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of one plain layer that does the same, as the model stores them."""
        weight, bias = _rows(self.base, self.layer), getattr(self.base, "bias", None)
        joined = _as_stored(self._joined(weight, self.added.to(weight.dtype)), self.layer)
        if bias is None or self.added_bias is None:
            return joined, None
        return joined, self._joined(bias, self.added_bias.to(bias.dtype))

    def _joined(self, frozen: Tensor, learned: Tensor) -> Tensor:
        pairs = zip(frozen.chunk(self.halves), learned.chunk(self.halves), strict=True)
        return torch.cat([part for pair in pairs for part in pair])


class WiderDown(nn.Module):
    """[..., units + size] -> [..., hidden]."""

    def __init__(self, base: nn.Module, layer: Layer, size: int, *, scale: float) -> None:
        super().__init__()
        self.base = base
        self.layer = layer
        self.size = size
        self.scale = scale
        self.off = False
        self.added = nn.Parameter(torch.zeros(layer.outputs, size, device=_device(base)))

    def forward(self, values: Tensor) -> Tensor:
        """What the frozen matrix makes of the frozen units, plus the learned part unless it is `off`."""
        if self.off:
            return self.base(values)  # type: ignore[no-any-return]
        frozen, learned = torch.split(values, [self.layer.inputs, self.size], dim=-1)
        result: Tensor = self.base(frozen)
        return result + _product(learned, self.added) * self.scale

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of one plain layer that does the same, as the model stores them."""
        weight = _rows(self.base, self.layer)
        joined = torch.cat([weight, (self.scale * self.added).to(weight.dtype)], dim=1)
        return _as_stored(joined, self.layer), getattr(self.base, "bias", None)


def widen(model: nn.Module, layers: Sequence[Layer], size: int, scale: float) -> None:
    """Replace these layers in place by wider ones."""
    for layer in layers:
        parent, _, own = layer.name.rpartition(".")
        base = model.get_submodule(layer.name)
        wider: nn.Module
        if layer.role == "down":
            wider = WiderDown(base, layer, size, scale=scale)
        else:
            wider = WiderUp(base, layer, size, halves=2 if layer.role == "gate_up" else 1)
        setattr(model.get_submodule(parent), own, wider)


def added_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Every learned unit's numbers."""
    for _, module in _wider_modules(model):
        yield from module.parameters(recurse=False)


def widened_layers(model: nn.Module) -> tuple[Layer, ...]:
    """The layers that were replaced, as they were."""
    return tuple(module.layer for _, module in _wider_modules(model))


def wider_modules(model: nn.Module) -> Iterator[nn.Module]:
    """What stands in the place of those layers; where `off` is set, they are as they were."""
    return (module for _, module in _wider_modules(model))


def builder(model: nn.Module, layers: Sequence[Layer], size: int) -> Callable[[], nn.Module] | None:
    """What builds the same plain model with `size` more units a block by its own library's means, or None if no setting
    of it changes just those layers."""
    width = next(layer.inputs for layer in layers if layer.role == "down")
    hidden = next(layer.outputs for layer in layers if layer.role == "down")
    for build in _builders(model, width, hidden, size):
        try:
            with torch.device("meta"):
                tried = build()
        except Exception:  # each library refuses a width it cannot have in its own way
            continue
        found = dict(tried.named_modules())
        if all(layer.name in found and _as_wide(found[layer.name], layer, size) for layer in layers):
            return build
    return None


def plain(model: nn.Module, layers: Sequence[Layer], size: int) -> nn.Module:
    """A plain, wider copy; draws no random numbers."""
    build = builder(model, layers, size)
    assert build is not None, "prepare has tried it"
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten
        made = build()
    made.load_state_dict(_merged_state(model), strict=True)
    made.__dict__.update({name: vars(model)[name] for name in _KEPT if name in vars(model)})
    first = next(model.parameters())
    return made.to(device=first.device, dtype=first.dtype).train(model.training)


def _builders(model: Any, width: int, hidden: int, size: int) -> Iterator[Callable[[], nn.Module]]:
    ratio = (width + size) / hidden
    if hasattr(model, "config"):
        for field in _WIDTHS:
            if hasattr(model.config, field) and getattr(model.config, field) in (width, None):
                yield _from_config(model, field, width + size)
        if getattr(model.config, "mlp_ratio", None):
            yield _from_config(model, "mlp_ratio", int(ratio) if ratio == int(ratio) else ratio)
    elif "architecture" in getattr(model, "pretrained_cfg", {}):
        from timm import create_model
        from timm.models import get_model_args

        name, arguments = model.pretrained_cfg["architecture"], get_model_args(model)
        yield lambda: create_model(name, **(arguments | {"mlp_ratio": ratio}))


def _from_config(model: Any, field: str, value: float) -> Callable[[], nn.Module]:
    config = copy.deepcopy(model.config)

    def build() -> nn.Module:
        setattr(config, field, value)
        built: nn.Module = type(model)(config)
        return built

    return build


def _as_wide(module: nn.Module, layer: Layer, size: int) -> bool:
    wanted = {"down": layer.inputs + size, "gate_up": layer.outputs + 2 * size}.get(layer.role, layer.outputs + size)
    return wanted in module.get_parameter("weight").shape


def _merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of a plain model with wider layers."""
    wider = dict(_wider_modules(model))
    state = {n: t for n, t in model.state_dict().items() if not any(n.startswith(w + ".") for w in wider)}
    with torch.no_grad():
        for name, module in wider.items():
            weight, bias = module.merged()
            state[f"{name}.weight"] = weight
            if bias is not None:
                state[f"{name}.bias"] = bias
    return state


def _wider_modules(model: nn.Module) -> Iterator[tuple[str, WiderUp | WiderDown]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, WiderUp | WiderDown))


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear` for a float32 weight beside a base that may be stored in bfloat16."""
    if inputs.dtype == weight.dtype or torch.is_autocast_enabled(inputs.device.type):
        return functional.linear(inputs, weight, bias)
    return functional.linear(inputs.to(weight.dtype), weight, bias).to(inputs.dtype)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _rows(module: nn.Module, layer: Layer) -> Tensor:
    """The weight as [outputs, inputs]; GPT-2's layers store it turned."""
    weight: Tensor = module.get_parameter("weight")
    return weight.T if layer.kind == "conv1d" else weight


def _as_stored(weight: Tensor, layer: Layer) -> Tensor:
    return weight.T.contiguous() if layer.kind == "conv1d" else weight
