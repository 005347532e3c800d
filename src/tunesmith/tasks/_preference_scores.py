"""What preference tuning is judged by: loss, rewards, and how often the preferred answer has the higher one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tunesmith.errors import RunError
from tunesmith.tasks import _preference as preference
from tunesmith.tasks._preference import CHOSEN, REJECTED, Answers, Terms
from tunesmith.types import Examples, Interval, Prediction

if TYPE_CHECKING:
    import numpy as np

TIE = 1e-3
"""Nats within which two gains are the same: summed in another order, float32 gives such differences."""


def answers_of(logits: np.ndarray, targets: np.ndarray, terms: Terms) -> Answers:
    """Log-probabilities and tokens [examples, 6], and references [examples, 3], as a value in float64.

    RunError where the loss compares with the untouched model and nobody has worked out what that gives.
    """
    import numpy as np
    import torch

    references = np.array(targets, np.float64)
    if terms.objective in preference.WITHOUT_REFERENCE:
        references = np.zeros_like(references)
    if np.isnan(references).any():
        raise RunError(f"{terms.objective} compares with the untouched model, and what that gives for these examples "
                       "was not worked out (`Task.refer`).")  # fmt: skip
    logps, tokens = np.split(np.asarray(logits, np.float64), 2, axis=1)
    return Answers(*(torch.from_numpy(np.ascontiguousarray(table)) for table in (logps, tokens, references)))


def per_example(answers: Answers, terms: Terms) -> np.ndarray:
    """The loss of each example, [examples]; for kto with the reference point of all of them together."""
    point = preference.reference_point(preference.drift(answers))
    total, count = preference.losses(answers, terms, point)
    found: np.ndarray = (total / count.clamp_min(1)).numpy()
    return found


def score(answers: Answers, terms: Terms) -> dict[str, float]:
    """`loss`, `chosen_reward`, `rejected_reward`, their `margin`, and for pairs `reward_accuracy` and `likelier`,
    for single answers `auroc`; what cannot be said of such examples (only liked ones, say) is left out."""
    there = answers.there.numpy()
    found = {"loss": float(per_example(answers, terms).mean())}
    reward = preference.rewards(answers, terms).numpy()
    for column, name in ((CHOSEN, "chosen_reward"), (REJECTED, "rejected_reward")):
        if there[:, column].any():
            found[name] = float(reward[there[:, column], column].mean())
    if "chosen_reward" in found and "rejected_reward" in found:
        found["margin"] = found["chosen_reward"] - found["rejected_reward"]
    paired = there[:, CHOSEN] & there[:, REJECTED]
    if paired.any():
        found["reward_accuracy"] = float(right(answers, terms)[paired].mean())
        if terms.objective not in preference.WITHOUT_REFERENCE:
            means = answers.means.numpy()[paired]
            found["likelier"] = float((means[:, CHOSEN] > means[:, REJECTED]).mean())
    elif "margin" in found:
        found["auroc"] = _area(reward, there)
    if terms.objective == "kto":
        found["drift"] = float(preference.reference_point(preference.drift(answers)))
    return found


def right(answers: Answers, terms: Terms) -> np.ndarray:
    """1 where the chosen answer of a pair has the higher reward, 0 where the rejected one, 0.5 where they are as good
    as equal (as all are before training, if the reward is what was gained), [examples]."""
    import numpy as np

    reward = preference.rewards(answers, terms).numpy()
    apart = reward[:, CHOSEN] - reward[:, REJECTED]
    close = terms.beta * TIE
    if terms.objective in ("ipo", *preference.WITHOUT_REFERENCE):  # rewards a token
        close = close / answers.tokens.numpy()[:, : REJECTED + 1].max(axis=1).clip(1)
    found: np.ndarray = np.where(np.abs(apart) < close, 0.5, (apart > 0).astype(float))
    return found


def _area(reward: np.ndarray, there: np.ndarray) -> float:
    """How often a liked answer has a higher reward than a disliked one, over all pairs of such; a tie counts half."""
    import numpy as np

    from tunesmith.metrics.classification import area_under_roc

    liked = there[:, CHOSEN]
    single = np.where(liked, reward[:, CHOSEN], reward[:, REJECTED])
    return area_under_roc(single[:, None], liked[:, None].astype(int))


def intervals(
    before: np.ndarray | None, after: np.ndarray, targets: np.ndarray, terms: Terms, *, seed: int
) -> tuple[Interval | None, Interval, Interval | None]:
    """Of the loss: before, after, and of their difference on the same examples. kto's reference point is that of all
    examples in every resample."""
    from tunesmith.metrics import interval

    late = per_example(answers_of(after, targets, terms), terms)
    if before is None:
        return None, interval.bootstrap_mean(late, seed=seed), None
    early = per_example(answers_of(before, targets, terms), terms)
    return (
        interval.bootstrap_mean(early, seed=seed),
        interval.bootstrap_mean(late, seed=seed),
        interval.paired_mean_difference(early, late, seed=seed),
    )


def predictions(logits: np.ndarray) -> list[Prediction]:
    """Which answer of each pair has the higher log-probability a token."""
    means = logits[:, :3] / logits[:, 3:].clip(1)
    return [Prediction(row, "chosen" if mean[CHOSEN] > mean[REJECTED] else "rejected")
            for row, mean in zip(logits, means, strict=True)]  # fmt: skip


def records(examples: Examples, logits: np.ndarray) -> Iterator[dict[str, Any]]:
    """The prompt and its answers, with the summed log-probability in nats and the tokens of each answer."""
    for example, row in zip(examples, logits, strict=True):
        known: dict[str, Any] = {}
        for column, name in ((CHOSEN, "chosen"), (REJECTED, "rejected")):
            if row[3 + column]:
                known |= {f"{name}_logp": round(float(row[column]), 4), f"{name}_tokens": int(row[3 + column])}
        yield {**example.inputs, **known, "file": example.file, "line": example.line}


def rated(logits: np.ndarray, targets: np.ndarray, terms: Terms) -> Iterator[dict[str, Any]]:
    """The loss and the rewards of each example."""
    answers = answers_of(logits, targets, terms)
    reward, there = preference.rewards(answers, terms).numpy(), answers.there.numpy()
    names = {CHOSEN: "chosen_reward", REJECTED: "rejected_reward"}
    for row, kept, loss in zip(reward, there, per_example(answers, terms), strict=True):
        rewards = {name: round(float(row[column]), 6) for column, name in names.items() if kept[column]}
        yield {"loss": round(float(loss), 6), **rewards}
