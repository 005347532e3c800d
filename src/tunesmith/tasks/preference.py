"""Preference tuning: make the answers that people prefer likelier than those they do not.

Data hold a prompt with a chosen and a rejected answer, or (for `kto`) a prompt, an answer and whether it was liked.
No reward model is trained: each loss takes what the language model itself gives an answer for its reward. `dpo`, `ipo`
and `kto` compare with the untouched model, `orpo` and `simpo` do not. The main score is that loss on held-out examples;
the share of pairs whose chosen answer has the higher reward, the margin between the two and both rewards stand beside
it.

The untouched model's log-probabilities are worked out once, before anything learns, and kept. So neither a frozen copy
(under `full`) nor passes with the adapter switched off are needed, and a step costs what a step of `causal_lm` on as
many tokens costs (`kto`: a third more, for its reference point).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tunesmith.errors import DataError
from tunesmith.tasks import _answer_rows as answer_rows
from tunesmith.tasks import _language_models as language_models
from tunesmith.tasks import _preference as preference
from tunesmith.tasks import _preference_scores as scores
from tunesmith.tasks import _sequences as sequences
from tunesmith.tasks._answers import AnswerOptions
from tunesmith.tasks._preference import MISMATCHED
from tunesmith.tasks.base import Encoded, Kind, Task
from tunesmith.types import Batch, Example, Examples, Interval, Loss, MainScore, ModelSource, Prediction, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

Auto = Literal["auto"]
_OWN: Mapping[str, tuple[Any, str]] = {
    "gamma": (("auto", 0.0), "simpo"),
    "label_smoothing": ((0.0,), "dpo"),
    "desirable_weight": ((1.0,), "kto"),
    "undesirable_weight": ((1.0,), "kto"),
}
"""Options of one objective alone: the values that say nothing, and which it is."""


class Preference(Task):
    """Options of the task."""

    kind: ClassVar[Kind] = "preferences"
    input_columns: ClassVar[tuple[str, ...]] = ("chat", "chosen", "rejected", "answer", "liked")
    learns_classes: ClassVar[bool] = False
    calibrated: ClassVar[bool] = False
    ruler: ClassVar[tuple[str, ...]] = (
        *("objective", "beta", "gamma", "label_smoothing", "sft_weight", "desirable_weight", "undesirable_weight"),
        *("max_length", "template"),
    )
    sifts: ClassVar[bool] = True
    batch_sizes: ClassVar[tuple[int, int]] = (8, 16)
    rate_share: ClassVar[float] = 0.1
    seen: ClassVar[int] = 600
    longest: ClassVar[int] = 512
    micro_tokens: ClassVar[int] = 1_024

    objective: preference.LossName = Field("dpo", description="how preferences are learned")
    beta: Annotated[float, Field(gt=0, le=100)] | Auto = Field(
        "auto", description="scale of the rewards (orpo: weight of the preference); auto: 0.1, for simpo 2.0"
    )
    gamma: Annotated[float, Field(ge=0, le=100)] | Auto = Field(
        "auto", description="margin of the rewards that simpo asks for; auto: half of beta"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of pairs thought the wrong way round (dpo)")
    sft_weight: Annotated[float, Field(ge=0, le=100)] | Auto = Field(
        "auto", description="weight of the cross-entropy a token of the chosen answer; auto: 1 for orpo, else 0"
    )
    desirable_weight: float = Field(1.0, gt=0, le=100, description="weight of liked answers (kto)")
    undesirable_weight: float = Field(1.0, gt=0, le=100, description="weight of disliked answers (kto)")
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | Auto = Field(
        "auto", description="tokens kept of a prompt with one answer"
    )
    template: str = Field("auto", min_length=1, description="chat template; auto: the tokenizer's own, else chatml")
    chunk: int = Field(512, ge=16, le=1_048_576, description="learned tokens whose logits stand in memory together")
    answers: AnswerOptions = Field(AnswerOptions(), description="held-out prompts that both models answer in words")

    @model_validator(mode="after")
    def _options_are_used(self) -> Preference:
        for name, (silent, objective) in _OWN.items():
            if objective != self.objective and getattr(self, name) not in silent:
                raise ValueError(f"{name} is only used with objective: {objective}")
        return self

    def settle(self, examples: int, *, only_head: bool) -> dict[str, tuple[Any, str]]:
        """Numbers of the objective, from the papers."""
        return preference.settled(self.objective, self.beta, self.gamma, self.sft_weight)

    @property
    def terms(self) -> preference.Terms:
        """The objective as a value; what is still `auto` as `settle` would have it."""
        values = {name: getattr(self, name) for name in preference.Terms.__dataclass_fields__}
        return preference.Terms(
            **values | {name: value for name, (value, _) in self.settle(0, only_head=False).items()}
        )

    @property
    def refers(self) -> bool:
        """Whether its objective compares with the untouched model."""
        return self.objective not in preference.WITHOUT_REFERENCE

    def main_score(self, *, multi_label: bool) -> MainScore:
        """The loss on held-out examples: it is a number an example, where the share of pairs that come out right has
        few values on few examples, and ties; for dpo it is the likelihood of the preferences themselves."""
        return MainScore("loss", "lower")

    def find_model(self, name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
        """A transformers language model or a GGUF file; it brings its own weights."""
        return language_models.find_model(name, revision=revision, weights=weights, pretrained=pretrained)

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The pretrained model as it is; nothing is drawn."""
        from tunesmith.models.causal import load_causal

        return load_causal(source, template=self.template)

    def write_companions(self, pretrained: Pretrained, folder: Path) -> None:
        """Configuration, how to generate, and the tokenizer with its chat template."""
        language_models.write_companions(pretrained, folder)

    def read(self, folder: Path) -> tuple[nn.Module, Any]:
        """Through transformers and peft alone."""
        from tunesmith.models.causal import read_causal

        return read_causal(folder)

    def longest_input(self, pretrained: Pretrained) -> int | None:
        """What tokenizer and positions allow."""
        return language_models.longest_input(pretrained)

    def lengths(self, examples: Sequence[Example], pretrained: Pretrained) -> np.ndarray:
        """Tokens of each prompt with the longer of its answers, uncut; 0 of what cannot be learned from."""
        import numpy as np

        found = sequences.split_all(examples, pretrained.processor)
        return np.array([0 if isinstance(each, DataError) else sequences.longest(each) for each in found])

    def sift(self, examples: Sequence[Example], processor: Any) -> list[tuple[int, ...] | str]:
        """Left out are answers that the chat template garbles or that have no token, and pairs of which, cut to
        `max_length`, the same is left twice."""
        return [str(found) if isinstance(found, DataError) else sequences.nothing_to_learn(found) or (0,)
                for found in sequences.split_all(examples, processor, self._limit)]  # fmt: skip

    @property
    def _limit(self) -> int | None:
        return None if self.max_length == "auto" else self.max_length

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Prompt and answers as `_sequences.joined` has them; for kto also the prompt with another one's answer.

        DataError where rows hold one judged answer and the loss compares two.
        """
        split = sequences.split_whole(examples, processor, self._limit)
        if self.objective != "kto":
            sequences.refuse_single(examples, split, self.objective)
            return [sequences.joined(answers) for answers in split]
        lent = sequences.mismatched(examples, split, self._limit)
        return [sequences.joined(answers | ({} if other is None else {MISMATCHED: other}))
                for answers, other in zip(split, lent, strict=True)]  # fmt: skip

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
        """A row an answer (`_answer_rows.in_rows`); labels: what the untouched model gives, [examples, 3]."""
        return answer_rows.in_rows(encoded, labels, processor.pad_token_id or 0, positions, most=self.max_length)

    def refer(self, pretrained: Pretrained, parts: Mapping[str, Any], *, device: Any) -> None:
        """The untouched model's log-probabilities into every part's targets. DataError where kto is to learn from
        answers of which none is liked, or all are."""
        if self.objective == "kto" and "train" in parts:
            sequences.refuse_one_sided(parts["train"].encoded)
        padding, most = pretrained.processor.pad_token_id or 0, self.max_length
        how = {"padding": padding, "most": most, "chunk": self.chunk, "device": device}
        for part in parts.values():
            part.targets[...] = answer_rows.untouched(pretrained.model, part.encoded, **how)

    def foresee(self, model: nn.Module, batches: Sequence[Batch], *, device: Any) -> Sequence[Batch]:
        """For kto with the reference point of the whole batch, which no micro-batch could know by itself."""
        if self.objective != "kto":
            return batches
        return answer_rows.with_point(model, batches, chunk=self.chunk, device=device)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Summed over examples, and their number (kto: of judged answers)."""
        return answer_rows.loss(model, batch, self.terms, chunk=self.chunk)

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Summed log-probabilities of the chosen, rejected and mismatched answer in nats, and the tokens of each (0:
        there is none), float32 [examples, 6]."""
        return answer_rows.predicted(model, batch, chunk=self.chunk)

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """Which answer of each pair the model itself would sooner give, token for token."""
        return scores.predictions(logits)

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Room for what the untouched model gives, float64 [examples, 3], not a number until `refer` fills it."""
        import numpy as np

        return np.full((len(examples), preference.COLUMNS), np.nan)

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """Loss, rewards and how often they are the right way round."""
        return scores.score(scores.answers_of(logits, targets, self.terms), self.terms)

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
        """Bootstrap over examples, of the loss."""
        return scores.intervals(before, after, targets, self.terms, seed=seed)

    def records(
        self, examples: Examples, logits: np.ndarray, labels: Sequence[str], thresholds: Any, *, multi_label: bool
    ) -> Iterator[dict[str, Any]]:
        """Log-probabilities beside the prompt and its answers."""
        return scores.records(examples, logits)

    def rated(self, logits: np.ndarray, targets: np.ndarray) -> Iterator[dict[str, Any]]:
        """Loss and rewards of each example."""
        return scores.rated(logits, targets, self.terms)

    def examine(self, part: Any, processor: Any) -> list[tuple[str, bool, str]]:
        """What is compared in the first example, in words, and how many answers of each kind there are."""
        return sequences.examined(part.encoded, processor)
