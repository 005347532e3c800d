"""Text classification: one label, or any number of labels, for a text or a pair of texts.

Sentiment, topics, intents, spam, entailment, paraphrase. The model is any transformers model with a sequence-
classification form. A single label is learned by cross-entropy, several labels by one binary cross-entropy a class.
The main score is accuracy (micro F1 for several labels); macro F1, F1 a class, Matthews correlation, AUROC and the
expected calibration error stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.tasks import _classification as classification
from tunesmith.tasks._widths import width
from tunesmith.tasks.base import Encoded, Task
from tunesmith.types import (
    Batch,
    Example,
    Examples,
    Interval,
    Loss,
    MainScore,
    ModelSource,
    Prediction,
    Pretrained,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn


class TextClassification(Task):
    """Options of the task."""

    input_columns: ClassVar[tuple[str, ...]] = ("text", "text_pair")

    max_length: Annotated[int, Field(ge=4, le=131_072)] | Literal["auto"] = Field(
        "auto", description="tokens kept of each text"
    )
    pooling: Literal["auto", "cls", "mean", "fitted"] = Field(
        "auto", description="how token states become one vector; fitted: a first-token pooler fitted to the mean"
    )
    class_weights: Literal["none", "balanced"] | dict[str, classification.Weight] = Field(
        "none", description="weight of each class in the loss; balanced: inverse of its frequency"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")

    def main_score(self, *, multi_label: bool) -> MainScore:
        """Accuracy, or micro F1 for several labels."""
        return classification.main_score(multi_label=multi_label)

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """A transformers model; it brings its own weights."""
        from tunesmith.errors import ModelError
        from tunesmith.models.source import locate

        if weights is not None or not pretrained:
            key = "model.weights" if weights is not None else "model.pretrained: false"
            raise ModelError(f"{key} is for models of pictures; a text model starts from the weights in its folder.")
        return locate(name, revision)

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Configuration (an adapter brings none) and tokenizer."""
        model: Any = pretrained.model
        if not (folder / "config.json").exists():
            model.config.save_pretrained(folder)
        pretrained.processor.save_pretrained(folder)

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """Through transformers and peft alone."""
        from tunesmith.models.from_transformers import read_classifier

        return read_classifier(folder)

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Tokens of each text or pair."""
        import numpy as np

        from tunesmith.models.lengths import token_lengths

        count, _ = token_lengths(pretrained.source)
        pairs = [str(e.inputs.get("text_pair", "")) for e in examples]
        return np.array(count([str(e.inputs["text"]) for e in examples], pairs if any(pairs) else None))

    def longest_input(self, pretrained: Pretrained) -> int | None:
        """What tokenizer and learned positions allow."""
        from tunesmith.models.lengths import position_limit, token_lengths

        limits = [token_lengths(pretrained.source)[1], position_limit(pretrained.model)]
        return min((n for n in limits if n is not None), default=None)

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The pretrained model with a head for these labels."""
        from tunesmith.models.from_transformers import load_classifier

        return load_classifier(source, labels, multi_label=multi_label, seed=seed, pooling=self.pooling)

    def start(self, pretrained: Pretrained, part: Any) -> dict[str, tuple[Any, str]]:
        """Settle how token states become one vector; fit a pooler where that is `fitted` (`models/pooling.py`)."""
        from pathlib import Path

        from tunesmith.errors import ModelError
        from tunesmith.models import pooling
        from tunesmith.models.first_token import use_first_token

        pooler = pooling.first_token_pooler(pretrained)
        config: Any = pretrained.model.config
        card = pooling.card_pooling(Path(pretrained.source.path))
        chosen = range(0, len(part.encoded), 1 + len(part.encoded) // pooling.FITTED)
        texts = self.collate([part.encoded[i] for i in chosen], None, pretrained.processor)
        found: str = self.pooling
        origin = ""
        if found == "auto" and hasattr(config, "classifier_pooling"):
            found, origin = config.classifier_pooling, "the model's card"
            if card not in ("cls", "mean"):
                first, mean = pooling.token_states(pretrained, texts)
                targets = part.targets[list(chosen)]
                found, origin = (
                    pooling.probe_pooling(first.cpu().numpy(), mean.cpu().numpy(), targets),
                    "a linear probe",
                )
                config.classifier_pooling = found
        elif found == "auto" and pooler is not None:
            fitted = card == "mean" and len(texts) > 1
            found = "fitted" if fitted else "cls"
            origin = "the model was trained with mean pooling, by its card" if fitted else "the model's own pooler"
        if found == "fitted":
            if pooler is None:
                raise ModelError("task.pooling: fitted needs a model with a pooler of its own (BERT); use auto.")
            pooling.start_pooler(pretrained, pooler, texts)
        use_first_token(pretrained.model, pretrained.anatomy.blocks[-1])
        return {"pooling": (found, origin)} if origin else {}

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Token ids, cut from the end (a pair: from its longer text) to `max_length` tokens. DataError where some
        examples are pairs and others single texts."""
        from tunesmith.errors import DataError
        from tunesmith.models.text_heads import encode_texts

        texts = [str(e.inputs["text"]) for e in examples]
        pairs = [e.inputs.get("text_pair") for e in examples]
        second = [str(p) for p in pairs] if any(p is not None for p in pairs) else None
        if second is not None and None in pairs:
            alone = examples[pairs.index(None)]
            raise DataError(f"{alone.file}:{alone.line}: no second text, where other rows are pairs of texts.")
        limit = None if self.max_length == "auto" else self.max_length
        if second is None and limit is not None:
            encoded = encode_texts(processor, texts, max_length=limit)
        else:
            encoded = processor(texts, second, truncation=limit is not None, max_length=limit, padding=False)
        keys = [k for k in ("input_ids", "token_type_ids") if k in encoded]
        return [{k: encoded[k][i] for k in keys} for i in range(len(examples))]

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
        """Pad on the right to the longest, to learn from a little further (`_widths.py`); texts are not augmented."""
        import numpy as np
        import torch

        sizes = np.array([len(e["input_ids"]) for e in encoded])
        shape = (len(encoded), width(int(sizes.max()), "auto" if positions is None else self.max_length))
        padding = {"input_ids": processor.pad_token_id or 0, "token_type_ids": processor.pad_token_type_id}
        inputs: dict[str, torch.Tensor] = {}
        for key in encoded[0]:
            table = np.full(shape, padding[key], dtype=np.int64)
            for row, example in enumerate(encoded):
                table[row, : sizes[row]] = example[key]
            inputs[key] = torch.from_numpy(table)
        inputs["attention_mask"] = torch.from_numpy((np.arange(shape[1]) < sizes[:, None]).astype(np.int64))
        target = None if labels is None else torch.as_tensor(labels)
        places = tuple(range(len(encoded))) if positions is None else tuple(positions)
        return Batch(inputs, target, places)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy summed over examples (binary, over examples and classes, for multi-label), and the count."""
        assert batch.labels is not None
        logits = model(**batch.inputs).logits.float()
        names: dict[int, str] = model.config.id2label  # type: ignore[union-attr,assignment]
        weights = classification.weights_of(self.class_weights, names, logits)
        return classification.loss(logits, batch.labels, weights=weights, label_smoothing=self.label_smoothing)

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Logits [examples, classes], float32."""
        import torch

        with torch.inference_mode():
            logits: np.ndarray = model(**batch.inputs).logits.float().cpu().numpy()
        return logits

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """The best class of each row, or with `thresholds` (logits, one a class) every class above its own."""
        return classification.predictions(logits, labels, thresholds)

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Class indices [examples], or 0/1 [examples, classes] where labels are tuples."""
        return classification.targets(examples, labels)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """Every score of the task; `thresholds` as in `predictions`."""
        return classification.score(logits, targets, labels, thresholds)

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
        """Bootstrap over examples, of accuracy or micro F1."""
        return classification.intervals(before, after, targets, labels, thresholds, seed=seed)

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """Label, answer and probabilities beside the inputs."""
        return classification.records(examples, logits, labels, thresholds, multi_label=multi_label)
