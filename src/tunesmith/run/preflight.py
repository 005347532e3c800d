"""Preflight: everything that silently goes wrong elsewhere, tried once before the first step; seconds.

- a batch cut into micro-batches gives the gradient of the whole batch;
- after one update every learned tensor has moved, and every frozen tensor and buffer is what it was;
- what would be delivered, saved and read back by plain transformers and peft, gives the same logits;
- head size, label map and targets agree; the share of texts that are cut;
- time and memory that the run will take (see `forecast.py`).

The model, the optimizer and the random state are afterwards as they were, bit for bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.recipe.recipe import Recipe
from tunesmith.retention.base import Penalty
from tunesmith.run import finish
from tunesmith.run.forecast import Forecast, forecast
from tunesmith.run.forgotten import guard, untouched
from tunesmith.run.setup import Learning, Ready, set_up, settled, start_learning
from tunesmith.run.spent import Spent
from tunesmith.run.tryout import tryout
from tunesmith.train import randomness
from tunesmith.train.memory import give_back
from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.types import Batch

EXAMPLES = 8  # of the first batch: enough to see a fault, little to wait for
GRADIENT_TOLERANCE = 2e-3  # relative, float32: sums in another order differ by rounding only
LOGIT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Check:
    """One thing tried: its name, whether it holds, and what was seen."""

    name: str
    ok: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """All that was tried; the forecast is there where all of it holds."""

    checks: tuple[Check, ...]
    forecast: Forecast | None = None

    @property
    def ok(self) -> bool:
        """Whether training may begin."""
        return all(check.ok for check in self.checks)

    def lines(self) -> list[str]:
        """A line a check."""
        return [f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.seen}" for check in self.checks]


def check(recipe: Recipe) -> Preflight:
    """Read everything that a fit would read and examine it, in a folder that is thrown away; nothing is trained."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as place:
        ready = next(found for found in set_up(recipe, Path(place)) if isinstance(found, Ready))
        summary = ready.dataset.summary
        rows = Check(
            "rows",
            True,
            f"{summary.read:,} read = {summary.used:,} used + {summary.quarantined:,} quarantined + "
            f"{summary.blank:,} blank; {', '.join(f'{n} {k:,}' for n, k in summary.split_sizes.items())}",
        )
        notes = tuple(Check("data", True, note) for note in summary.notes)
        spent = Spent(Path(place) / "spent.json")
        with spent.on("old_tasks"):
            old = untouched(ready, Path(place))
        notes += tuple(Check("old tasks", True, words) for words in old.skipped)
        ready = settled(ready)
        learning = start_learning(ready)
        guarded = guard(ready, learning, old)
        found = examine(ready, learning, Path(place), penalty=guarded.penalty, spent=spent.seconds)
        return replace(found, checks=(rows, *notes, *found.checks))


def examine(
    ready: Ready,
    learning: Learning,
    work: Path,
    *,
    penalty: Penalty | None = None,
    spent: Mapping[str, float] | None = None,
) -> Preflight:
    """Try a fresh run's model on the shortest examples of its first batches, then take a forecast of the whole run;
    what is written goes to `work`. penalty, spent: see `forecast`."""
    batches = learning.batches
    give_back()
    first = [int(i) for step in (1, 2) for i in batches.indices(step)]  # the first alone may be the short one
    most = min(EXAMPLES, batches.batch_size, max(2, int(ready.recipe.train.micro_batch_size)))  # memory is for so many
    sizes = ready.parts["train"].encoded.lengths
    chosen = sorted(first, key=lambda i: int(sizes[i]))[:most]  # the short ones: float32 takes more room than the run
    whole = ready.device.move(batches.collate(chosen, list(range(len(chosen))), 0))
    with tryout(ready, learning, updates=True) as kept:
        checks = [_head(ready, learning, whole)] if ready.recipe.task.learns_classes else []
        checks += [Check(*seen) for seen in ready.recipe.task.examine(ready.parts["train"], ready.pretrained.processor)]
        checks.append(_micro_batches(ready, learning, chosen))
        checks.append(_moves(ready, learning, whole, kept))
        checks.append(_same_after_reading(ready, learning, whole, work / "preflight"))
        checks += [_cut(ready)] if ready.recipe.task.in_tokens else []
    if not all(check.ok for check in checks):
        return Preflight(tuple(checks))
    give_back()
    found = forecast(ready, learning, work, penalty=penalty, spent=spent)
    return Preflight((*checks, Check("expected", True, found.line())), found)


def _head(ready: Ready, learning: Learning, whole: Batch) -> Check:
    logits = ready.recipe.task.predict(learning.model.eval(), whole)
    wanted = dict(enumerate(ready.dataset.labels))
    config: Any = getattr(ready.pretrained.model, "config", None)
    spec: Any = getattr(ready.pretrained.model, "spec", None)
    # libraries other than transformers keep no names in the model; detectors of theirs have ours
    names = dict(getattr(config, "id2label", None) or (wanted if spec is None else dict(enumerate(spec.labels))))
    if not ready.recipe.task.calibrated:
        told = "agree" if names == wanted else f"differ: {names} against {wanted}"
        return Check("classes", names == wanted, f"{len(names)} for {len(wanted)} labels, names {told}")
    same = names == wanted and logits.shape[1] == len(wanted)
    return Check("head and label map", same, f"{logits.shape[1]} outputs for {len(wanted)} labels, names "
                 + ("agree" if names == wanted else f"differ: {names} against {wanted}"))  # fmt: skip


def _gradient(ready: Ready, learning: Learning, batches: list[Batch], *, own_statistics: bool = True) -> list[Tensor]:
    """own_statistics: False takes BatchNorm's running statistics, which no batch moves."""
    ready.recipe.method.training_mode(learning.model)
    for module in () if own_statistics else _batch_norms(learning.model):
        module.eval()
    learning.optimizer.zero_grad(set_to_none=True)
    count = 0.0
    for batch in ready.recipe.task.foresee(learning.model, batches, device=ready.device):
        randomness.begin(ready.recipe.train.seed, 1, batch.positions)
        loss = ready.recipe.task.loss(learning.model, ready.device.move(batch))  # what `foresee` adds lies on the CPU
        loss.total.backward()
        count += loss.count
    weights = [t for t in learning.learned.values() if isinstance(t, torch.nn.Parameter)]
    return [torch.zeros_like(t) if t.grad is None else t.grad / count for t in weights]


def _micro_batches(ready: Ready, learning: Learning, chosen: list[int]) -> Check:
    if len(chosen) < 2:
        return Check("micro-batches", True, "one example cannot be cut")
    cut = len(chosen) // 3 or 1

    def batch(start: int, end: int) -> Batch:
        made = learning.batches.collate(chosen[start:end], list(range(start, end)), 0)
        moved: Batch = ready.device.move(made)
        return moved

    one = _gradient(ready, learning, [batch(0, len(chosen))], own_statistics=False)
    two = _gradient(ready, learning, [batch(0, cut), batch(cut, len(chosen))], own_statistics=False)
    size = torch.stack([g.norm() for g in one]).norm()
    apart = torch.stack([(a - b).norm() for a, b in zip(one, two, strict=True)]).norm() / size.clamp_min(1e-12)
    told = f"{cut} + {len(chosen) - cut} examples against {len(chosen)}: gradients {apart:.1e} apart (relative)"
    ready.recipe.method.training_mode(learning.model)
    if any(module.training for module in _batch_norms(learning.model)):
        told += "; BatchNorm learns here and takes its statistics from each micro-batch by itself"
    return Check("micro-batches", bool(apart < GRADIENT_TOLERANCE) and bool(size > 0), told)


def _batch_norms(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in model.modules() if getattr(module, "running_mean", None) is not None]


def _moves(ready: Ready, learning: Learning, whole: Batch, kept: Mapping[str, Tensor]) -> Check:
    """Two updates, since a matrix that starts at zero keeps its partner's gradient at zero for the first. kept: the
    learned tensors as they were."""
    model, method, learned = learning.model, ready.recipe.method, learning.learned
    frozen = {n: t for n, t in [*model.named_parameters(), *model.named_buffers()]
              if not any(t is other for other in learned.values())}  # fmt: skip
    before = _prints(frozen)
    optimizer = make_optimizer(learned, ready.pretrained.anatomy, Rates(1e-3, 1e-3, 0.0, 1.0))
    first = method.whole_from(learning.plan.steps)
    for step in (first, first + 1):
        _gradient(ready, learning, [whole])
        method.after_backward(model, step, learning.plan.steps)
        optimizer.step()
        method.after_step(model, step, learning.plan.steps)
    still = [n for n, t in learned.items() if torch.equal(t, kept[n])]
    after = _prints(frozen)
    moved = [n for n in frozen if before[n] != after[n] and n not in method.state(model)]
    told = f"{len(learned)} learned tensors moved, {len(frozen)} frozen ones stayed"
    if still or moved:
        told = f"learned but unmoved: {still[:3] or 'none'}; frozen but moved: {moved[:3] or 'none'}"
    return Check("what learns", not still and not moved, told)


def _prints(tensors: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """A fingerprint of each tensor that any changed value changes (sums in float64, one weighted by place)."""
    prints = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().reshape(-1).double()
        prints[name] = (float(flat.sum()), float(flat.square().sum()))
    return prints


def _same_after_reading(ready: Ready, learning: Learning, whole: Batch, place: Path) -> Check:
    """Written and read by the first process alone: libraries write nothing in the others."""
    apart = 0.0
    learning.model.eval()
    if ready.device.is_main:
        apart = _apart(ready, learning, whole, place)
    apart = ready.device.agree(apart)
    return Check("saved and read back", apart < LOGIT_TOLERANCE, f"logits {apart:.1e} apart, read by a plain program")


def _apart(ready: Ready, learning: Learning, whole: Batch, place: Path) -> float:
    live = ready.recipe.task.predict(finish.final_model(ready, learning), whole)
    finish.deliver(ready, learning, place)
    plain, _ = ready.recipe.task.read(place)
    read: Any = ready.recipe.task.predict(ready.device.place(plain), whole)
    return float(abs(live - read).max() / max(1.0, abs(live).max()))


def _cut(ready: Ready) -> Check:
    limit = getattr(ready.recipe.task, "max_length", None)
    share = float((ready.lengths > limit).mean()) if limit else 0.0
    room = int(np.percentile(ready.lengths, 95, method="inverted_cdf")) if len(ready.lengths) else 0
    room = min(room, ready.longest_input or room)
    more = share > 0.1 and limit is not None and room > limit
    whole = f"task.max_length={room} would keep {float((ready.lengths <= room).mean()):.0%} whole" if more else ""
    advice = f" (longest seen {int(ready.lengths.max())}; {whole})" if more else ""
    return Check("texts cut", True, f"{share:.1%} of the texts are longer than {limit} tokens{advice}")
