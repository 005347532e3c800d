"""Method: what of a pretrained model learns. One file in this folder is one method.

Contract (held by `tests/contracts/test_methods.py` for every file here):

- `prepare` freezes, wraps or adds; it may change the model in place and returns the module to train. Every parameter
  that is to learn requires grad afterwards and no other does. The head (`anatomy.head`) always learns. Random draws
  come from torch's global generator, which the caller has seeded.
- A fresh adapter method leaves the untouched model's answers as they were wherever its paper says so (LoRA, IA3, ...).
- `learned` + `state` restored into a freshly prepared model of the same seed give the same logits, bit for bit.
- `save` writes what a plain transformers (and peft) program loads, with the same logits to rounding.
- `merge` returns a plain copy for deployment and leaves the trained module as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tunesmith.plugin import Plugin, Registry
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


class Method(Plugin):
    """Base of all methods. Only `prepare` is compulsory."""

    learning_rate: ClassVar[float]
    """The peak rate for models of up to about 100 million parameters; `recipe/defaults.py` scales it by size."""
    learning_rate_source: ClassVar[str]
    """Where that number comes from: a paper, or a measurement in docs/experiments.md."""
    head_learning_rate: ClassVar[float] = 2e-3
    """Peak rate of the head, pooler included: what suits soft prompts or scales is far too high for it."""
    only_head: ClassVar[bool] = False
    """Whether nothing but the head learns, so that `train.learning_rate` is the head's."""
    weight_decay: ClassVar[float] = 0.01
    adapter: ClassVar[bool] = True
    """Whether the pretrained weights stay as they were, so that switching the method off gives the old model back."""

    def added_tokens(self) -> int:
        """Places this method takes from the model's longest input; the task's `max_length` must leave room for them."""
        return 0

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Make the module to train out of the pretrained one. ModelError when this method cannot serve this model."""
        raise NotImplementedError

    def training_mode(self, model: nn.Module) -> None:
        """Put the model into training mode; norm layers with running statistics whose weights are frozen stay in
        evaluation mode, or their statistics would drift away from what is saved.
        """
        model.train()
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                own = list(module.parameters(recurse=False))
                if not any(p.requires_grad for p in own):
                    module.eval()

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None:
        """Called with gradients complete, before the optimizer's update of 1-based `step`. Default: nothing."""

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Called after the update, while gradients still stand (AdaLoRA's budget lives here). Default: nothing."""

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        """Every tensor that training changes, by name: parameters that require grad, and moving buffers beside them."""
        return {name: p for name, p in model.named_parameters() if p.requires_grad}

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """What else must be saved to go on exactly (importance averages, masks). Default: nothing."""
        return {}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; called after the learned tensors are in place."""

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write the delivered form: by default the whole model through its own `save_pretrained` (safetensors)."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy without any trace of the method, for deployment."""
        import copy

        return copy.deepcopy(model)


registry: Registry[Method] = Registry("tunesmith.methods", Method)


def freeze_all_but(model: nn.Module, names: tuple[str, ...]) -> None:
    """Let only parameters inside the named modules (or so named themselves) require grad."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(name == n or name.startswith(n + ".") for n in names))
