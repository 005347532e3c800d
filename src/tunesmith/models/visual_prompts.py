"""Learned tokens in a vision transformer: put in, written, and read back (as `learned_inputs` keeps them)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.learned_inputs import fill, read_learned, write_learned
from tunesmith.models.stand_in import attribute

STEM = "visual_prompts"
FILE = f"{STEM}.json"


class Prompted(nn.Module):
    """A block with learned tokens behind those of the picture: [examples, tokens, hidden] in, the same or more out.

    prompt [length, hidden]: put in before the block, or None. cut: how many tokens are taken off behind it.
    """

    def __init__(self, block: nn.Module, prompt: Tensor | None, cut: int) -> None:
        super().__init__()
        self.block = block
        self.prompt = None if prompt is None else nn.Parameter(prompt)
        self.cut = cut
        self.off = False

    def forward(self, hidden: Tensor, *args: Any, **named: Any) -> Any:
        """The block's answer; attention has no order, so learned tokens may stand anywhere. `off`: there are none."""
        if self.off:
            return self.block(hidden, *args, **named)
        if self.prompt is not None:
            tokens = self.prompt.to(hidden.dtype).expand(hidden.shape[0], -1, -1)
            hidden = torch.cat([hidden, tokens], dim=1)
        answer = self.block(hidden, *args, **named)
        if not self.cut:
            return answer
        if isinstance(answer, Tensor):
            return answer[:, : -self.cut]
        return (answer[0][:, : -self.cut], *answer[1:])


def put_in(model: nn.Module, blocks: Sequence[str], prompts: Sequence[Tensor]) -> None:
    """Wrap the blocks in place. One prompt: it goes in before the first block and comes out behind the last; as many as
    blocks: each block has its own, and what comes out of it is not handed on."""
    deep = len(prompts) > 1
    for number, name in enumerate(blocks):
        parent, _, own = name.rpartition(".")
        prompt = prompts[number] if deep or number == 0 else None
        cut = len(prompts[0]) if deep or number == len(blocks) - 1 else 0
        setattr(model.get_submodule(parent), own, Prompted(model.get_submodule(name), prompt, cut))


def passed_by(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which the blocks read no learned tokens."""
    return attribute([module for module in model.modules() if isinstance(module, Prompted)], "off", True)


def write(folder: Path, tensors: Mapping[str, Tensor], *, length: int, deep: bool) -> None:
    """Write the learned tensors."""
    write_learned(folder, STEM, tensors, {"length": length, "deep": deep})


def read_into(model: nn.Module, blocks: Sequence[str], folder: Path) -> None:
    """Put the tokens and the head that `folder` holds into the untouched model they were trained on, in place."""
    told, tensors = read_learned(folder, STEM)
    prompted = blocks if told["deep"] else blocks[:1]
    put_in(model, blocks, [tensors[f"{name}.prompt"].clone() for name in prompted])
    fill(model, tensors, folder)
