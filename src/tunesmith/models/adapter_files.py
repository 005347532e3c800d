"""An adapter's folder as peft writes it: whether it may be opened, and which base model it belongs to.

peft opens adapter_model.bin, a pickle, where adapter_model.safetensors is not there, and asks the hub for a folder's
name where neither is. So `vet_adapter` comes before every `PeftModel.from_pretrained`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models.weights_file import read_header, read_object

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_MORE = ("megatron_config", "adapters", "prompt_tuning_init_state_dict_path")
"""Settings with which peft imports a module by name, or reads further adapters and weights; no method here has them."""


def vet_adapter(folder: Path) -> dict[str, Any]:
    """adapter_config.json as a mapping; ModelError unless the folder holds a whole adapter in safetensors, of a type
    that peft knows, and nothing there leads out of it."""
    from peft import PeftType

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"{folder} holds {ADAPTER} but no {ADAPTER_WEIGHTS}: what was learned is not there, or only as a pickle "
            "(adapter_model.bin), which is never opened. Put the file back, or fit again."
        )
    config = read_object(folder / ADAPTER)
    read_header(path)
    kind, known = config.get("peft_type"), sorted(str(member.value) for member in PeftType)
    if kind not in known:
        hint = did_you_mean(str(kind)[:100], known)
        raise ModelError(f'{folder / ADAPTER} says peft_type: "{str(kind)[:100]}", which peft does not know.{hint}')
    odd = [name for name in _MORE if config.get(name)]
    if odd:
        raise ModelError(
            f"{folder / ADAPTER} says {odd[0]}, which leads to files or code outside the folder. An adapter is read "
            "from its own folder only; no method of tunesmith writes that."
        )
    return config


def base_of_adapter(folder: Path) -> Path:
    """The folder of the base model that a vetted adapter names.

    ModelError where it is not on this machine: tunesmith writes the absolute folder of the base that it trained on, and
    a name on the hub, which a run's own recipe does not tell of, is never fetched.
    """
    told = vet_adapter(folder).get("base_model_name_or_path")
    if not isinstance(told, str) or not told:
        raise ModelError(f"{folder / ADAPTER} does not say which base model it belongs to (base_model_name_or_path).")
    base = Path(told)
    if not base.is_absolute():
        raise ModelError(
            f'The adapter in {folder} says that its base model is "{told[:200]}", which is no absolute folder. A run '
            "names the folder of the model that it was trained on, and nothing is fetched for it. Write that folder as "
            f"base_model_name_or_path in {ADAPTER}; the run's manifest.json tells it (model.path)."
        )
    if not base.is_dir():
        raise ModelError(
            f"The adapter in {folder} belongs to the model in {base}, which is gone. Put it back; if that was the "
            "cache of a GGUF file, or of a model in few bits, `tunesmith fit` (for a file also `inspect --task "
            "causal_lm`) with the same model makes it again."
        )
    return base


def about_adapter(folder: Path) -> str:
    """Why an adapter's folder is not a base model, with what else is wrong in it."""
    from peft import PeftType

    config = read_object(folder / ADAPTER)
    kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    lines = [
        f"{folder} holds an adapter ({kind}), not a model: it is a small change to a base model. "
        f'Give its base as the model ("{base}" by its adapter_config.json), or merge the adapter into the base with '
        "peft (merge_and_unload, save_pretrained) and give that folder. A finished run of tunesmith is a model by its "
        "folder's name."
    ]
    known = sorted(str(member.value) for member in PeftType)
    if kind not in known:
        lines.append(
            f'peft knows no adapter type "{kind}".{did_you_mean(str(kind), known)} It knows: {", ".join(known)}.'
        )
    if isinstance(base, str) and base.startswith(("/", ".", "~")) and not Path(base).expanduser().exists():
        lines.append(f"The base that it names, {base}, is not on this machine.")
    lines += _adapter_faults(folder, config)
    return "\n".join(lines)


def _adapter_faults(folder: Path, config: dict[str, Any]) -> list[str]:
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return [f"Its weights ({ADAPTER_WEIGHTS}) are missing."]
    try:
        tensors = read_header(path)
    except ModelError as error:
        return [str(error)]
    rank = config.get("r")
    ranks = {entry.shape[0] for name, entry in tensors.items() if "lora_A" in name and entry.shape}
    fixed = not config.get("rank_pattern") and isinstance(rank, int)
    if fixed and ranks - {rank}:
        return [f"Its config says rank r={rank}, its tensors have rank {', '.join(map(str, sorted(ranks)))}."]
    return []
