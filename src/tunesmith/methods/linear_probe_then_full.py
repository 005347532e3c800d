"""First the head alone, then everything: full tuning that does not begin by spoiling the features.

## Idea

A new head starts as noise, and in full tuning its first gradients pull the pretrained features about before it has
learned anything. So for the first `probe` share of the steps only the head learns (`only h`), and from there on all
weights do: `W <- W - learning_rate * step(dL/dW)`, with a head that fits the features already. While the head learns
alone, BatchNorm stays in evaluation mode and the network below gets no gradient; its AdamW moments begin at the first
step in which it learns. `statistics` is as in `full`.

## Fits

Every classifier and detector. Not language models, which have no head that could learn first.

## Cost

As full tuning, less what the steps of the head alone save; a whole model to keep for every task.

## When to choose it

Before `full`, wherever the data that the model will meet differ from those it is tuned on: in the source it is as good
as full tuning on like data and 10 points better on shifted data, on average of six.

## Source

Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, arXiv 2202.10054.
Departure: both parts share one run and one schedule, and the head keeps a rate of its own in the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, Statistics, is_language_model, let_all_learn, settle_statistics
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROBING = "only_the_head_learns"
_BODY = "names_that_learn_later"


class LinearProbeThenFull(Method):
    """Linear probing, then full fine-tuning."""

    learning_rate: ClassVar[float] = 1e-4
    learning_rate_source: ClassVar[str] = "full tuning's"
    vision_learning_rate: ClassVar[float | None] = 3e-4
    vision_learning_rate_source: ClassVar[str] = "full tuning's"
    adapter: ClassVar[bool] = False

    probe: float = Field(0.25, ge=0, lt=1, description="share of the steps in which only the head learns")
    statistics: Statistics = Field("auto", description="of BatchNorm: frozen, moving, or auto, see above")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Let everything learn, the head first. ModelError for a language model, which has none."""
        if is_language_model(pretrained):
            raise ModelError(
                f"{type(pretrained.model).__name__} goes on with texts by its own words, so there is no new head to "
                "learn first. Use full; methods that change less of it: lora, ia3, norm_tuning, last_blocks."
            )
        settle_statistics(pretrained, self.statistics)
        model, head = let_all_learn(pretrained), pretrained.anatomy.head
        later = (n for n, p in model.named_parameters() if p.requires_grad)
        model.__dict__[_BODY] = frozenset(n for n in later if not any(n.startswith(h + ".") for h in head))
        model.__dict__[_PROBING] = self.probe > 0
        return model

    def training_mode(self, model: nn.Module) -> None:
        """Training mode for what learns now."""
        self._let_body_learn(model, not model.__dict__[_PROBING])
        super().training_mode(model)

    def whole_from(self, steps: int) -> int:
        """The step behind the head's own."""
        return self._last_probing(steps) + 1

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None:
        """Hide from the optimizer what does not learn yet: neither decay nor moments may touch it."""
        if model.__dict__[_PROBING] and step <= self._last_probing(steps):
            for name in model.__dict__[_BODY]:
                model.get_parameter(name).grad = None

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Let everything learn once the head's share of the steps is done."""
        model.__dict__[_PROBING] = step < self._last_probing(steps)

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        """All weights and moving statistics, whatever learns just now."""
        learns_now = [name for name in model.__dict__[_BODY] if model.get_parameter(name).requires_grad]
        self._let_body_learn(model, True)
        found = super().learned(model)
        if not learns_now:
            self._let_body_learn(model, False)
        return found

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """Whether only the head learns just now."""
        import torch

        return {_PROBING: torch.tensor(bool(model.__dict__[_PROBING]))}

    def restore(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Go on in the part of the run that was saved."""
        model.__dict__[_PROBING] = bool(state[_PROBING])

    def _last_probing(self, steps: int) -> int:
        return min(int(self.probe * steps), steps - 1)

    def _let_body_learn(self, model: nn.Module, learns: bool) -> None:
        for name in model.__dict__[_BODY]:
            model.get_parameter(name).requires_grad_(learns)
