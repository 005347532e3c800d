"""What every peft method shares: wrapping with the whole head, reading and writing peft's own format, merging.

peft chooses layers and heads by name tables and by the ends of names. Here it is handed full names from the anatomy,
and what it made of them is checked: a head it forgot or a layer it caught too much is a ModelError, not a surprise.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.methods._peft_layers import taken
from tunesmith.methods.base import is_language_model, reads_pictures
from tunesmith.types import Layer, Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

ADAPTER = "default"
"""peft's name for the one adapter; it is left out of what is saved."""

PREFIX = "base_model.model."
"""What peft puts before every name, where it wraps layers."""


def wrap(pretrained: Pretrained, config: Any, layers: Sequence[Layer] = ()) -> nn.Module:
    """The peft model of `config` on these layers, with the whole head learning beside it where there is one.

    The pretrained module is changed in place: peft puts its layers into it. Layers that peft refuses or turns into
    others on this kind of model are left as they are, with a note; ModelError where none is left.
    """
    from peft import get_peft_model

    model = pretrained.model
    config.task_type = _task_type(pretrained)
    config.modules_to_save = _head_names(pretrained, config) or None
    expected = {name.removeprefix(PREFIX) for name in config.modules_to_save or ()}
    if config.is_prompt_learning:
        expected = set(pretrained.anatomy.head)
    if layers:
        layers = taken(model, config, layers)
        config.target_modules = {layer.name for layer in layers}
        config.fan_in_fan_out = any(layer.kind == "conv1d" for layer in layers)
    with warnings.catch_warnings(), _without_words(pretrained):
        # peft reads attributes that transformers is about to rename, and remarks on names that are set below.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        wrapped: nn.Module = get_peft_model(model, config)
    config.base_model_name_or_path = pretrained.source.path
    _check(wrapped, expected, {layer.name for layer in layers}, prompt=config.is_prompt_learning)
    _share_again(wrapped)
    return wrapped


def _without_words(pretrained: Pretrained) -> AbstractContextManager[None]:
    """While it lasts, a model of pictures answers peft that it has no word embeddings. peft asks for them to find
    layers that share weights with them, and transformers' Deformable DETR, RT-DETR v2 and D-FINE raise an error.
    """
    from torch import nn

    from tunesmith.models.stand_in import attribute

    if not reads_pictures(pretrained):
        return nullcontext()
    return attribute([pretrained.model], "get_input_embeddings", nn.Identity)


def _share_again(model: nn.Module) -> None:
    """Let peft's copies of head layers that share weights share theirs, in place. D-FINE has each class layer under two
    names; copies that learned apart would be made one again by whoever reads the file.
    """
    from peft.utils.other import ModulesToSaveWrapper

    first: dict[int, Any] = {}
    for wrapper in model.modules():
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        learned = wrapper.modules_to_save[ADAPTER]
        for name, parameter in wrapper.original_module.named_parameters():
            place, _, own = name.rpartition(".")
            module = learned.get_submodule(place)
            setattr(module, own, first.setdefault(id(parameter), getattr(module, own)))


def _task_type(pretrained: Pretrained) -> str | None:
    """What peft calls the model's task, which picks the class that wraps it; None: its plain one."""
    if is_language_model(pretrained):
        return "CAUSAL_LM"
    return "SEQ_CLS" if type(pretrained.model).__name__.endswith("ForSequenceClassification") else None


def _head_names(pretrained: Pretrained, config: Any) -> list[str]:
    """The head as peft shall look for it. It goes by the ends of names: ModernBERT's `head` would also catch a prompt
    encoder's `mlp_head`, and RetinaNet's `head` the `classification_head` in it. Where peft looks from the top (models
    of texts) the name is given from there; elsewhere the parts stand for the whole, as they do for a list of layers,
    which peft cannot wrap.
    """
    head = pretrained.anatomy.head
    if config.is_prompt_learning:
        return [f"base_model.{name}" for name in head]
    names = [name.removeprefix(PREFIX) for name, _ in pretrained.model.named_modules()]
    from_top = _task_type(pretrained) is not None
    found: list[str] = []
    waiting = list(reversed(head))
    while waiting:
        name = waiting.pop()
        known = () if from_top else (*head, *found, *waiting)
        others = [n for n in names if n.endswith(name) and n != name and n not in known]
        parts = () if from_top else _parts(pretrained.model, name, whole=not others)
        waiting += reversed(parts)
        if not parts:
            found.append(PREFIX + name if others else name)
    return found


def _parts(model: nn.Module, name: str, *, whole: bool) -> tuple[str, ...]:
    """Names of the learned modules inside a part of the head; none where that part can be wrapped as it is (`whole`),
    is wrapped already, or has weights of its own.
    """
    from peft.utils.other import ModulesToSaveWrapper
    from torch import nn

    module = model.get_submodule(name)
    if whole and not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return ()
    if isinstance(module, ModulesToSaveWrapper) or any(True for _ in module.parameters(recurse=False)):
        return ()
    return tuple(f"{name}.{own}" for own, part in module.named_children() if any(True for _ in part.parameters()))


def _check(model: nn.Module, head: set[str], targets: set[str], *, prompt: bool) -> None:
    """ModelError unless exactly this head is learned and exactly these layers are wrapped."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    prefix = "base_model." if prompt else PREFIX
    named = [(name.removeprefix(prefix), module) for name, module in model.named_modules()]
    heads = {name for name, module in named if isinstance(module, ModulesToSaveWrapper)}
    if heads != head:
        raise ModelError(
            f"The head of this model is {', '.join(sorted(head))}, but peft would train "
            f"{', '.join(sorted(heads)) or 'none of it'}. "
            "Methods that work without peft: full, head, last_blocks, bitfit, norm_tuning, adapter."
        )
    wrapped = {name for name, module in named if isinstance(module, BaseTunerLayer)}
    if targets and wrapped != targets:
        odd = ", ".join(sorted(wrapped ^ targets))
        raise ModelError(
            f"peft's choice of layers differs from the recipe's at: {odd}. Write method.targets=attention."
        )


def keep_bfloat16(model: nn.Module) -> None:
    """Let adapter layers take their input as it comes. Under autocast peft would copy every input to float32 first,
    only for autocast to copy it back; on a CPU that costs more than the adapter's own products. Plain LoRA beside a
    linear layer is computed in one step with it (`models/low_rank.py`).
    """
    import torch
    from peft.tuners.lora import Linear as LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    from tunesmith.models.low_rank import fuse_low_rank
    from tunesmith.models.quantised import packed

    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        # A base stored in bfloat16 and run without autocast needs the copy: its adapters are float32.
        weight = layer.get_base_layer().weight
        if weight.dtype == torch.float32 or packed(weight):  # one in few bits works in what it is given
            layer.cast_input_dtype_enabled = False
        if isinstance(layer, LoraLayer):
            fuse_low_rank(layer, ADAPTER)


@contextmanager
def passed_by(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Inside, peft's layers are the layers they wrap, with these weights where wrapping changed them, by full name.

    peft's own `disable_adapter` also freezes what learns, goes through the whole model for a status, and puts the head
    as it was when wrapped in place of the one that learns; here only the layers' switch is set, and set back.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    from tunesmith.models.stand_in import attribute, stand_in

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    with attribute(layers, "_disable_adapters", True), stand_in(model, weights or {}):
        yield


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The adapter and the head by the names that peft's files use."""
    from peft import get_peft_model_state_dict

    # "auto" would look the base up on the hub.
    tensors: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return tensors


def write(
    model: nn.Module,
    folder: Path,
    pretrained: Pretrained,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, to be loaded on the untouched base.

    tensors: instead of the model's own; changes: fields of the configuration that differ from the training's.
    """
    from safetensors.torch import save_file

    training = model.training
    model.eval()  # a prompt encoder with dropout would otherwise write one random draw
    found = adapter_tensors(model) if tensors is None else tensors
    model.train(training)
    peft_model: Any = model
    config = copy.copy(peft_model.peft_config[ADAPTER])
    config.inference_mode = True
    config.base_model_name_or_path = pretrained.source.path
    config.modules_to_save = _head_names(pretrained, config) or None
    for field in ("target_modules", "feedforward_modules"):
        if isinstance(getattr(config, field, None), set):
            setattr(config, field, sorted(getattr(config, field)))  # a set's order differs from process to process
    for field, value in (changes or {}).items():
        setattr(config, field, value)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}
    save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def merged(model: nn.Module) -> nn.Module:
    """A plain copy with the adapter added into its weights; `model` stays as it was."""
    from peft.utils.other import ModulesToSaveWrapper

    plain: Any = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            # Some of peft's methods would look for weights on a head that is more than one layer, and fail.
            parent, _, own = name.rpartition(".")
            setattr(plain.get_submodule(parent), own, module.modules_to_save[ADAPTER])
    result: nn.Module = plain.merge_and_unload()
    return result
