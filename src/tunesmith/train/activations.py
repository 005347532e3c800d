"""Checkpointed blocks: activations inside a block are forgotten after the forward pass and computed again for the
backward one. Memory falls from all blocks' activations to one block's; the forward pass is paid twice (about a third
more time).

The gradients stay the same, bit for bit on a processor that repeats itself: dropout follows from the counter (see
`randomness.py`), so the second pass draws what the first drew; torch's own generator is set back for what still draws
from it; norms with moving statistics do not count the second pass; and a cache of keys and values that a block fills
(a prefix stands in one) is a copy of each pass's own.

Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174. Departure: one block is one segment,
whatever their number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from tunesmith.types import Anatomy

_PLAIN = "forward_that_keeps_activations"


def checkpoint_blocks(model: nn.Module, anatomy: Anatomy) -> int:
    """Make every block of `model` forget its activations, in place; the number of blocks. Weights and names stay.

    model: the module the anatomy was read from, a method's parts perhaps inside it. Does nothing to a block that
    already does it. In evaluation mode and without gradients a block runs as it always did.
    """
    blocks = _outermost(anatomy.blocks)
    for name in blocks:
        block = model.get_submodule(name)
        if _PLAIN not in block.__dict__:
            # A bound method moves with the block when a model is copied; a closure would go on with the old weights.
            block.__dict__[_PLAIN] = block.forward
            block.__dict__["forward"] = MethodType(_forward, block)
    return len(blocks)


def _outermost(names: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for name in sorted(names):
        if not any(name.startswith(other + ".") for other in kept):
            kept.append(name)
    return tuple(kept)


def _forward(block: nn.Module, *given: Any, **named: Any) -> Any:
    import torch

    plain: Callable[..., Any] = block.__dict__[_PLAIN]
    if not (block.training and torch.is_grad_enabled()):
        return plain(*given, **named)

    def run(*given: Any, **named: Any) -> Any:
        return plain(*map(_own, given), **{name: _own(value) for name, value in named.items()})

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _uncounted(block)

    return checkpoint(run, *given, use_reentrant=False, context_fn=contexts, **named)


def _own(value: Any) -> Any:
    """A cache of keys and values as a copy that a block may fill; the tensors in it are shared. All else as it is."""
    inner = [name for name in ("self_attention_cache", "cross_attention_cache") if hasattr(value, name)]
    if inner:
        made = copy.copy(value)
        for name in inner:
            setattr(made, name, _own(getattr(value, name)))
        return made
    if hasattr(value, "get_seq_length") and isinstance(getattr(value, "layers", None), list):
        made = copy.copy(value)
        made.layers = [copy.copy(layer) for layer in value.layers]
        return made
    return value


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Norms move copies of their statistics: the first pass has moved the true ones already."""
    true = [(m, dict(m._buffers)) for m in block.modules() if getattr(m, "running_mean", None) is not None]
    for norm, buffers in true:
        for name, buffer in buffers.items():
            norm._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for norm, buffers in true:
            norm._buffers.update(buffers)
