"""`auto` of a language model, without labels: whether it still expects the same next tokens as the untouched one.

At up to `PLACES` places of each held-out text, evenly spaced over prompt and answer, the untouched model's likeliest
token and the probabilities of its `LIKELIEST` tokens are kept; all others count as one. So the reference stays small
(some 130 numbers a place, whatever the vocabulary), and the divergence is that of the distributions so gathered, which
is at most that of the whole ones. Of the untouched model agreement is 1 and the divergence 0, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.chats import UNLEARNED
from tunesmith.data.options import DataOptions
from tunesmith.evaluate.evaluate import Encodings
from tunesmith.forgetting import distance
from tunesmith.forgetting.asked import evenly, next_token_logits
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import gathered, in_float32
from tunesmith.forgetting.inputs import Inputs
from tunesmith.forgetting.measures import turned
from tunesmith.forgetting.unlabelled import Unlabelled
from tunesmith.forgetting.work import OldParts
from tunesmith.metrics import interval
from tunesmith.models.chunked_head import each_logits
from tunesmith.tasks._language import forward_inputs
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.types import Batch, Interval, MainScore

PLACES = 64
"""Places of a text that are looked at, at most."""
LIKELIEST = 64
"""Tokens that are told apart at a place, at most."""

Each = Callable[[nn.Module, Batch, np.ndarray], np.ndarray]
"""(model, batch, numbers of its texts) -> a row a text."""


def open_next_tokens(
    opening: Opening, data: DataOptions | None, named: OldParts | None, *, reads: CausalLm, whose: str
) -> NextTokens:
    """`auto` on the run's own held-out texts, or on `named`, those of `data`. reads: how texts become tokens there.

    NothingToScore where the run holds nothing out.
    """
    inputs = Inputs(opening, data, whose, own=named)
    return NextTokens(opening if named is None else replace(opening, task=reads), inputs, reads)


class NextTokens(Unlabelled):
    """Next-token distributions, against those of the untouched model (see `base.OpenTask`). Answers are of each text
    the places at which both expect the same token, the summed divergence in nats, and the places."""

    kind = "auto"
    main = MainScore("agreement", "higher")

    def __init__(self, opening: Opening, inputs: Inputs, reads: CausalLm) -> None:
        super().__init__(opening, inputs)
        self.parts, self.reads = opening.scored(inputs.names), reads
        self._asked = {part: AskedTexts(inputs(part).encoded) for part in self.parts}
        self.reference: Mapping[str, np.ndarray] = {
            part: self._gathered(opening.pretrained.model, part, self._told) for part in self.parts
        }
        first = self.parts[0]
        places = int((~np.isnan(self.reference[first][:, :, 0])).sum())
        self.definition = (
            f"share of {places:,} places in {self.rows(first):,} {first} texts {inputs.told} (at most {PLACES} a text, "
            "evenly spaced) at which this run's model finds the same next token likeliest as before the run; kl is the "
            f"mean divergence of its next-token probabilities, KL(before || now), in nats, with the {LIKELIEST} tokens "
            "likeliest before told apart and all others as one."
        )

    def rows(self, part: str) -> int:
        """Texts that are looked at."""
        return len(self._asked[part])

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Places that agree, summed divergence in nats, and places, float32 [texts, 3]."""
        reference = self.reference[part]

        def one(model: nn.Module, batch: Batch, indices: np.ndarray) -> np.ndarray:
            return compared(model, batch, reference[indices], chunk=self.reads.chunk)

        return self._gathered(model, part, one)

    def untouched(self, part: str) -> np.ndarray:
        """Full agreement: the untouched model is what all later answers are held against."""
        places = (~np.isnan(self.reference[part][:, :, 0])).sum(axis=1)
        return np.stack([places, np.zeros_like(places), places], axis=1).astype(np.float32)

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """`agreement` and `kl` with the untouched model, a place."""
        _, divergence, places = np.asarray(answers, np.float64).sum(axis=0)
        kl = float(divergence / places) if places else float("nan")
        return {"agreement": mean_agreement(answers, answers), "kl": kl}

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Agreement of `first` minus that of `last`."""
        change = interval.paired_difference(mean_agreement, first, last, first, seed=self._opening.seed)
        return turned(change, self.main)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [places, vocabulary] of the next token at some places of the batch, evenly spaced."""
        return next_token_logits(model, batch)

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """Divergence of the softened next-token distributions, a mean over places."""
        return distance.between_logits(now, before, temperature)

    def _told(self, model: nn.Module, batch: Batch, _indices: np.ndarray) -> np.ndarray:
        return likeliest(model, batch, chunk=self.reads.chunk)

    def _gathered(self, model: nn.Module, part: str, each: Each) -> np.ndarray:
        opening = self._opening
        with in_float32(opening.device):
            return gathered(
                model,
                self._asked[part],
                partial(each, model),
                task=self.reads,
                processor=opening.pretrained.processor,
                device=opening.device,
            )


class AskedTexts:
    """Encoded texts with an even choice of places asked for: `labels` hold the token there, else `UNLEARNED`. Of a
    prompt with several answers the first one is read."""

    def __init__(self, encoded: Encodings) -> None:
        self.encoded, self.lengths = encoded, encoded.lengths

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        row = self.encoded[index]
        ids = np.array(row["input_ids"], dtype=np.int64)
        if "sizes" in row:
            ids = ids[: next(int(size) for size in row["sizes"] if size)]
        labels = np.full(len(ids), UNLEARNED, dtype=np.int64)
        places = 1 + evenly(max(0, len(ids) - 1), PLACES).numpy()
        labels[places] = ids[places]
        return {"input_ids": ids, "labels": labels}


def mean_agreement(answers: np.ndarray, _targets: np.ndarray) -> float:
    """Share of all places that agree; NaN without any."""
    same, _, places = np.asarray(answers, np.float64).sum(axis=0)
    return float(same / places) if places else float("nan")


def likeliest(model: nn.Module, batch: Batch, *, chunk: int) -> np.ndarray:
    """What is kept of a model's next-token distributions, float32 [texts, PLACES, 2 + 2 k]: the likeliest token, the
    log-probability of all but the k likeliest together, their ids and log-probabilities; NaN where no place is."""
    assert batch.labels is not None
    rows, chunks = each_logits(model, forward_inputs(batch), batch.labels, chunk=chunk)
    found = []
    for _, logits in chunks:
        top = logits.topk(min(LIKELIEST, logits.shape[1] - 1), dim=1).indices
        at, rest = _gathered_to(logits, top)
        found.append(torch.cat([logits.argmax(1, keepdim=True).float(), rest[:, None], top.float(), at], dim=1))
    return _by_place(rows, torch.cat(found), len(batch.labels))


def compared(model: nn.Module, batch: Batch, reference: np.ndarray, *, chunk: int) -> np.ndarray:
    """Places that agree with `reference` (of these texts, as `likeliest` gives it), summed divergence KL(reference ||
    model) in nats, and places, float32 [texts, 3]."""
    assert batch.labels is not None
    rows, chunks = each_logits(model, forward_inputs(batch), batch.labels, chunk=chunk)
    known = torch.from_numpy(reference[~np.isnan(reference[:, :, 0])]).to(rows.device)
    found = []
    for first, logits in chunks:
        told = known[first : first + len(logits)]
        count = (told.shape[1] - 2) // 2
        best, rest_before, top, before = told.split([1, 1, count, count], dim=1)
        now, rest = _gathered_to(logits, top.long())
        each = (before.exp() * (before - now)).sum(1) + rest_before[:, 0].exp() * (rest_before[:, 0] - rest)
        same = logits.argmax(1) == best[:, 0].long()
        found.append(torch.stack([same.float(), each.clamp_min(0), torch.ones_like(each)], dim=1))
    sums = torch.zeros(len(batch.labels), 3, device=rows.device)
    sums.index_add_(0, rows, torch.cat(found))
    return sums.cpu().numpy()


def _gathered_to(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of `tokens` [places, k], and of all others together [places]."""
    whole = logits.logsumexp(1, keepdim=True)
    others = logits.scatter(1, tokens, float("-inf")).logsumexp(1)
    return logits.gather(1, tokens) - whole, others - whole[:, 0]


def _by_place(rows: Tensor, values: Tensor, texts: int) -> np.ndarray:
    """Rows of values [places, columns], texts in order, as [texts, PLACES, columns], NaN where there is no place."""
    table = np.full((texts, PLACES, values.shape[1]), np.nan, dtype=np.float32)
    numbers = rows.cpu().numpy()
    within = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
    table[numbers, within] = values.cpu().numpy()
    return table
