"""Scores of [examples, 3]: summed loss in nats, learned tokens, and those guessed right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tunesmith.types import Examples, Interval

SHOWN = 20_000
"""Letters of a text that stand in predictions."""

if TYPE_CHECKING:
    import numpy as np


def score(answers: np.ndarray) -> dict[str, float]:
    """`loss` a learned token over all examples, `perplexity`, `token_accuracy`; NaN where no token is learned."""
    import numpy as np

    total, tokens, right = np.asarray(answers, np.float64).sum(axis=0)
    loss = float(total / tokens) if tokens else float("nan")
    accuracy = float(right / tokens) if tokens else float("nan")
    return {"loss": loss, "perplexity": float(np.exp(min(loss, 700.0))), "token_accuracy": accuracy}


def mean_loss(answers: np.ndarray, _targets: np.ndarray) -> float:
    """Loss a learned token over all examples."""
    return score(answers)["loss"]


def intervals(
    before: np.ndarray | None, after: np.ndarray, targets: np.ndarray, *, seed: int
) -> tuple[Interval | None, Interval, Interval | None]:
    """Bootstrap over examples of the loss a token: before, after, and of their difference on the same examples."""
    from tunesmith.metrics import interval

    late = interval.bootstrap(mean_loss, after, targets, seed=seed)
    if before is None:
        return None, late, None
    early = interval.bootstrap(mean_loss, before, targets, seed=seed)
    return early, late, interval.paired_difference(mean_loss, before, after, targets, seed=seed)


def records(examples: Examples, answers: np.ndarray) -> Iterator[dict[str, Any]]:
    """Each example's loss a token, learned tokens and those guessed right, beside its inputs."""
    for example, (total, tokens, right) in zip(examples, answers, strict=True):
        loss = round(float(total) / max(float(tokens), 1.0), 9)
        scored = {"loss": loss, "tokens": int(tokens), "right": int(right)}
        shown = {name: _shortened(value) for name, value in example.inputs.items()}
        yield {**shown, **scored, "file": example.file, "line": example.line}


def _shortened(value: Any) -> Any:
    """What stands in predictions: of a book that was split, each window would else hold the whole."""
    if not isinstance(value, str) or len(value) <= SHOWN:
        return value
    return f"{value[:SHOWN]} ... ({len(value):,} characters)"
