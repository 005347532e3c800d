"""Only the bias terms and the head learn: about 0.1 % of the weights.

## Idea

Every layer of a transformer computes `W x + b`. The matrices `W` stay and all biases `b` learn, those of attention,
feed-forward layers and norms, together with the head. In a conv net most biases are BatchNorm's;
`statistics` is as in `norm_tuning`.

## Fits

Every model with biases; of language models GPT-2, Pythia, OPT and their like, not Llama and its like.

## Cost

About one learned number in a thousand, so optimizer memory is negligible. Gradients still flow through the whole
network, so a step saves only the products that would make the gradients of the matrices. What is written is a whole
model.

## When to choose it

With small or medium data (up to some thousand examples), where it is near full tuning and forgets little. Models
without biases (Llama, ModernBERT) cannot use it.

## Source

Ben Zaken, Ravfogel and Goldberg 2022, BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models, arXiv 2106.10199.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, Statistics, freeze_all_but, settle_statistics
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from torch import nn


class BitFit(Method):
    """Training of bias terms and head."""

    learning_rate: ClassVar[float] = 2e-3
    learning_rate_source: ClassVar[str] = "starting value, near the paper's best (1e-4 to 1e-3) for larger models"
    language_learning_rate: ClassVar[float | None] = 1e-3
    language_learning_rate_source: ClassVar[str] = "starting value, the paper's highest"
    adapter: ClassVar[bool] = False

    statistics: Statistics = Field("auto", description="of BatchNorm: frozen, moving, or auto, see above")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Freeze everything but biases and head. ModelError if the network has no biases."""
        model, head = pretrained.model, pretrained.anatomy.head
        names = tuple(n for n, _ in model.named_parameters() if n.rpartition(".")[2] == "bias")
        if all(any(n.startswith(h + ".") for h in head) for n in names):
            what = "outside its head, so bitfit would train the head alone" if head else "that bitfit could train"
            raise ModelError(
                f"{type(model).__name__} has no bias terms {what}. "
                f"Methods that work here: norm_tuning, lora, ia3, adapter{', head' if head else ''}."
            )
        settle_statistics(pretrained, self.statistics)
        freeze_all_but(model, (*names, *head))
        return model
