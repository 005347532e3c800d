"""What tasks that learn token by token share: rows of tokens, padded or packed, and the mask between packed texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.chats import UNLEARNED
from tunesmith.tasks._widths import width
from tunesmith.types import Batch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MULTIPLE = 8
"""Rows are a multiple of this many tokens at least: products of a processor want round sizes, and shapes recur."""


def padded(
    rows: Sequence[Mapping[str, Any]], padding: int, positions: Sequence[int] | None, *, most: int | str
) -> Batch:
    """A row a sequence, padded on the right: input_ids, attention_mask and labels, each [sequences, tokens].

    most: tokens that no row may have more of, or "auto" where it is not known (see `_widths.py`).
    """
    import numpy as np
    import torch

    sizes = np.array([len(row["input_ids"]) for row in rows])
    shape = (len(rows), width(int(sizes.max()), most, multiple=MULTIPLE))
    ids = np.full(shape, padding, dtype=np.int64)
    labels = np.full(shape, UNLEARNED, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : sizes[place]] = row["input_ids"]
        labels[place, 1 : sizes[place]] = row["labels"][1:]  # nothing stands before the first token to tell it
    mask = np.arange(shape[1]) < sizes[:, None]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    places = tuple(range(len(rows))) if positions is None else tuple(positions)
    return Batch(inputs, torch.from_numpy(labels), places)


def packed(
    rows: Sequence[Mapping[str, Any]], padding: int, positions: Sequence[int] | None, *, most: int | str
) -> Batch:
    """The same sequences in fewer rows, as long as the longest of them; most: as above.

    Beside input_ids, attention_mask and labels: position_ids, which begin anew with each sequence, and `segments`, the
    sequence's number plus one at each of its places, 0 at padding; each [rows, tokens].
    """
    import numpy as np
    import torch

    from tunesmith.train.packing import best_fit

    sizes = [len(row["input_ids"]) for row in rows]
    room = width(max(sizes), most, multiple=MULTIPLE)
    places = best_fit(sizes, room)
    shape = (len(places), room)
    ids = np.full(shape, padding, dtype=np.int64)
    labels = np.full(shape, UNLEARNED, dtype=np.int64)
    at, segments = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for line, numbers in enumerate(places):
        start = 0
        for number in numbers:
            end = start + sizes[number]
            ids[line, start:end] = rows[number]["input_ids"]
            labels[line, start + 1 : end] = rows[number]["labels"][1:]
            at[line, start:end] = np.arange(sizes[number])
            segments[line, start:end] = number + 1
            start = end
    tables = {"input_ids": ids, "attention_mask": (segments > 0).astype(np.int64), "position_ids": at,
              "segments": segments}  # fmt: skip
    inputs = {name: torch.from_numpy(table) for name, table in tables.items()}
    order = tuple(range(len(rows))) if positions is None else tuple(positions)
    return Batch(inputs, torch.from_numpy(labels), order)


def forward_inputs(batch: Batch) -> dict[str, Tensor]:
    """What the model's forward takes. In packed rows a token sees those before it in its own sequence alone: the mask
    is then [rows, 1, tokens, tokens], True where one may look."""
    import torch

    inputs = dict(batch.inputs)
    segments = inputs.pop("segments", None)
    if segments is None:
        return inputs
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    own = segments[:, None, :, None] == segments[:, None, None, :]
    return {**inputs, "attention_mask": own & causal}


def by_example(batch: Batch, values: Tensor) -> np.ndarray:
    """Values at the labelled places summed within each example, float64 [examples, columns].

    values: [labelled places, columns], places row by row.
    """
    import numpy as np

    assert batch.labels is not None
    rows, places = (batch.labels[:, 1:] != UNLEARNED).nonzero(as_tuple=True)
    segments = batch.inputs.get("segments")
    owner = rows if segments is None else segments[rows, places + 1] - 1
    sums = np.zeros((len(batch), values.shape[1]))
    np.add.at(sums, owner.cpu().numpy(), values.double().cpu().numpy())
    return sums
