"""Special tokens that a model has no embedding row for: tolerated until a text holds one.

Gemma 3's text models come with the tokenizer of those that also read pictures, whose `<image_soft_token>` lies behind
their last row. No text of words brings it; one that names it is refused in words instead of with torch's index error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.errors import DataError

if TYPE_CHECKING:
    from torch import nn

_PUT_IN = ("pad", "bos", "eos", "unk", "cls", "sep")
"""Tokens that a tokenizer writes by itself."""


def never_meant(processor: Any, tokens: Mapping[int, str]) -> dict[int, str]:
    """Those of the tokens that only a text which names them brings: added as special, not put in by the tokenizer, and
    not in its chat template."""
    added = getattr(processor, "added_tokens_decoder", {})
    own = {getattr(processor, f"{name}_token_id", None) for name in _PUT_IN}
    template = str(getattr(processor, "chat_template", None) or "")
    return {
        i: token
        for i, token in tokens.items()
        if i in added and added[i].special and i not in own and token not in template
    }


def refuse_in_texts(words: nn.Module, tokens: Mapping[int, str]) -> None:
    """Let the embedding raise a DataError for a text with one of these tokens. They lie behind its last row."""
    rows = min(tokens)

    def look(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = given[0] if given else named["input"]
        if ids.is_meta or not ids.numel() or int(ids.max()) < rows:
            return
        token = tokens.get(int(ids.max()), str(int(ids.max())))
        raise DataError(
            f'A text holds "{token}" (id {int(ids.max())}), a special token of the tokenizer that this model has no '
            f"embedding row for: it is for a model that reads more than text. Take it out of the data, or write it "
            "otherwise, such as with a space in it."
        )

    words.register_forward_pre_hook(look, with_kwargs=True)
