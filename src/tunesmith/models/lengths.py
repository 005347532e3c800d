"""How long texts are to a model: its tokenizer alone, without the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models import vet
from tunesmith.models.tokenizer import read_tokenizer
from tunesmith.types import ModelSource

if TYPE_CHECKING:
    from torch import nn

Lengths = Callable[[Sequence[str], Sequence[str] | None], list[int]]

_NO_LIMIT = 10**9
"""Tokenizers that know no limit say a number far above this."""


def token_lengths(source: ModelSource) -> tuple[Lengths, int | None]:
    """A function that counts the tokens of texts (or pairs), and the most that the tokenizer's model takes, if it says.

    Special tokens count; nothing is cut. ModelError when there is no tokenizer that can be read.
    """
    folder = Path(source.path)
    vet.read_config(folder)
    tokenizer = read_tokenizer(folder, pairs=True)

    def lengths(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
        ids = tokenizer(list(texts), list(pairs) if pairs is not None else None, verbose=False)["input_ids"]
        return [len(each) for each in ids]

    with vet.reading(folder):
        longest = int(tokenizer.model_max_length)
    return lengths, longest if longest < _NO_LIMIT else None


def position_limit(model: nn.Module) -> int | None:
    """The most tokens that a model's learned positions allow; None where positions are computed (rotary, relative).

    RoBERTa-like models number positions from behind their padding index.
    """
    from torch import nn

    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]:
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None
