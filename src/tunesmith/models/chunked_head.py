"""A language model's loss with its head applied only where there is a label, some places at a time.

Logits are [tokens x vocabulary]: for 2,048 tokens of 49,152 words 400 MB, three times over with loss and gradient,
while most prompts carry no label at all. So while the model's own forward runs, another forward stands in for its
output layer that keeps the hidden states and gives nothing back; then layer and loss are computed together
(`fused_loss.py`). The model's forward is untouched, hence this works inside any wrapper: peft with adapters, learned
tokens or prefixes.

Some models do more after the head (Gemma 2 caps its logits, Cohere and Granite scale them), some call it twice or not
at all. One small forward, once a model, tells: unless the model's logits are the head's output bit for bit, the whole
logits are taken.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.chats import UNLEARNED
from tunesmith.errors import ModelError
from tunesmith.models.fused_loss import chunk_logits, linear_cross_entropy
from tunesmith.models.stand_in import attribute, evaluating

CHUNK = 512
"""Places whose logits stand in memory together."""

_ends_with_head: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def label_losses(
    model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor, *, chunk: int = CHUNK
) -> tuple[Tensor, int]:
    """Sum of cross-entropies (nats, float32, differentiable) over the labelled places, and how many there are.

    inputs: what the model's forward takes. labels: ids at their own places, [rows, tokens], -100 where nothing is
    learned; a label is predicted from the place before it. ModelError where the model has no output layer.
    """
    found = _Labelled.of(model, inputs, labels)
    return found.losses(chunk, summed=True), len(found.labels)


def label_answers(
    model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor, *, chunk: int = CHUNK
) -> tuple[Tensor, Tensor, Tensor]:
    """Row number (int64), loss in nats (float32) and whether the best guess is right (bool) of each labelled place,
    [places], rows in order; no gradient."""
    with torch.no_grad():
        found = _Labelled.of(model, inputs, labels)
        losses = found.hidden.new_empty(len(found.labels), dtype=torch.float32)
        right = torch.empty(len(found.labels), dtype=torch.bool, device=labels.device)
        for first, logits in found.logits(chunk):
            wanted = found.labels[first : first + chunk]
            losses[first : first + chunk] = nn.functional.cross_entropy(logits, wanted, reduction="none")
            right[first : first + chunk] = logits.argmax(1) == wanted
    return found.rows, losses, right


def sequence_logps(model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """Log-probability of each row's labelled tokens together, in nats, [rows], float32, differentiable."""
    found = _Labelled.of(model, inputs, labels)
    losses = found.losses(chunk, summed=False)
    return losses.new_zeros(len(labels)).index_add(0, found.rows, -losses)


def label_logits(model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """The logits from which each labelled place is predicted, all at once: [places, vocabulary], float32,
    differentiable. For few places: nothing is saved here but those without a label."""
    found = _Labelled.of(model, inputs, labels)
    return (found.hidden if found.head is None else found.head(found.hidden)).float()


def each_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor, *, chunk: int = CHUNK
) -> tuple[Tensor, Iterator[tuple[int, Tensor]]]:
    """The row number (int64) of each labelled place [places], rows in order, and chunk by chunk the number of the first
    place and the logits [places in chunk, vocabulary] from which they are predicted, float32; no gradient."""
    with torch.no_grad():
        found = _Labelled.of(model, inputs, labels)
        return found.rows, found.logits(chunk)


class _Labelled:
    """Hidden states (or where it must be, logits) at the places from which a label is predicted.

    hidden: [places, size], or logits [places, vocabulary] where `head` is None. rows, labels: [places].
    """

    def __init__(self, hidden: Tensor, head: nn.Linear | None, rows: Tensor, labels: Tensor, dtype: torch.dtype):
        self.hidden, self.head, self.rows, self.labels, self.products = hidden, head, rows, labels, dtype

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> _Labelled:
        language_model, head = _parts(model)
        named: dict[str, Any] = dict(inputs)
        if "use_cache" in inspect.signature(language_model.forward).parameters:
            named.setdefault("use_cache", False)
        rows, places = (labels[:, 1:] != UNLEARNED).nonzero(as_tuple=True)
        wanted = labels[rows, places + 1]
        if not _may_defer(language_model, head):
            given = model(**named).logits
            return cls(_at(given, labels, rows, places), None, rows, wanted, given.dtype)
        kept = _Kept()
        with attribute([head], "forward", kept):
            model(**named)
        if len(kept.hidden) != 1:
            raise ModelError(
                f"{type(language_model).__name__} called its output layer {len(kept.hidden)} times in one forward, and "
                "once when it was tried. Its logits cannot be told apart."
            )
        return cls(_at(kept.hidden[0], labels, rows, places), head, rows, wanted, kept.products)

    def losses(self, chunk: int, *, summed: bool) -> Tensor:
        if self.head is None:
            logits = self.hidden if self.hidden.dtype == torch.float64 else self.hidden.float()
            return nn.functional.cross_entropy(logits, self.labels, reduction="sum" if summed else "none")
        return linear_cross_entropy(
            self.hidden, self.head, self.labels, chunk=chunk, products=self.products, summed=summed
        )

    def logits(self, chunk: int) -> Any:
        if self.head is None:
            return ((first, self.hidden[first : first + chunk].float()) for first in range(0, len(self.hidden), chunk))
        return chunk_logits(self.hidden, self.head, chunk=chunk, products=self.products)


class _Kept:
    """Stands in for the head's forward: keeps what it was given, and the type its products would have had."""

    def __init__(self) -> None:
        self.hidden: list[Tensor] = []
        self.products = torch.float32

    def __call__(self, hidden: Tensor) -> Tensor:
        kind = hidden.device.type
        self.hidden.append(hidden)
        self.products = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        return hidden.new_zeros(*hidden.shape[:-1], 1)


def _at(states: Tensor, labels: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """States [rows, tokens, size] at these places; learned tokens in front push the text's own back."""
    return states[rows, places + (states.shape[1] - labels.shape[1])]


def _parts(model: nn.Module) -> tuple[Any, Any]:
    """The language model inside whatever wraps it, and its output layer."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            head = module.get_output_embeddings()
            if isinstance(head, nn.Module):
                return module, head
    raise ModelError(
        f"{type(model).__name__} has no output layer over a vocabulary, so it does not predict words. Name a causal "
        "language model (Llama, Qwen, GPT-2 and their like)."
    )


def _may_defer(model: nn.Module, head: Any) -> bool:
    """Whether the head is a plain linear layer, and its output is what the model answers."""
    if type(head) is not nn.Linear or "forward" in vars(head) or head._forward_hooks or head._forward_pre_hooks:
        return False
    if model not in _ends_with_head:
        _ends_with_head[model] = _try_out(model, head)
    return _ends_with_head[model]


def _try_out(model: Any, head: Any) -> bool:
    outputs: list[Tensor] = []
    handle = head.register_forward_hook(lambda _module, _given, output: outputs.append(output))
    ids = torch.arange(4, device=head.weight.device).remainder(model.config.get_text_config().vocab_size)[None]
    try:
        with evaluating(model), torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    finally:
        handle.remove()
    return len(outputs) == 1 and outputs[0].shape == logits.shape and torch.equal(outputs[0].float(), logits.float())
