"""The next token, again and again: prompts of unequal length side by side over one cache of keys and values.

Prompts stand in a table padded on the left, so that every row goes on at the same place; each token is told its own
place in its text, and padding is masked. So a row's tokens are those it would get alone, to rounding. Learned tokens
(peft's prompt methods) stand between the padding and the text, as they stand before the text in training. A learned
prefix is a filled cache and stands before the padding, which takes places in a window of attention: such rows are to
be of one length (`must_be_even`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.stand_in import evaluating
from tunesmith.train.device import Device


class NoCache(ModelError):
    """The model keeps nothing between tokens, or not as transformers' caches do, so it is asked for no answer here."""


Choose = Callable[[Tensor, int], list[int]]
"""From logits [rows, vocabulary], float32, and the number of tokens each row has so far, to the next token of each."""

WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
"""What configurations call the number of tokens that some layers see; None or 0: all."""

PREFIXES = ("PREFIX_TUNING", "CARTRIDGE")
"""peft's methods whose learned part is a filled cache, not tokens."""


def decode(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    padding: int,
    most_tokens: int,
    choose: Choose,
    device: Device,
) -> Iterator[list[int]]:
    """Yield the next token of every row, `most_tokens` times at most; the caller stops asking when it has enough.

    prompts: token ids of each row, at least one. No gradient. Between two tokens and behind the last the model is in
    the mode it was in. ModelError where the model keeps no cache, or its answer is not a number.
    """
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), padding, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device.device), mask.to(device.device)
    given, mask, base = _opening(model, ids, mask, [width - len(prompt) for prompt in prompts])
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    inner: Any = base
    known = inspect.signature(getattr(inner, "get_base_model", lambda: inner)().forward).parameters
    cache: Any = given.pop("past_key_values", None)
    places = places[:, places.shape[1] - next(iter(given.values())).shape[1] :]
    for step in range(most_tokens):
        named = {"position_ids": places, "logits_to_keep": 1}
        extra = {name: value for name, value in named.items() if name in known}
        with torch.no_grad(), evaluating(model), device.arithmetic():
            output: Any = base(**given, **extra, attention_mask=mask, past_key_values=cache, use_cache=True)
        cache = getattr(output, "past_key_values", None)
        logits = output.logits[:, -1].float()
        _check(model, cache, logits)
        chosen = choose(logits, step)
        yield chosen
        given = {"input_ids": torch.tensor(chosen, device=device.device)[:, None]}
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        places = places[:, -1:] + 1


def _check(model: nn.Module, cache: Any, logits: Tensor) -> None:
    if cache is None:
        raise NoCache(
            f"{type(model).__name__} keeps no keys and values between tokens, so it cannot generate an answer here. "
            "Take a causal language model of transformers, such as Llama, Qwen, SmolLM2 or GPT-2."
        )
    if torch.isnan(logits).any():
        raise ModelError("the model's answer is not a number: its weights are broken, or its training went astray.")


def must_be_even(model: nn.Module, tokens: int) -> bool:
    """Whether rows of so many tokens, prompt and answer, answer as alone only beside others of their prompts' length:
    behind a learned prefix, where some of the model's layers see fewer tokens than that."""
    peft = _prompt_method(model)
    if peft is None or peft.peft_type not in PREFIXES:
        return False
    config: Any = getattr(model, "config", None)
    windows = [getattr(config, name, None) or 0 for name in WINDOWS]
    return any(0 < int(window) < tokens + peft.num_virtual_tokens for window in windows)


def _prompt_method(model: nn.Module) -> Any:
    """The configuration, peft's, of what is learned before the text; None where nothing is, or the method is passed by
    (`Method.passed_by`), which gives the model a forward of its own."""
    config: Any = getattr(model, "active_peft_config", None)
    return None if config is None or not config.is_prompt_learning or "forward" in vars(model) else config


def _opening(
    model: nn.Module, ids: Tensor, mask: Tensor, padded: Sequence[int]
) -> tuple[dict[str, Any], Tensor, nn.Module]:
    """What the first pass is given, the mask over all that stands before its end, and the module that takes it.

    padded: padding tokens in front of each row.
    """
    config = _prompt_method(model)
    if config is None:
        return {"input_ids": ids}, mask, model
    peft_model: Any = model
    base: nn.Module = peft_model.get_base_model()
    count = config.num_virtual_tokens
    ones = mask.new_ones(len(ids), count)
    with torch.no_grad(), evaluating(model):
        learned: Any = peft_model.get_prompt(len(ids))
        if config.peft_type in PREFIXES:
            return {"input_ids": ids, "past_key_values": learned}, torch.cat([ones, mask], dim=1), base
        words = peft_model.word_embeddings(ids)
        learned = learned.to(words.dtype)
        rows = [torch.cat([w[:n], p, w[n:]]) for w, p, n in zip(words, learned, padded, strict=True)]
        masks = [torch.cat([m[:n], o, m[n:]]) for m, o, n in zip(mask, ones, padded, strict=True)]
        return {"inputs_embeds": torch.stack(rows)}, torch.stack(masks), base
