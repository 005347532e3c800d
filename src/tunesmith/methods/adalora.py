"""LoRA that spends its rank where it helps: starts wide, then cuts the directions that matter least.

## Idea

Each addition is kept as a singular value decomposition, `y = W x + s P E Q x / r`, with a diagonal `E` that starts
at zero. Every step scores each direction by sensitivity times uncertainty, running means of `|w * dL/dw|`; the
budget falls from `start_rank` to `rank` on average along a cubic, and directions below it have their `E` set to
zero. A penalty `orthogonality * mean |P'P - I|` keeps the directions apart; its gradient is added once a step,
whatever the loss is. The head learns beside it.

## Fits

Text models, vision transformers, and the linear layers of conv nets that have some (ConvNeXt); not a ResNet, whose
blocks hold convolutions alone.

## Schedule

The first `warmup` share of the steps cuts nothing, the last `settle` share trains with the cut fixed. A run of
fewer than three steps is too short to cut.

## Cost

As LoRA of rank `start_rank`, plus three copies of the adapter for scores and a little work each step. Merging
leaves no cost at prediction.

## When to choose it

When LoRA at a low rank is not enough and the adapter must stay small; it wants long runs (hundreds of steps).

## Source

Zhang et al. 2023, AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, arXiv 2303.10512.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from tunesmith.methods import _peft
from tunesmith.methods._targets import Targets, choose_layers
from tunesmith.methods.base import Method
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""peft's names: last importance, its running mean, the running mean of its deviation."""


class AdaLoRA(Method):
    """Low-rank adaptation with an adaptive budget."""

    learning_rate: ClassVar[float] = 4e-3
    learning_rate_source: ClassVar[str] = "starting value, above LoRA's since each direction is a product of three"
    beside_few_bits: ClassVar[bool] = True

    rank: int = Field(8, ge=1, le=1024, description="average rank of a layer at the end")
    start_rank: int = Field(12, ge=2, le=2048, description="rank of every layer at the start")
    alpha: float = Field(32.0, gt=0, le=4096, description="scale s of the addition")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the addition's inputs set to 0 in training")
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps before the first cut")
    settle: float = Field(0.3, ge=0, lt=1, description="share of the steps after the last cut")
    interval: int = Field(1, ge=1, le=100_000, description="steps from cut to cut")
    smoothing: float = Field(0.85, gt=0, lt=1, description="weight of the past in the running means")
    orthogonality: float = Field(0.1, ge=0, le=100, description="weight of the penalty on overlapping directions")

    @model_validator(mode="after")
    def _ranks_fall(self) -> AdaLoRA:
        if self.rank >= self.start_rank:
            raise ValueError(f"start_rank ({self.start_rank}) must be above rank ({self.rank}): nothing to cut")
        if self.warmup + self.settle >= 1:
            raise ValueError("warmup and settle together must leave steps to cut in: write shares that sum below 1")
        return self

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the decomposed additions in. ModelError if a target fits no layer."""
        from peft import AdaLoraConfig

        config = AdaLoraConfig(
            init_r=self.start_rank,
            target_r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            beta1=self.smoothing,
            beta2=self.smoothing,
            deltaT=self.interval,
            orth_reg_weight=self.orthogonality,
            total_step=1,  # known at the first step
        )
        model = _peft.wrap(pretrained, config, choose_layers(pretrained.anatomy, self.targets))
        _peft.keep_bfloat16(model)
        return model

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None:
        """Add the gradient of the penalty. peft adds it to a loss computed inside the model, which would count it
        once a micro-batch, and not at all where the task computes the loss.
        """
        if not self.orthogonality:
            return
        import torch

        named = [(n, p) for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n]
        factors = [p for _, p in named]
        with torch.enable_grad():
            # A is [rank, inputs] and B [outputs, rank]: both squares are [rank, rank]
            squares = [p @ p.T if ".lora_A." in n else p.T @ p for n, p in named]
            distances = [torch.linalg.matrix_norm(s - torch.eye(len(s), device=s.device)) for s in squares]
            penalty = self.orthogonality * torch.stack(distances).mean()
            gradients = torch.autograd.grad(penalty, factors)
        for factor, gradient in zip(factors, gradients, strict=True):
            factor.grad = gradient if factor.grad is None else factor.grad + gradient

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Score the directions and cut to the budget of this step."""
        if steps < 3:
            return
        peft_model: Any = model
        config = peft_model.peft_config[_peft.ADAPTER]
        config.total_step = steps
        config.tfinal = min(int(self.settle * steps), steps - 2)
        config.tinit = min(int(self.warmup * steps), steps - config.tfinal - 1)
        peft_model.base_model.update_and_allocate(step)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The running means and the cut, by parameter name."""
        import torch

        peft_model: Any = model
        allocator = peft_model.base_model.rankallocator
        found = {f"{kind}:{n}": t for kind in _AVERAGES for n, t in getattr(allocator, kind).items()}
        pattern = peft_model.peft_config[_peft.ADAPTER].rank_pattern or {}
        return found | {f"kept:{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put running means and cut back."""
        peft_model: Any = model
        allocator, device = peft_model.base_model.rankallocator, next(model.parameters()).device
        for kind in _AVERAGES:
            pairs = {name.partition(":")[2]: t for name, t in state.items() if name.startswith(kind + ":")}
            setattr(allocator, kind, {name: tensor.to(device, copy=True) for name, tensor in pairs.items()})
        pattern = {n.partition(":")[2]: t.tolist() for n, t in state.items() if n.startswith("kept:")}
        peft_model.peft_config[_peft.ADAPTER].rank_pattern = pattern or None

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their additions."""
        return _peft.passed_by(model)

    def takes_share(self, name: str, first: Tensor) -> bool:
        """The diagonal, which starts at zero."""
        return ".lora_E." in name

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format with every direction, cut ones at zero: between two cuts peft's own list of directions is
        older than the values, and a file made by it would lose some.
        """
        peft_model: Any = model
        config = peft_model.peft_config[_peft.ADAPTER]
        kept, config.rank_pattern = config.rank_pattern, None
        try:
            _peft.write(model, folder, pretrained)
        finally:
            config.rank_pattern = kept

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the additions inside its weights."""
        return _peft.merged(model)
