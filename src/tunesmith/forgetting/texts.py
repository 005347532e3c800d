"""`texts`: how well the model still predicts the words of held-out text.

A masked language model (BERT) is asked for 15 % of each text's tokens, the same ones every time, each hidden behind the
mask token (Devlin et al. 2019, arXiv:1810.04805, without the 10 % left as they are and the 10 % at random, which serve
training only). A decoder (GPT-2, Llama) is asked for every token after the first. The language-model head is the
pretrained one; where it shares its matrix with the word embeddings, it goes on sharing the embeddings that learn. Its
logits are made for some hundred tokens at a time, so that memory does not grow with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.data.options import DataOptions
from tunesmith.errors import ModelError
from tunesmith.evaluate.evaluate import Encodings
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import gathered, hidden_states, in_float32
from tunesmith.forgetting.inputs import Inputs
from tunesmith.forgetting.language_head import LanguageHead, read_language_head
from tunesmith.forgetting.measures import turned
from tunesmith.forgetting.unlabelled import Unlabelled
from tunesmith.metrics import interval
from tunesmith.train.randomness import counter_seed
from tunesmith.types import Batch, Interval, MainScore

HIDDEN_SHARE = 0.15
"""Share of a text's tokens that a masked model is asked for, at least one."""

UNASKED = -100
"""In place of a token that is not asked for."""


def open_texts_task(data: DataOptions, opening: Opening) -> TextLoss:
    """Loss on the texts of `data`. ModelError where the new model reads no texts or brings no language-model head."""
    whose = f"the old task {opening.name} (texts)"
    if opening.task.kind != "texts":
        raise ModelError(f"{whose} measures how a model predicts words, and this run's model reads pictures. Use auto.")
    head = read_language_head(opening.pretrained, whose)
    return TextLoss(opening, Inputs(opening, data, whose), head)


class TextLoss(Unlabelled):
    """Loss on held-out text (see `base.OpenTask`); answers are each text's sum of losses in nats, and its tokens."""

    kind = "texts"
    main = MainScore("loss", "lower")

    def __init__(self, opening: Opening, inputs: Inputs, head: LanguageHead) -> None:
        super().__init__(opening, inputs)
        self.parts, self.head = opening.scored(inputs.names), head
        opening.device.place(head.model)
        self._asked: dict[str, _Asked] = {}
        what = "hidden token (15 % of each text, always the same)" if head.masked else "token after a text's first"
        self.definition = (
            f"mean loss in nats a {what} on {self.rows(self.parts[0]):,} {self.parts[0]} texts {inputs.told}, with the "
            "pretrained model's own language-model head; perplexity is its exponential."
        )

    def rows(self, part: str) -> int:
        """Texts that are looked at."""
        return len(self._inputs(part).encoded)

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Sum of losses and number of tokens asked for, float32 [texts, 2]."""
        opening = self._opening
        if part not in self._asked:
            self._asked[part] = _Asked(
                self._inputs(part).encoded, opening.pretrained.processor, masked=self.head.masked
            )

        def one(batch: Batch, _indices: np.ndarray) -> np.ndarray:
            wanted = batch.inputs["wanted"]
            given = Batch({k: v for k, v in batch.inputs.items() if k != "wanted"}, None, batch.positions)
            return self._losses(model, given, wanted).cpu().numpy()

        with in_float32(opening.device):
            return gathered(
                model,
                self._asked[part],
                one,
                task=_WithWanted(opening.task),  # type: ignore[arg-type]
                processor=opening.pretrained.processor,
                device=opening.device,
            )

    def _losses(self, model: nn.Module, batch: Batch, wanted: Tensor) -> Tensor:
        states = hidden_states(model, batch)
        asked = wanted != UNASKED
        each = self.head.losses(model, states[asked], wanted[asked])
        sums = torch.zeros(len(states), device=states.device)
        sums.index_add_(0, asked.nonzero()[:, 0], each)
        return torch.stack([sums, asked.sum(dim=1).float()], dim=1)

    def untouched(self, part: str) -> np.ndarray:
        """Answers of the untouched model; to be asked while it still is as it was read."""
        return self.answers(self._opening.pretrained.model, part)

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """`loss` a token, and `perplexity`."""
        loss = mean_loss(answers, answers)
        return {"loss": loss, "perplexity": float(np.exp(loss))}

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Loss of `last` minus that of `first`: above 0 is lost."""
        change = interval.paired_difference(mean_loss, first, last, first, seed=self._opening.seed)
        return turned(change, self.main)


def mean_loss(answers: np.ndarray, _targets: np.ndarray) -> float:
    """Loss a token over all texts, of [texts, 2] = sum, tokens; NaN without any token."""
    total, tokens = np.asarray(answers, np.float64).sum(axis=0)
    return float(total / tokens) if tokens else float("nan")


class _Asked:
    """Encoded texts with what is asked: `wanted`, the token of each place or `UNASKED`; masked ones are hidden."""

    def __init__(self, encoded: Encodings, processor: object, *, masked: bool) -> None:
        self.encoded, self.lengths, self.masked = encoded, encoded.lengths, masked
        self.mask_id = int(getattr(processor, "mask_token_id", None) or 0)
        self.special = {int(i) for i in getattr(processor, "all_special_ids", ())}

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        row = self.encoded[index]
        ids = np.array(row["input_ids"], dtype=np.int64)
        wanted = np.full(len(ids), UNASKED, dtype=np.int64)
        if not self.masked:
            wanted[:-1] = ids[1:]  # the state at a place predicts the next token
            return {**row, "wanted": wanted}
        plain = np.flatnonzero(~np.isin(ids, list(self.special)))
        if len(plain):
            draw = np.random.Generator(np.random.Philox(counter_seed("hidden words", index)))
            hidden = draw.choice(plain, size=max(1, round(HIDDEN_SHARE * len(plain))), replace=False)
            wanted[hidden] = ids[hidden]
            ids[hidden] = self.mask_id
        return {**row, "input_ids": ids, "wanted": wanted}


class _WithWanted:
    """The task's own collation, with `wanted` padded beside it."""

    def __init__(self, task: object) -> None:
        self.task = task

    def collate(self, encoded: list[Mapping[str, np.ndarray]], labels: None, processor: object) -> Batch:
        plain = [{name: value for name, value in row.items() if name != "wanted"} for row in encoded]
        batch: Batch = self.task.collate(plain, labels, processor)  # type: ignore[attr-defined]
        width = batch.inputs["input_ids"].shape[1]
        rows = [functional.pad(torch.from_numpy(row["wanted"]), (0, width - len(row["wanted"])), value=UNASKED)
                for row in encoded]  # fmt: skip
        return Batch({**batch.inputs, "wanted": torch.stack(rows)}, None, batch.positions)
