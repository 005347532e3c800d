"""The loop: one generator, straight down the page. It yields what happened and never writes, prints or stops by itself.

Saving, progress bars, early stopping and pruning belong to whoever asks for the next event; between two events the
model, optimizer and state are consistent, so any of them may be saved there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tunesmith.errors import NotFiniteError
from tunesmith.events import Evaluated, Step
from tunesmith.train import randomness
from tunesmith.train.device import Device
from tunesmith.train.schedule import Schedule, rate_factor
from tunesmith.types import Batch, Loss, MainScore


class Learner(Protocol):
    """What the loop asks of a method."""

    def training_mode(self, model: nn.Module) -> None:
        """Put the model into the mode in which this method trains."""

    def after_backward(self, model: nn.Module, step: int, steps: int) -> None:
        """Gradients are complete, the update comes."""

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """The update is made, gradients still stand."""


class Batches(Protocol):
    """The data of each step, by number alone, so that no position in a stream has to be saved."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the examples."""
        ...

    def micro_batches(self, step: int) -> Sequence[Batch]:
        """The process's share of the batch of 1-based `step`, cut into micro-batches; may be empty."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a run, all resolved."""

    steps: int
    seed: int
    schedule: Schedule
    warmup: float
    max_gradient_norm: float
    evaluate_every: int
    main_score: MainScore
    learning_rate: float
    """The highest rate that people are shown, times the schedule; groups of the optimizer may have others."""

    def evaluates_at(self, step: int) -> bool:
        """Whether an evaluation follows the update of `step`."""
        return step % self.evaluate_every == 0 or step == self.steps


@dataclass(slots=True)
class Progress:
    """How far a run has come; saved in every checkpoint."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_since_best: int = 0
    seconds: float = 0.0
    owed: bool = False
    """Whether the evaluation that follows `step` is still to be made."""


def train(
    model: nn.Module,
    batches: Batches,
    *,
    loss: Callable[[nn.Module, Batch], Loss],
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    progress: Progress,
    device: Device,
    evaluate: Callable[[], dict[str, float]] | None = None,
    penalty: Callable[[nn.Module, int], Iterator[Tensor]] | None = None,
    admits: Callable[[dict[str, float]], bool] | None = None,
    foresee: Callable[..., Sequence[Batch]] | None = None,
    statistics: Sequence[Tensor] = (),
) -> Iterator[Step | Evaluated]:
    """Train from `progress.step` to `plan.steps`; yields a `Step` an update and an `Evaluated` an evaluation.

    The gradient is that of the summed loss divided by its count over the whole batch, whatever the micro-batches.
    penalty: parts added to the mean loss of a step, given the model and the 1-based step; worked out by every process,
    each for its share of the gradient, so it must be the same in each. statistics: running ones, which follow what each
    process sees, and are averaged. admits: whether scores may be the best ones.
    foresee: given the model, the micro-batches of a step and the device, the same with what all of them must know.
    Raises NotFiniteError before an update whose loss or gradient is NaN or infinite: the weights are not touched.
    """
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    if evaluate is not None and progress.owed:
        yield _evaluated(evaluate, plan.main_score, progress, admits)
    while progress.step < plan.steps:
        started = time.perf_counter()
        step = progress.step + 1
        learner.training_mode(model)
        optimizer.zero_grad(set_to_none=True)

        total = torch.zeros(3, dtype=torch.float64)  # summed loss, its count, tokens
        examples = 0
        cut = batches.micro_batches(step)
        for batch in cut if foresee is None else foresee(model, cut, device=device):
            randomness.begin(plan.seed, step, batch.positions)
            with device.arithmetic():
                part = loss(model, device.move(batch))
            part.total.backward()
            total += torch.tensor([part.total.item(), part.count, _tokens(batch)], dtype=torch.float64)
            examples += len(batch)
        share = torch.tensor([*total.tolist(), examples], dtype=torch.float64)
        device.sum_over_processes([share])
        total_loss, count, tokens, all_examples = share.tolist()
        mean_loss = total_loss / max(count, 1e-12)
        if penalty is not None:
            mean_loss += _differentiated(penalty(model, step), count, device)
        gradients = _gradients(learned)
        device.sum_over_processes(gradients)

        # One pass scales by the count and clips; the sum of losses was differentiated, not their mean.
        norm = torch.nn.utils.get_total_norm(gradients).item() / max(count, 1e-12)
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise NotFiniteError(
                f"step {step}: loss {mean_loss}, gradient norm {norm}. The update was not made; the weights are "
                f"those of step {step - 1}. Usual causes: a learning rate that is too high, or values in the data or "
                "the pretrained weights that are not finite."
            )
        clip = min(1.0, plan.max_gradient_norm / (norm + 1e-12)) if plan.max_gradient_norm else 1.0
        torch._foreach_mul_(gradients, clip / max(count, 1e-12))

        learner.after_backward(model, step, plan.steps)
        factor = rate_factor(step, plan.steps, schedule=plan.schedule, warmup=plan.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        optimizer.step()
        learner.after_step(model, step, plan.steps)
        device.average_over_processes(statistics, examples)

        progress.step, progress.owed = step, evaluate is not None and plan.evaluates_at(step)
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        yield Step(
            step=step,
            epoch=step / batches.steps_per_epoch,
            loss=mean_loss,
            learning_rate=plan.learning_rate * factor,
            gradient_norm=norm,
            examples=int(all_examples),
            tokens=int(tokens),
            seconds=seconds,
        )

        if evaluate is not None and progress.owed:
            yield _evaluated(evaluate, plan.main_score, progress, admits)


def _differentiated(parts: Iterator[Tensor], count: float, device: Device) -> float:
    """Differentiate each part of a penalty before the next is made, scaled like the summed loss; the sum of all."""
    total = torch.zeros(1, dtype=torch.float64)
    while True:
        with device.arithmetic():
            part = next(parts, None)
        if part is None:
            break
        (part * (count / device.processes)).backward()
        total += part.item()
    device.average_over_processes([total], 1.0)
    return total.item()


def _evaluated(
    evaluate: Callable[[], dict[str, float]],
    main: MainScore,
    progress: Progress,
    admits: Callable[[dict[str, float]], bool] | None,
) -> Evaluated:
    started = time.perf_counter()
    scores = evaluate()
    progress.owed = False
    best = main.beats(scores[main.name], progress.best_score) and (admits is None or admits(scores))
    if best:
        progress.best_step, progress.best_score, progress.evaluations_since_best = progress.step, scores[main.name], 0
    else:
        progress.evaluations_since_best += 1
    return Evaluated(progress.step, scores, best, time.perf_counter() - started)


def _tokens(batch: Batch) -> int:
    mask = batch.inputs.get("attention_mask")
    return 0 if mask is None else int(mask.sum().item())


def _gradients(learned: Sequence[Tensor]) -> list[Tensor]:
    """Every learned tensor's gradient; one that got none this step (a process without examples) gets zeros."""
    for tensor in learned:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    return [tensor.grad for tensor in learned if tensor.grad is not None]
