"""What config.json may say: nothing that leads to files of another kind or to the hub, no counts beyond the weights.

config.json is a stranger's, and transformers builds whatever it says before it looks at the weights: a thousand million
layers would be built one by one. So counts are held against what lies in the weights' headers, and the network is laid
out without memory (torch's meta device) before it is built with any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.models.weights_file import TensorEntry

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FEW = 1000
"""Parts of a kind that a network may have whatever its weights hold: ALBERT uses one block's tensors many times."""

MOST_LABELS = 1_000_000
SPARE = 2**26
"""Numbers that a network may have beside twice those of its weights: new heads, 256 MiB of them."""

_COUNT = re.compile(r"(^|_)(n|group_num|layers?|depths?|blocks?|repeats?|experts?|stages?|groups?|levels?)$")
"""How the names of those settings end that say how many parts are built one by one; `inner_group_num` is one."""
_EXPERTS, MOST_EXPERTS = re.compile(r"(^|_)experts?$"), 65_536
"""Experts may be rows of one tensor (Doge has 16,384 of them), so the tensors do not limit them."""

NAMES_TIMM = ("detr", "conditional_detr", "deformable_detr")
"""Model types whose `backbone`, a name alone, means a network of timm; of others transformers asks the hub for it."""
_USUAL = {"in_chans": (3,), "num_channels": (3,), "output_stride": (16,), "out_indices": ([1, 2, 3, 4], [2, 3, 4], [4])}
"""What transformers 4 wrote as `backbone_kwargs` beside such a name; it is what is taken without them."""


def check_settings(path: Path, config: Mapping[str, Any]) -> None:
    """ModelError where a setting of this config.json names other weights, or a network that is not in the folder."""
    for told in _objects(config):
        if told.get("transformers_weights") is not None:
            raise ModelError(
                f'{path} says transformers_weights: "{str(told["transformers_weights"])[:100]}", which names a file to '
                "be loaded in place of model.safetensors and may be a pickle. Remove that line, and name the weights "
                "model.safetensors."
            )
        for key in ("backbone", "architecture"):
            name = told.get(key)
            if isinstance(name, str) and "model_type" in told and _asks_elsewhere(told, key, name):
                raise ModelError(
                    f'{path} says {key}: "{name[:100]}", a network that would be looked up on the hub or elsewhere on '
                    "this machine. A model is read from its own folder only: give the network's own settings there "
                    "(backbone_config), as transformers writes them."
                )


def _asks_elsewhere(told: Mapping[str, Any], key: str, name: str) -> bool:
    if ":" in name:
        return True  # hf-hub:ORG/NAME or local-dir:FOLDER, as timm takes them
    if key == "architecture" or told.get("backbone_config") or told["model_type"] == "timm_backbone":
        return False
    plain = told.get("use_timm_backbone", True) and are_usual(told.get("backbone_kwargs"))
    return not (plain and told["model_type"] in NAMES_TIMM)


def are_usual(given: Any) -> bool:
    """Whether `backbone_kwargs` say nothing but what is taken without them."""
    return not given or (isinstance(given, dict) and all(value in _USUAL.get(key, ()) for key, value in given.items()))


def check_counts(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """ModelError where this config.json asks for more layers, blocks, experts and the like than there are tensors.

    tensors: how many the weights hold; 0 where all are to be drawn, and then a thousand are the most.
    """
    most = max(FEW, tensors)
    for told in _objects(config):
        for key, value in told.items():
            numbers = [len(value), *value] if isinstance(value, list) else [value]
            found = max((n for n in numbers if _is_count(n)), default=0)
            limit = MOST_LABELS if key == "num_labels" else most if _COUNT.search(key) else None
            limit = MOST_EXPERTS if _EXPERTS.search(key) else limit
            if limit is not None and found > limit:
                held = f", and its weights hold {tensors:,} tensors" if tensors else ""
                raise ModelError(
                    f"{path} says {key}: {_short(found)}{held}: at most {limit:,} can be meant. The file is damaged, "
                    "or of another model: fetch config and weights from the same place."
                )


def check_size(folder: Path, reader: Any, config: PretrainedConfig, tensors: Mapping[str, TensorEntry]) -> None:
    """ModelError where the network of this configuration would be far larger than the weights that are to fill it.

    reader: transformers' class for the task, such as AutoModelForCausalLM. A network that cannot be laid out without
    memory is not judged; what is wrong with it shows when it is read.
    """
    import copy

    import torch
    from transformers import initialization

    safely = getattr(initialization, "meta_device_safe_creation_ops", nullcontext)  # since transformers 5.2
    try:
        with torch.device("meta"), safely(), initialization.no_init_weights():
            network = reader.from_config(copy.deepcopy(config), trust_remote_code=False)
    except Exception:
        return
    wanted = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    held = sum(prod(entry.shape) for entry in tensors.values())
    if wanted > 2 * held + SPARE:
        raise ModelError(
            f"The weights in {folder} hold {held:,} numbers, and the {type(network).__name__} that its config.json "
            f"describes has {_short(wanted)}: most would be random. Look at vocab_size, hidden_size and the other "
            "sizes there, or fetch config and weights from the same place."
        )


def _objects(found: Any) -> Iterator[Mapping[str, Any]]:
    """The object itself and all that stand inside it: settings of text, vision and backbone have objects of their own.
    Names of classes are no settings."""
    if isinstance(found, Mapping):
        yield found
        for key, value in found.items():
            if key not in ("id2label", "label2id"):
                yield from _objects(value)
    elif isinstance(found, list):
        for value in found:
            yield from _objects(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(count: int) -> str:
    return f"{count:,}" if count < 10**18 else "more than a million million million"
