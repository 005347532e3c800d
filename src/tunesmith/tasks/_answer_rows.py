"""Encoded answers in rows of a batch, and what a model gives for them: log-probabilities, drift, the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.chats import UNLEARNED
from tunesmith.errors import RunError
from tunesmith.tasks._language import padded
from tunesmith.tasks._preference import (
    CHOSEN,
    COLUMNS,
    MISMATCHED,
    REJECTED,
    WITHOUT_REFERENCE,
    Answers,
    Terms,
    drift,
    losses,
    reference_point,
)
from tunesmith.types import Batch, Loss

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

TOKENS = 4096
"""Padded tokens of a forward pass of the untouched model."""
POINT = "reference_point"
"""Among a batch's inputs, [1]: kto's reference point in nats of the whole batch of its step."""


def in_rows(
    encoded: Sequence[Mapping[str, Any]],
    references: Any,
    padding: int,
    positions: Sequence[int] | None,
    *,
    most: int | str,
) -> Batch:
    """A row an answer, padded on the right: input_ids, attention_mask and `learned`, each [answers, tokens], the last
    with the id where an answer's token stands and -100 elsewhere; `owner` and `column` [answers]: the example it
    belongs to and what it is to it. Labels are the references [examples, 3] or None. most: as `_language.padded`."""
    import torch

    rows: list[dict[str, Any]] = []
    places: list[tuple[int, int]] = []
    for owner, example in enumerate(encoded):
        first = 0
        for column, (size, start) in enumerate(zip(example["sizes"], example["starts"], strict=True)):
            ids = example["input_ids"][first : first + size]
            first += size
            if len(ids):
                rows.append({"input_ids": ids, "labels": [*[UNLEARNED] * int(start), *ids[int(start) :]][: len(ids)]})
                places.append((owner, column))
    made = padded(rows, padding, None, most=most)
    assert made.labels is not None
    owners, columns = torch.tensor(places).T.contiguous()
    inputs = {**made.inputs, "learned": made.labels, "owner": owners, "column": columns}
    labels = None if references is None else torch.as_tensor(references, dtype=torch.float32)
    return Batch(inputs, labels, tuple(range(len(encoded))) if positions is None else tuple(positions))


def answers_in(model: nn.Module, batch: Batch, columns: Sequence[int], references: Tensor, *, chunk: int) -> Answers:
    """What the model gives for the answers in these columns, in one forward pass; the others are not there.

    With dropout, all answers of an example are read under one mask, drawn by the example's place in the whole batch.
    """
    import torch

    from tunesmith.models.chunked_head import sequence_logps
    from tunesmith.train import randomness

    given = batch.inputs["column"]
    chosen = torch.isin(given, torch.tensor(columns, device=given.device))
    owner, column, learned = (batch.inputs[name][chosen] for name in ("owner", "column", "learned"))
    logps = torch.zeros(len(batch), COLUMNS, device=given.device)
    tokens = torch.zeros_like(logps)
    if len(owner):
        clock = randomness.now()
        if clock is not None:  # not set back: blocks that are computed twice draw by it in the backward pass
            randomness.set_back((*clock[:2], tuple(batch.positions[int(i)] for i in owner)))
        inputs = {name: batch.inputs[name][chosen] for name in ("input_ids", "attention_mask")}
        found = sequence_logps(model, inputs, learned, chunk=chunk)
        logps = logps.to(found.dtype).index_put((owner, column), found)
        tokens = tokens.index_put((owner, column), (learned[:, 1:] != UNLEARNED).sum(1).to(tokens.dtype))
    return Answers(logps, tokens, references)


def predicted(model: nn.Module, batch: Batch, *, chunk: int) -> np.ndarray:
    """Log-probabilities of every answer, 0 where there is none, and its tokens, float32 [examples, 6]; no gradient."""
    import torch

    with torch.no_grad():
        found = answers_in(model, batch, range(COLUMNS), torch.zeros(()), chunk=chunk)
        table: np.ndarray = torch.cat([found.logps, found.tokens], dim=1).float().cpu().numpy()
    return table


def loss(model: nn.Module, batch: Batch, terms: Terms, *, chunk: int) -> Loss:
    """Summed over examples, and their number (kto: of judged answers). A batch of kto without a reference point takes
    its own. RunError where the untouched model's log-probabilities are missing."""
    import torch

    assert batch.labels is not None
    if terms.objective not in WITHOUT_REFERENCE and bool(batch.labels.isnan().any()):
        raise RunError(f"{terms.objective} needs what the untouched model gives (`Task.refer`), which is not there.")
    point = batch.inputs.get(POINT, torch.zeros(1))
    if terms.objective == "kto" and POINT not in batch.inputs:
        point = reference_point(drifted(model, batch, chunk=chunk))
    answers = answers_in(model, batch, (CHOSEN, REJECTED), batch.labels, chunk=chunk)
    total, count = losses(answers, terms, point)
    return Loss(total.sum(), float(count.sum()))


def untouched(model: nn.Module, encoded: Any, *, padding: int, most: int | str, chunk: int, device: Any) -> np.ndarray:
    """Log-probability of every answer, float64 [examples, 3], 0 where there is none; evaluation mode, float32."""
    import numpy as np

    table = np.zeros((len(encoded), COLUMNS))
    model.eval()
    for indices in _by_length(encoded.lengths):
        batch = device.move(in_rows([encoded[int(i)] for i in indices], None, padding, None, most=most))
        table[indices] = predicted(model, batch, chunk=chunk)[:, :COLUMNS]
    return table


def _by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    import numpy as np

    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, TOKENS // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def drifted(model: nn.Module, batch: Batch, *, chunk: int) -> Tensor:
    """`_preference.drift` of a batch, [2] float64; in evaluation mode, without gradient."""
    import torch

    from tunesmith.models.stand_in import evaluating

    assert batch.labels is not None
    with evaluating(model), torch.no_grad():
        return drift(answers_in(model, batch, (MISMATCHED,), batch.labels, chunk=chunk))


def with_point(model: nn.Module, batches: Sequence[Batch], *, chunk: int, device: Any) -> list[Batch]:
    """The batches of one step, each with the reference point of them all, over every process, among its inputs."""
    import torch

    total = torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        with device.arithmetic():
            total += drifted(model, device.move(batch), chunk=chunk).cpu()
    device.sum_over_processes([total])
    point = reference_point(total).float().reshape(1)
    return [replace(batch, inputs={**batch.inputs, POINT: point}) for batch in batches]
