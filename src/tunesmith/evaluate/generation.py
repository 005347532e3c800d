"""Answers in words: prompts to generated text, many side by side or one token by token.

Without temperature the likeliest token is taken each time. With it, each choice follows from (seed, prompt, number of
the token), so the same prompt gets the same answer whatever else is answered with it, and a second process or a
resumed run the same again. What a model's files say of repetition penalties and the like is left aside: an answer here
is the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.batches import evaluation_order
from tunesmith.evaluate.decoding import NoCache, decode, must_be_even
from tunesmith.train.device import Device
from tunesmith.train.randomness import counter_seed

TOKENS = 4096
"""Tokens, read and written, that are held in the cache together; one prompt may be longer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer. ended: whether the model stopped by itself; else it was cut at the most tokens allowed.
    unread: tokens at the start of the prompt that were left out, since model and answer had no room for them."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    unread: int = 0


COLDEST = 1e-6
"""Below this temperature the likeliest token has all the share, and numbers overflow."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. temperature 0: the likeliest. top_p: drawn from the likeliest tokens that hold this
    share together (Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, arXiv 1904.09751)."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def generate(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    most_tokens: int,
    stop: Sequence[int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    tokens_at_once: int = TOKENS,
    device: Device | None = None,
) -> list[str]:
    """The texts of `answer`, in the order of the prompts."""
    found = answer(
        model,
        tokenizer,
        prompts,
        most_tokens=most_tokens,
        stop=stop,
        sampling=Sampling(temperature, top_p, seed),
        tokens_at_once=tokens_at_once,
        device=device,
    )
    return [each.text for each in found]


def answer(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    most_tokens: int,
    stop: Sequence[int],
    sampling: Sampling | None = None,
    tokens_at_once: int = TOKENS,
    device: Device | None = None,
) -> list[Answer]:
    """An answer to each prompt (token ids, none empty), in order; shared among the processes.

    stop: ids at any of which an answer ends; they are no part of it. tokens_at_once bounds memory: prompts and answers
    of at most so many tokens are worked on together, at least one. Where the model's longest input has no room for
    both, the answer may take half of it and the prompt is read from its end (`Answer.unread`). ModelError where the
    model cannot generate.
    """
    device = Device() if device is None else device
    room, most = _room(model, most_tokens)
    kept = [list(prompt) if room is None else list(prompt)[-room:] for prompt in prompts]
    sizes = np.array([len(prompt) + most for prompt in kept], dtype=np.int64)
    found: list[tuple[int, Answer]] = []
    even = must_be_even(model, int(sizes.max(initial=0)))
    for indices in _batches(sizes, tokens_at_once, even=even)[device.rank :: device.processes]:
        rows = [kept[i] for i in indices]
        written = _written(model, tokenizer, rows, most, frozenset(stop), sampling or Sampling(), device)
        for i, (ids, ended) in zip(indices.tolist(), written, strict=True):
            text = _text(tokenizer, ids, whole=ended)
            found.append((i, Answer(text, tuple(ids), ended, len(prompts[i]) - len(kept[i]))))
    return [each for _, each in sorted(device.gather(found), key=lambda pair: pair[0])]


def stream(
    model: nn.Module,
    tokenizer: Any,
    prompt: Sequence[int],
    *,
    most_tokens: int,
    stop: Sequence[int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: Device | None = None,
) -> Iterator[str]:
    """The answer to one prompt, piece by piece as it is written; the pieces together are the text of `answer`."""
    device = Device() if device is None else device
    room, most = _room(model, most_tokens)
    row = list(prompt) if room is None else list(prompt)[-room:]
    choose = _Choice([row], Sampling(temperature, top_p, seed))
    ids: list[int] = []
    shown = ""
    written = decode(model, [row], padding=_padding(tokenizer), most_tokens=most, choose=choose, device=device)
    for (token,) in written:
        if token in stop:
            break
        ids.append(token)
        text = _text(tokenizer, ids, whole=False)
        if text.startswith(shown) and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    else:
        return
    rest = _text(tokenizer, ids, whole=True)
    if len(rest) > len(shown):
        yield rest[len(shown) :]


def _batches(sizes: np.ndarray, tokens_at_once: int, *, even: bool) -> list[np.ndarray]:
    """Indices of rows that are answered together; `even`: only rows of one size."""
    batches = evaluation_order(sizes, tokens_at_once)
    if not even:
        return list(batches)
    return [batch[sizes[batch] == size] for batch in batches for size in np.unique(sizes[batch])]


def why_silent(model: nn.Module, *, device: Device | None = None) -> str:
    """Why the model can generate no answer here, found by trying; "" where it can. Every process may ask alone."""
    ids = [[0, 1], [1]]
    tried = decode(model, ids, padding=0, most_tokens=2, choose=_Choice(ids, Sampling()), device=device or Device())
    try:
        for _ in tried:
            pass
    except NoCache as fault:
        return str(fault)
    return ""


def _written(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    most_tokens: int,
    stop: frozenset[int],
    sampling: Sampling,
    device: Device,
) -> list[tuple[list[int], bool]]:
    """Tokens of each answer, and whether it ended by itself."""
    rows: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    tokens = decode(
        model,
        prompts,
        padding=_padding(tokenizer),
        most_tokens=most_tokens,
        choose=_Choice(prompts, sampling),
        device=device,
    )
    for chosen in tokens:
        for row, token in enumerate(chosen):
            ended[row] = ended[row] or token in stop
            if not ended[row]:
                rows[row].append(token)
        if all(ended):
            break
    return list(zip(rows, ended, strict=True))


class _Choice:
    """The next token of each row; a drawn one follows from (seed, prompt, number of the token)."""

    def __init__(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        self.sampling = sampling
        self.draws = sampling.temperature >= COLDEST
        words = [" ".join(map(str, prompt)) for prompt in prompts] if self.draws else []
        self.seeds = [counter_seed(sampling.seed, "answer", text) for text in words]

    def __call__(self, logits: Tensor, step: int) -> list[int]:
        if not self.draws:
            likeliest: list[int] = logits.argmax(dim=-1).tolist()
            return likeliest
        shares, order = torch.softmax(logits.double() / self.sampling.temperature, dim=-1).sort(descending=True)
        sums = shares.cumsum(dim=-1)
        kept = (sums - shares) < self.sampling.top_p
        kept[:, 0] = True  # the likeliest always, and those before the share is full
        sums = (shares * kept).cumsum(dim=-1)
        draws = [counter_seed(seed, step) / 2**63 for seed in self.seeds]
        marks = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * sums[:, -1:]
        places = torch.searchsorted(sums, marks, right=True).clamp(max=kept.sum(dim=-1, keepdim=True) - 1)
        drawn: list[int] = order.gather(-1, places).squeeze(-1).tolist()
        return drawn


def _room(model: nn.Module, most_tokens: int) -> tuple[int | None, int]:
    """The most tokens of a prompt (None: any number) and of its answer, which gets half of a longest input at most."""
    config: Any = getattr(model, "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return None, most_tokens
    peft: Any = getattr(model, "active_peft_config", None)
    learned = peft.num_virtual_tokens if peft is not None and peft.is_prompt_learning else 0
    room = max(2, int(longest) - learned)
    most = min(most_tokens, room // 2)
    return room - most, most


def _padding(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id or 0)


def _text(tokenizer: Any, ids: Sequence[int], *, whole: bool) -> str:
    """The ids as text without special tokens. whole: False drops a character at the end that is still being written."""
    text = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return text if whole else text.rstrip("\ufffd")
