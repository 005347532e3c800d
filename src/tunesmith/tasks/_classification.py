"""What every classification shares: loss with class weights, answers, targets, scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from tunesmith.types import Example, Examples, Interval, Loss, MainScore, Prediction

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


Weight = Annotated[float, Field(ge=0)]
"""Of a class in the loss."""


def main_score(*, multi_label: bool) -> MainScore:
    """Accuracy, or micro F1 for several labels."""
    return MainScore("micro_f1" if multi_label else "accuracy", "higher")


def loss(
    logits: Tensor, targets: Tensor, *, weights: Tensor | None, label_smoothing: float, shares: Tensor | None = None
) -> Loss:
    """Cross-entropy summed over examples (binary, over examples and classes, where targets are 0/1 a class), and the
    count: examples, or the sum of their weights. shares: how much of each example's label counts, [examples]."""
    import torch.nn.functional as functional

    if targets.dim() == 2:
        target = targets * (1 - label_smoothing) + 0.5 * label_smoothing
        total = functional.binary_cross_entropy_with_logits(logits, target, weights, reduction="sum")
        return Loss(total / logits.shape[1], float(len(targets)))
    if shares is not None:
        each = functional.cross_entropy(logits, targets, weights, reduction="none", label_smoothing=label_smoothing)
        count = float((shares if weights is None else shares * weights[targets]).sum())
        return Loss((each * shares).sum(), count)
    total = functional.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=label_smoothing)
    count = float(len(targets)) if weights is None else float(weights[targets].sum())
    return Loss(total, count)


def weights_of(chosen: Any, names: Mapping[int, str] | Sequence[str], logits: Tensor) -> Tensor | None:
    """Class weights [classes] in the order of the model's labels; None for no weights."""
    import torch

    if not isinstance(chosen, dict):
        return None
    return torch.tensor([float(chosen.get(names[i], 1.0)) for i in range(logits.shape[1])], device=logits.device)


def predictions(logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
    """The best class of each row, or with `thresholds` (logits, one a class) every class above its own."""
    if thresholds is None:
        return [Prediction(row, labels[int(row.argmax())]) for row in logits]
    chosen = logits > thresholds
    return [
        Prediction(row, tuple(label for label, yes in zip(labels, on, strict=True) if yes))
        for row, on in zip(logits, chosen, strict=True)
    ]


def targets(examples: Examples, labels: Sequence[str]) -> np.ndarray:
    """Class indices [examples], or 0/1 [examples, classes] where labels are tuples."""
    import numpy as np

    index = {label: i for i, label in enumerate(labels)}
    given = [e.label for e in examples]
    if given and not isinstance(given[0], str):
        table = np.zeros((len(given), len(labels)), dtype=np.float32)
        for row, names in enumerate(given):
            table[row, [index[n] for n in names or ()]] = 1.0
        return table
    return np.array([index[str(label)] for label in given], dtype=np.int64)


def score(logits: np.ndarray, wanted: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> dict[str, float]:
    """Every score of a classification; `thresholds` as in `predictions`."""
    from tunesmith.metrics import classification

    if wanted.ndim == 2:
        return classification.multi_label(logits, wanted, labels, thresholds)
    return classification.single_label(logits, wanted, labels)


def records(
    examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
) -> Iterator[dict[str, Any]]:
    """One line of predictions/ an example: its inputs, its label, the answer and the probabilities."""
    import numpy as np

    from tunesmith.metrics import classification

    if multi_label and thresholds is None:
        thresholds = np.zeros(len(labels))
    probabilities = classification.sigmoid(logits) if multi_label else classification.softmax(logits)
    answers = predictions(logits, labels, thresholds)
    for example, answer, row in zip(examples, answers, probabilities, strict=True):
        chances = [round(float(p), 6) for p in row]
        yield record(example, {"label": example.label, "predicted": answer.label, "probabilities": chances})


def record(example: Example, answer: Mapping[str, Any]) -> dict[str, Any]:
    """An example's inputs, the answer, and where it stands."""
    return {**example.inputs, **answer, "file": example.file, "line": example.line}


def intervals(
    before: np.ndarray | None,
    after: np.ndarray,
    wanted: np.ndarray,
    labels: Sequence[str],
    thresholds: np.ndarray | None,
    *,
    seed: int,
) -> tuple[Interval | None, Interval, Interval | None]:
    """Of the main score: before, after, and of their difference on the same examples."""
    import numpy as np

    from tunesmith.metrics import classification, interval

    # A class is answered above its threshold: with thresholds taken off the logits, one rule serves before and after.
    shifted = after if thresholds is None else after - np.asarray(thresholds)
    if wanted.ndim == 1:  # one number an example, whatever the number of classes
        right = shifted.argmax(axis=1) == wanted
        late = interval.bootstrap_mean(right, seed=seed)
        if before is None:
            return None, late, None
        was_right = before.argmax(axis=1) == wanted
        gain = interval.paired_mean_difference(was_right, right, seed=seed)
        return interval.bootstrap_mean(was_right, seed=seed), late, gain
    fast = classification.micro_f1
    late = interval.bootstrap(fast, shifted, wanted, seed=seed)
    if before is None:
        return None, late, None
    early = interval.bootstrap(fast, before, wanted, seed=seed)
    return early, late, interval.paired_difference(fast, before, shifted, wanted, seed=seed)
