"""Elastic weight consolidation: a pull towards the start, strong where the old task is sensitive.

## Idea

`strength / 2 x sum F (w - w0)^2`, over all weights that learn but the head. `F` is the diagonal of the Fisher
information of the old task at `w0`: the mean over old examples of the squared gradient of the log-likelihood, each
example by itself, in evaluation mode. `labels: sampled` draws each label from the untouched model's own answer, which
is the Fisher information proper and needs no labels; `given` takes the examples' own. A resumed run works `F` out again
and gets the same bits. Several old tasks are summed up.

A language model answers at each token: an example is then a text, and tokens are drawn (at up to 256 places of it, in
the context that stands there) from the untouched model's distributions. Since draws at different places are
independent, the squared gradient of their summed log-likelihood is, in the mean, the sum of each token's. With `labels:
given` it is that of the mean loss of the text.

An old task without a head (`auto` and `texts` of an encoder) and detectors have the Fisher information of their
features, as if these were seen with normal noise relative to their size. It is the curvature of the distance that `lwf`
takes.

`F` is divided by its own mean, so that `strength` is as that of `l2_sp` and does not depend on how sure the old model
was of its training examples (a departure from the paper, whose lambda takes that in).

## Fits

Every method that lets more than the head learn. For an adapter whose fresh product is zero (LoRA) only the factor that
is zero has a gradient there, and only it is held.

## Cost

`examples` single forward and backward passes for each old task before the first step, again when a run is resumed; two
copies of what learns and a few passes over them a step. Old data are read before training only.

## When to choose it

When old data may be looked at once but not trained on.

## Source

Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks, arXiv 1612.00796, eq. 3; on given and
sampled labels Kunstner, Balles and Hennig 2019, arXiv 1905.12558. The Fisher information of features is ours; the
default strength is a starting value, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tunesmith.errors import Fault, RecipeError
from tunesmith.retention.base import Held, OldWork, Penalty, Retention
from tunesmith.types import Batch

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class EWC(Retention):
    """A pull towards the start, weighted by the old task's sensitivity."""

    strength: float = Field(0.1, gt=0, le=1e6, description="how strong the pull is; of the mean weight as in l2_sp")
    examples: int = Field(200, ge=1, le=1_000_000, description="examples of each old task the sensitivity is taken on")
    labels: Literal["sampled", "given"] = Field("sampled", description="drawn from the model's answers, or the data's")

    def penalty(self, held: Held) -> Penalty:
        """Take the Fisher information; then a part a tensor. RecipeError where no old task serves."""
        from tunesmith.retention._anchored import anchored, weights

        learned, fisher = weights(held), self.fisher(held)

        def parts(model: nn.Module, step: int) -> Iterator[Tensor]:
            for name, tensor in learned.items():
                if tensor.requires_grad:  # a method may let the head learn alone at first
                    yield anchored(tensor, held.start[name], self.strength, fisher[name])

        return parts

    def fisher(self, held: Held) -> dict[str, Tensor]:
        """The diagonal at `held.start`, by name, its mean over all values 1 (all 0 where nothing is sensitive)."""
        import torch

        from tunesmith.models.stand_in import stand_in
        from tunesmith.retention._anchored import weights
        from tunesmith.retention._beside import beside

        found = {name: torch.zeros_like(tensor) for name, tensor in weights(held).items()}
        with stand_in(held.model, held.start), torch.enable_grad():
            own = dict(held.model.named_parameters())
            there = [own[name].requires_grad_(True) for name in found]  # those that stand in, not the model's own
            for task in self._serving(held.old):
                for number in range(1, self.examples + 1):
                    batch = task.batch(-number, 1)  # steps of training are above 0: these are draws of their own
                    with beside(held.model, held.seed, -number, batch.positions, still=True):
                        value, scale = self._told(task, held, batch, number)
                        gradients = torch.autograd.grad(value, there, allow_unused=True)
                    for into, gradient in zip(found.values(), gradients, strict=True):
                        if gradient is not None:
                            into.addcmul_(gradient, gradient, value=scale / self.examples)
        whole = sum(float(each.double().sum()) for each in found.values())
        mean = whole / max(1, sum(each.numel() for each in found.values()))
        return {name: each / mean if mean else each for name, each in found.items()}

    def _serving(self, old: Sequence[OldWork]) -> Sequence[OldWork]:
        serving = [task for task in old if task.labelled or self.labels == "sampled"]
        if not serving:
            told = " with labels, which labels: given asks for; labels: sampled needs none" if old else ""
            raise RecipeError([Fault("retention", "ewc learns from an old task how much each weight matters, and "
                                     f"forgetting.old_tasks names none{told}. Name an earlier run's folder, or "
                                     "auto (tasks of the harness are scored alone).")])  # fmt: skip
        return serving

    def _told(self, task: OldWork, held: Held, batch: Batch, number: int) -> tuple[Tensor, float]:
        """What is differentiated for one example, and by what its squared gradient is multiplied."""
        from tunesmith.train.randomness import generator

        if self.labels == "given":
            loss = task.loss(held.model, batch)
            return loss.total / max(loss.count, 1e-12), 1.0
        return sampled(task, task.outputs(held.model, batch), batch, generator(held.seed, "fisher", task.name, number))


def sampled(task: OldWork, outputs: Tensor, batch: Batch, draw: Generator) -> tuple[Tensor, float]:
    """Log-likelihood of an answer that is drawn (on the CPU) from `outputs` [1, classes or size] themselves, and the
    factor of its squared gradient; the expectation of both is the curvature of the loss, or of the features' distance.
    Of [places, vocabulary] one is drawn at each place, and the log-likelihoods are summed.
    """
    import torch
    from torch.nn import functional

    values = outputs.detach().double().cpu()
    size = values.shape[-1]
    if batch.labels is not None and batch.labels.dim() == 2 and batch.labels.is_floating_point():
        # 0/1 a class, whose losses are averaged
        yes = torch.bernoulli(values.sigmoid(), generator=draw).to(outputs)
        return -functional.binary_cross_entropy_with_logits(outputs, yes, reduction="sum"), 1.0 / size
    # A divergence does not change when all logits rise by the same, and the squared distance of features does.
    few = values[:1]
    if float(task.distance(few + few.abs().max() + 1, few, 1.0)) < 1e-3:
        answer = torch.multinomial(values.softmax(-1), 1, generator=draw)
        return outputs.log_softmax(-1).gather(1, answer.to(outputs.device)).sum(), 1.0
    signs = torch.bernoulli(torch.full_like(values, 0.5), generator=draw).to(outputs) * 2 - 1
    return (outputs * signs).sum(), 2.0 / max(float(values.square().sum()), 1e-30)
