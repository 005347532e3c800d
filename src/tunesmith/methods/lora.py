"""Low-rank matrices beside frozen layers: near full tuning with about 1 % of the weights. The default.

## Idea

A frozen weight `W` [outputs, inputs] gets an addition of rank `r`: `y = W x + s B A x` with `A` [r, inputs] and
`B` [outputs, r], scale `s = alpha / r`. `A` starts random and `B` at zero, so the untouched model answers first.
The whole head learns beside it. Beside a convolution stand two: `A` of `r` channels with the layer's own kernel, and
`B` with a kernel of 1 x 1.

## Fits

Every text model, vision transformer and conv net. `targets: all` takes every linear layer inside the blocks and on a
conv net every convolution there that mixes all channels (`spatial`, `pointwise`); depthwise and grouped convolutions
are left alone, and so are layers that a model does not call as layers (attention in torchvision's transformers) or
whose weights it standardises (NFNet, BiT), and those that peft refuses (a note names them: DeepSeek's, Mamba's).

## Variants

- `default`: as above.
- `rslora`: scale `alpha / sqrt(r)`, so that high ranks keep learning at the same rate.
- `dora`: the column norms of `W` learn apart from its direction: `y = m (W + s B A) x / |W + s B A|`.
  Made for low ranks; slower, since it needs the norms of the whole `W + s B A` in every pass.
- `pissa`: `B A` starts as the `r` largest singular parts of `W`, and the rest of `W` is frozen. Learns faster at
  first.
- `olora`: `B A` starts from the QR factors of `W`, alike.

The last two change the frozen weights while training and keep what they were beside them. What is written is converted
to plain LoRA of rank `2 r` on the untouched base, `s B A - s B0 A0`, where `B0 A0` is the start.

`b_rate` above 1 is LoRA+: `B` learns that many times as fast as `A`, whose rate is then lower than usual (source: 16).

## Cost

`r (inputs + outputs)` numbers a layer. Steps cost a little more than a forward and a backward pass without the
gradients of the matrices; the adapter is a file of some megabytes, and merging it leaves no cost at prediction.

## When to choose it

By default. Rank 8 on all linear layers is enough for classification; raise it when much data keep improving.

## Source

Hu et al. 2021, LoRA, arXiv 2106.09685; Kalajdzievski 2023, rsLoRA, arXiv 2312.03732; Liu et al. 2024, DoRA,
arXiv 2402.09353; Meng, Wang and Zhang 2024, PiSSA, arXiv 2404.02948; Buyukakyuz 2024, OLoRA, arXiv 2406.01775;
Hayou, Ghosh and Yu 2024, LoRA+, arXiv 2402.12354.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods._lora_starts import add_to_base, start_from_qr, start_from_svd
from tunesmith.methods._targets import WHOLE_CONVS, Targets, choose_layers
from tunesmith.methods.base import Method
from tunesmith.types import Layer, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_MUTATING = ("pissa", "olora")


class LoRA(Method):
    """Low-rank adaptation and its variants."""

    learning_rate: ClassVar[float] = 1e-3
    learning_rate_source: ClassVar[str] = "as good as 2e-3 on four sets or better (docs/experiments.md)"
    beside_few_bits: ClassVar[bool] = True
    vision_learning_rate: ClassVar[float | None] = 5e-4
    vision_learning_rate_source: ClassVar[str] = "0.700 on 280 clothing pictures in 4 passes (docs/experiments.md)"
    language_learning_rate: ClassVar[float | None] = 2e-3
    language_learning_rate_source: ClassVar[str] = "between 1e-3 and 3e-3 on identity answers (docs/experiments.md)"

    rank: int = Field(8, ge=1, le=1024, description="rank r of the addition")
    alpha: Annotated[float, Field(gt=0, le=4096)] | Literal["auto"] = Field(
        "auto", description="scale; auto: 2 x rank, for rslora 16, for pissa and olora rank"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the addition's inputs set to 0 in training")
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")
    variant: Literal["default", "rslora", "dora", "pissa", "olora"] = Field("default", description="see above")
    b_rate: float = Field(1.0, ge=1, le=1000, description="LoRA+: how many times as fast as A B learns")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the low-rank layers in. ModelError if a target fits no layer or the rank exceeds one for pissa, olora."""
        from peft import LoraConfig

        from tunesmith.models.quantised import BLOCK, bits_of

        layers = choose_layers(pretrained.anatomy, self.targets, convs=WHOLE_CONVS)
        convolves = any(layer.kind == "conv" for layer in layers)
        if self.variant in _MUTATING:
            self._check_rank(layers)
            if bits := bits_of(pretrained.model):
                raise ModelError(
                    f"method.variant {self.variant} begins by lowering the model's weights, and these are stored in "
                    f"{bits} bits and stay as they are. Leave it out, or take rslora or dora."
                )
        if self.variant == "dora" and bits_of(pretrained.model) == 4 and any(x.inputs % BLOCK for x in layers):
            raise ModelError(  # peft works their norms out through bitsandbytes' own dequantisation
                f"method.variant dora needs layers whose inputs are a multiple of {BLOCK} beside 4 bits, and some of "
                f"{type(pretrained.model).__name__} are not. Leave it out, or take rslora."
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._alpha(),  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            use_rslora=self.variant == "rslora",
            use_dora=self.variant == "dora",
            init_lora_weights="pissa" if self.variant == "pissa" and not convolves else True,
        )
        untouched = self._untouched(pretrained, layers)
        model = _peft.wrap(pretrained, config, layers)
        if self.variant != "dora":  # DoRA's weight norms need float32
            _peft.keep_bfloat16(model)
        if self.variant in _MUTATING:
            for name, layer in _low_rank_layers(model):
                # Not in the state dict, as below: peft would not know these names.
                layer.register_buffer("untouched", untouched[name.removeprefix(_peft.PREFIX)], persistent=False)
                if self.variant == "olora":
                    start_from_qr(layer)
                elif convolves:
                    start_from_svd(layer)
                for kind, factor in (("a", layer.lora_A), ("b", layer.lora_B)):
                    start = factor[_peft.ADAPTER].weight.detach().clone()
                    layer.register_buffer(f"initial_{kind}", start, persistent=False)
        return model

    def rate_factor(self, name: str) -> float:
        """`b_rate` for B."""
        return self.b_rate if ".lora_B." in name else 1.0

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their additions, for pissa and olora with the weights that they had before."""
        lowered = _low_rank_layers(model) if self.variant in _MUTATING else ()
        return _peft.passed_by(model, {f"{name}.base_layer.weight": layer.untouched for name, layer in lowered})

    def takes_share(self, name: str, first: Tensor) -> bool:
        """B, and dora's norms. For pissa and olora, where neither factor starts at zero, both: the change of a weight
        is then `share` of the tuned one but for share (1 - share) times the product of both factors' changes.
        """
        return self.variant in _MUTATING or ".lora_A." not in name

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """For pissa and olora the starting matrices, which the frozen weights were lowered by."""
        if self.variant not in _MUTATING:
            return {}
        return {f"{n}.initial_{k}": getattr(x, f"initial_{k}") for n, x in _low_rank_layers(model) for k in "ab"}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Move the frozen weights to the saved start, where this machine's factorisation differs in the last bits."""
        if self.variant not in _MUTATING:
            return
        import torch

        for name, layer in _low_rank_layers(model):
            a, b = (state[f"{name}.initial_{k}"].to(layer.initial_a) for k in "ab")
            if torch.equal(a, layer.initial_a) and torch.equal(b, layer.initial_b):
                continue
            start = layer.initial_b.flatten(1) @ layer.initial_a.flatten(1)
            add_to_base(layer, start - b.flatten(1) @ a.flatten(1))
            layer.initial_a.copy_(a)
            layer.initial_b.copy_(b)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format; pissa and olora as plain LoRA of twice the rank on the untouched base."""
        if self.variant not in _MUTATING:
            _peft.write(model, folder, pretrained)
            return
        import torch

        tensors = _peft.adapter_tensors(model)
        for name, layer in _low_rank_layers(model):
            a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
            tensors[a] = torch.cat([tensors[a], layer.initial_a], dim=0)
            tensors[b] = torch.cat([tensors[b], -layer.initial_b], dim=1)
        plain = {"r": 2 * self.rank, "lora_alpha": 2 * self._alpha(), "init_lora_weights": True}
        _peft.write(model, folder, pretrained, tensors=tensors, changes=plain)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the additions inside its weights."""
        return _peft.merged(model)

    def _untouched(self, pretrained: Pretrained, layers: tuple[Layer, ...]) -> dict[str, Tensor]:
        """Copies of the weights that pissa and olora lower, by the layer's name."""
        if self.variant not in _MUTATING:
            return {}
        model = pretrained.model
        return {layer.name: model.get_parameter(f"{layer.name}.weight").detach().clone() for layer in layers}

    def _alpha(self) -> float:
        if self.alpha != "auto":
            return self.alpha
        if self.variant == "rslora":
            return 16.0
        return float(self.rank if self.variant in _MUTATING else 2 * self.rank)

    def _check_rank(self, layers: tuple[Layer, ...]) -> None:
        smallest = min(layers, key=_most_rank)
        most = _most_rank(smallest)
        if self.rank > most:
            raise ModelError(
                f"method.rank is {self.rank}, but {self.variant} takes its start from the layers' own factors and "
                f"{smallest.name} ({smallest.inputs} x {smallest.outputs}) has only {most}. Write a rank up to {most}."
            )


def _low_rank_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _most_rank(layer: Layer) -> int:
    return min(math.prod((layer.inputs, *layer.kernel)), layer.outputs)
