"""Which layers peft takes on a model, asked of peft itself.

On some families it refuses layers by name (Mamba's `out_proj`, which fused kernels read past any adapter), or takes the
names of a model's earlier form for those of fused experts (DeepSeek's `gate_proj`), and its adapters mean that too when
they are read. What it does not take as it is named is left out.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.types import Layer

if TYPE_CHECKING:
    from torch import nn

_logger = logging.getLogger(__name__)


def taken(model: nn.Module, config: Any, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that peft puts its own beside, by the last part of their names. ModelError where it takes none."""
    names = {_last(layer) for layer in layers}
    refused = {name for name in names if not _takes(model, config, name)}
    kept = tuple(layer for layer in layers if _last(layer) not in refused)
    if not refused:
        return kept
    left_out = len(layers) - len(kept)
    what = f"{left_out} of {len(layers)} layers ({', '.join(sorted(refused))}) of {type(model).__name__}"
    if not kept:
        raise ModelError(
            f"peft cannot put this method beside {what}. Write method.targets=attention, or another method: adapter, "
            "bitfit, last_blocks, full."
        )
    _logger.warning(
        "peft cannot put this method beside %s: they stay as they are. Name other method.targets, such as attention, "
        "and this note goes.",
        what,
    )
    return kept


def _takes(model: nn.Module, config: Any, name: str) -> bool:
    from peft.tuners import tuners_utils

    convert: Any = None
    with suppress(ImportError):  # of an older peft, which fuses nothing
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

        convert = convert_peft_config_for_transformers
    tried = copy.copy(config)
    tried.target_modules = {name}
    try:
        # Both know of no model that is not transformers' own. The first has no public name.
        getattr(tuners_utils, "_check_lora_target_modules_mamba", lambda *_: None)(tried, model, name)
        if convert is not None:
            convert(tried, model, None)
    except ValueError:  # refused, or only as one of several that are fused
        return False
    return bool(tried.target_modules == {name})


def _last(layer: Layer) -> str:
    return layer.name.rpartition(".")[2]
