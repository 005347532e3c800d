"""Language modelling: teach a GPT- or Llama-like model to answer (instructions, style, tone), or to go on with text.

Conversations go through the model's own chat template, and only the assistant's answers and the token that ends them
are learned; plain texts are learned word by word. The loss is the cross-entropy of the next token, a mean over learned
tokens. The main score is that loss on held-out answers; perplexity, its exponential, and the share of tokens guessed
right stand beside it. Short examples share a row without seeing each other (`packing`), and the output layer is
applied only where something is learned, some hundred tokens at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.chats import Chat
from tunesmith.errors import TunesmithError
from tunesmith.tasks import _chat_rows as chat_rows
from tunesmith.tasks import _language as language
from tunesmith.tasks import _language_models as language_models
from tunesmith.tasks import _token_losses as token_losses
from tunesmith.tasks._answers import AnswerOptions
from tunesmith.tasks.base import Encoded, Kind, Task
from tunesmith.types import Batch, Example, Examples, Interval, Loss, MainScore, ModelSource, Prediction, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn


class CausalLm(Task):
    """Options of the task."""

    kind: ClassVar[Kind] = "chats"
    input_columns: ClassVar[tuple[str, ...]] = ("chat",)
    learns_classes: ClassVar[bool] = False
    calibrated: ClassVar[bool] = False
    ruler: ClassVar[tuple[str, ...]] = ("max_length", "train_on", "template", "overlong")
    sifts: ClassVar[bool] = True
    batch_sizes: ClassVar[tuple[int, int]] = (8, 16)
    seen: ClassVar[int] = 600
    longest: ClassVar[int] = 512
    micro_tokens: ClassVar[int] = 2_048

    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | Literal["auto"] = Field(
        "auto", description="tokens kept of each conversation or text"
    )
    train_on: Literal["responses", "all"] = Field(
        "responses", description="which tokens of a conversation are learned: the assistant's answers, or all"
    )
    template: str = Field("auto", min_length=1, description="chat template; auto: the tokenizer's own, else chatml")
    overlong: Literal["auto", "cut", "drop", "split"] = Field(
        "auto", description="what becomes of longer ones; auto: conversations are cut from the front, texts split"
    )
    packing: bool | Literal["auto"] = Field(
        "auto", description="several examples in a row, unseen by each other; auto: on accelerators, where possible"
    )
    chunk: int = Field(512, ge=16, le=1_048_576, description="learned tokens whose logits stand in memory together")
    neftune: float = Field(0.0, ge=0, le=100, description="noise on word embeddings while learning (5: as published)")
    answers: AnswerOptions = Field(AnswerOptions(), description="held-out examples that both models answer in words")

    @property
    def packs(self) -> bool:
        """Whether batches are packed, which makes batches of like lengths needless."""
        return self.packing is True

    def main_score(self, *, multi_label: bool) -> MainScore:
        """Loss a learned token, in nats."""
        return MainScore("loss", "lower")

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """A transformers language model or a GGUF file; it brings its own weights."""
        return language_models.find_model(name, revision=revision, weights=weights, pretrained=pretrained)

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The pretrained model as it is; nothing is drawn."""
        from tunesmith.models.causal import load_causal

        return load_causal(source, template=self.template)

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Configuration, how to generate and where to end, and the tokenizer with its chat template."""
        language_models.write_companions(pretrained, folder)

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """Through transformers and peft alone."""
        from tunesmith.models.causal import read_causal

        return read_causal(folder)

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Tokens of each conversation or text, uncut."""
        import numpy as np

        found = self._encoded(examples, pretrained.processor, None)
        return np.array([0 if isinstance(row, TunesmithError) else len(row["input_ids"]) for row in found])

    def longest_input(self, pretrained: Pretrained) -> int | None:
        """What tokenizer and positions allow."""
        return language_models.longest_input(pretrained)

    def sift(self, examples: Sequence[Example], processor: Any) -> list[tuple[int, ...] | str]:
        """Windows into which an over-long one is split, where that is asked for; why it is left out; or one window."""
        return [self._sifted(row, example) for example, row in
                zip(examples, self._encoded(examples, processor, None), strict=True)]  # fmt: skip

    def _sifted(self, row: Encoded | TunesmithError, example: Example) -> tuple[int, ...] | str:
        if isinstance(row, TunesmithError):
            return str(row)
        limit = len(row["input_ids"]) if self.max_length == "auto" else self.max_length
        windows = -(-len(row["input_ids"]) // limit) if limit else 1
        if windows > 1 and self.overlong == "drop":
            return f"{len(row['input_ids']):,} tokens are more than task.max_length={limit} (task.overlong: drop)"
        if windows > 1 and self._splits(example):
            return tuple(chat_rows.learned_windows(row, limit)) or _NOTHING
        return tuple(chat_rows.learned_windows(row, len(row["labels"]) or 1)) or _NOTHING

    def _splits(self, example: Example) -> bool:
        plain = Chat.from_json(str(example.inputs["chat"])).text is not None
        return self.overlong == "split" or (self.overlong == "auto" and plain)

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Token ids and labels of each, cut to `max_length`; of one that was split, its window."""
        limit = None if self.max_length == "auto" else self.max_length
        whole = [e for e in examples if "part" not in e.inputs]
        cut = iter(self._encoded(whole, processor, limit))
        found: list[Encoded] = []
        known: tuple[object, Any] = (None, None)
        for example in examples:
            windowed = "part" in example.inputs
            if windowed and known[0] != example.inputs["chat"]:  # windows of one text follow each other
                known = example.inputs["chat"], self._encoded([example], processor, None)[0]
            row = known[1] if windowed else next(cut)
            if isinstance(row, TunesmithError):  # a fit has sifted these out; new data may hold them
                raise row
            if windowed and limit is not None:
                row = chat_rows.window(row, int(str(example.inputs["part"]).split("/")[0]) - 1, limit)
            found.append(row)
        return found

    def _encoded(
        self, examples: Sequence[Example], processor: Any, limit: int | None
    ) -> list[Encoded | TunesmithError]:
        """Token ids and labels of each, or why it cannot be learned from."""
        return chat_rows.chat_rows(examples, processor, train_on=self.train_on, limit=limit)

    def collate(
        self,
        encoded: Sequence[Encoded],
        labels: Any,
        processor: Any,
        *,
        positions: Sequence[int] | None = None,
        draws: Sequence[int] | None = None,
        partners: Sequence[Sequence[tuple[Encoded, Any]]] | None = None,
    ) -> Batch:
        """A row an example, padded on the right; to train on (`labels` given) packed where `packing` says so."""
        made = language.packed if self.packs and labels is not None else language.padded
        return made(encoded, processor.pad_token_id or 0, positions, most=self.max_length)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy summed over learned tokens, and their number."""
        from tunesmith.models.chunked_head import label_losses
        from tunesmith.train.embedding_noise import embedding_noise

        assert batch.labels is not None
        with embedding_noise(model, self.neftune, batch.inputs):
            total, count = label_losses(model, language.forward_inputs(batch), batch.labels, chunk=self.chunk)
        return Loss(total, count)

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Summed loss in nats, learned tokens, and those guessed right, float32 [examples, 3]."""
        import numpy as np
        import torch

        from tunesmith.models.chunked_head import label_answers

        assert batch.labels is not None
        _, losses, right = label_answers(model, language.forward_inputs(batch), batch.labels, chunk=self.chunk)
        columns = torch.stack([losses, torch.ones_like(losses), right.to(losses.dtype)], dim=1)
        return language.by_example(batch, columns).astype(np.float32)

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """Loss a token of each, as a `Prediction` without words: words are generated elsewhere."""
        return [Prediction(row, "") for row in logits]

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Nothing but places, [examples]: what is learned stands in the encodings."""
        import numpy as np

        return np.zeros(len(examples), dtype=np.int64)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """`loss` a learned token, `perplexity`, `token_accuracy`."""
        return token_losses.score(logits)

    def intervals(
        self,
        before: np.ndarray | None,
        after: np.ndarray,
        targets: np.ndarray,
        labels: Sequence[str],
        thresholds: np.ndarray | None,
        *,
        seed: int,
    ) -> tuple[Interval | None, Interval, Interval | None]:
        """Bootstrap over examples, of the loss a token."""
        return token_losses.intervals(before, after, targets, seed=seed)

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """Loss and learned tokens beside the conversation."""
        return token_losses.records(examples, logits)

    def examine(self, part: Any, processor: Any) -> list[tuple[str, bool, str]]:
        """What is learned of the first example, in words, how much of all, and which answers are not."""
        return chat_rows.told(part.encoded, processor)


_NOTHING = "nothing of it would be learned: no answer has a token, or all are only to be read (weight: 0, train: false)"
