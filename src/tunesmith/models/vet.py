"""Whether a folder is a model that may be loaded, and whether all of it arrived.

A folder from elsewhere is a stranger's: pickle is never opened, code in it never run, weights never read from outside
it. Extra files (optimizer state, other formats) are ignored. `vet_folder` comes before any other library opens
anything; the checks on the loaded model come before the first step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import ModelError, TunesmithError, did_you_mean
from tunesmith.models.adapter_files import ADAPTER, about_adapter
from tunesmith.models.claims import check_counts, check_settings
from tunesmith.models.rowless import never_meant, refuse_in_texts
from tunesmith.models.weights_file import TensorEntry, listing, read_object, read_weights

if TYPE_CHECKING:
    from torch import nn

SHOWN = 6
"""Tensors or tokens named in a message before it says how many more."""


Purpose = Literal["sequence classification", "image classification", "object detection", "causal lm"]


def vet_folder(
    folder: Path, purpose: Purpose = "sequence classification", *, weights: bool = True
) -> dict[str, TensorEntry]:
    """The tensors by name; ModelError, saying what to do, if the folder is not a transformers model in safetensors.

    Checks config.json (JSON, a model type fit for the purpose, no code of its own, no more layers than tensors), and
    unless weights is False (then there are no tensors) that the weights are there, whole, and inside the folder. Reads
    headers only: many gigabytes take milliseconds.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.")
    if (folder / ADAPTER).is_file():
        raise ModelError(about_adapter(folder))
    config = read_config(folder)
    vet_model_type(folder, config, purpose)
    if config.get("quantization_config") and purpose != "causal lm":
        raise ModelError(
            f"The weights in {folder} are quantised: such a model can be learned beside as a language model alone "
            f"(causal_lm, preference), not for {purpose}. Use its plain safetensors."
        )
    return vet_weights(folder, config, weights=weights)


def vet_weights(folder: Path, config: Mapping[str, Any], *, weights: bool = True) -> dict[str, TensorEntry]:
    """The tensors by name (none where weights is False), after holding the counts of `config` against their number."""
    tensors = read_weights(folder) if weights else {}
    if weights and not tensors:
        raise ModelError(f"The weights in {folder} hold no tensors at all. Fetch the model again.")
    check_counts(folder / "config.json", config, len(tensors))
    return tensors


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a mapping; raises ModelError if it is missing, is not a JSON object, or names other weights."""
    path = folder / "config.json"
    if not path.is_file():
        inner = sorted(p.parent.name for p in folder.glob("*/config.json") if "Pooling" not in p.parent.name)
        hint = f' There is one in its folder "{inner[0]}": name that.' if inner else ""
        raise ModelError(
            f"{folder} has no config.json, so it is not a transformers model.{hint} It holds: {listing(folder)}."
        )
    config = read_object(path)
    check_settings(path, config)
    return config


def vet_model_type(folder: Path, config: dict[str, Any], purpose: Purpose) -> None:
    """Judge by the model type alone, also where the folder brings code.

    Where transformers has the architecture itself, its own plain class is used and the folder's code stays untouched;
    where it has not, running strange code would be the only way.
    """
    from transformers.models.auto import modeling_auto

    supported = getattr(modeling_auto, f"MODEL_FOR_{purpose.upper().replace(' ', '_')}_MAPPING_NAMES")
    found = config.get("model_type")
    if isinstance(found, str) and found in supported:
        return
    if config.get("auto_map"):
        raise ModelError(
            f'The model in {folder} brings its own Python code (auto_map in config.json, model_type "{found}"), and '
            "tunesmith does not run code that comes with a model. Use a model whose architecture transformers has "
            "itself, or, where the code is a copy of such an architecture, set that model_type and remove auto_map."
        )
    known = ", ".join(sorted(supported))
    what = f'"{found}"' if isinstance(found, str) else "missing"
    hint = did_you_mean(found, supported) if isinstance(found, str) else ""
    raise ModelError(
        f"model_type in {folder / 'config.json'} is {what}, which transformers cannot use for {purpose}."
        f"{hint} It can use: {known}."
    )


@contextmanager
def reading(folder: Path, library: str = "transformers") -> Iterator[None]:
    """What a library raises in the block while it reads this folder becomes a ModelError in words.

    A file that lies makes libraries raise whatever the lie leads to; a panic of the Rust in tokenizers is not even an
    `Exception`. What is no fault of the folder passes: our own errors, too little memory, and being stopped.
    """
    import torch

    try:
        yield
    except (TunesmithError, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise explain_load_failure(error, folder, library) from error


def explain_load_failure(error: BaseException, folder: Path, library: str = "transformers") -> ModelError:
    """The ModelError to raise for what a library raised while it read a vetted folder."""
    text = " ".join(str(error).split()) or type(error).__name__
    short = text if len(text) <= 300 else text[:297] + "..."
    if "trust_remote_code" in text:
        advice = (
            "Its config or tokenizer asks for Python code that comes with the model, which tunesmith does not run. "
            "Use a model whose architecture and tokenizer transformers has itself."
        )
    elif isinstance(error, ImportError) or "requires the" in text or "need to have" in text:
        advice = "A library that its tokenizer or network needs is not installed: pip install what is named above."
    elif "tokenizer" in text.lower() or "vocab" in text.lower():
        advice = (
            "Its tokenizer cannot be read. The folder needs tokenizer.json, or the vocabulary in the model's own "
            f"format (vocab.txt, vocab.json with merges.txt, or a .model file). It holds: {listing(folder)}."
        )
    elif "ignore_mismatched_sizes" in text or "size mismatch" in text:
        advice = "config.json and the weights are of different models: fetch both from the same place."
    else:
        advice = (
            f"Its config.json may be for another version of {library}, or damaged: fetch the model again, or compare "
            f"with `{library}` upgraded."
        )
    return ModelError(f"{library} could not load the model in {folder}: {short}\n{advice}")


def check_loaded(model: nn.Module, info: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelError if part of the pretrained network did not arrive, and would be random without a word.

    info: what `from_pretrained(..., ignore_mismatched_sizes=True, output_loading_info=True)` returned. New is allowed
    to be what a new task brings: everything outside the backbone, a pooler, and output rows where the number of
    classes changed.
    """
    classes = int(getattr(model.config, "num_labels", 0))
    prefix = str(getattr(model, "base_model_prefix", "")) + "."
    wrong = []
    for key, found, expected in sorted(info.get("mismatched_keys", ())):
        only_classes = tuple(found[1:]) == tuple(expected[1:]) and expected[0] == classes
        if key.startswith(prefix) or not only_classes:
            wrong.append(f"{key} {list(found)} (expected {list(expected)})")
    if wrong:
        raise ModelError(
            f"The weights in {folder} have other shapes than its config.json asks for, in {len(wrong)} tensors: "
            f"{few(wrong)}. Config and weights are of different models: fetch both from the same place."
        )
    missing = [k for k in sorted(info.get("missing_keys", ())) if k.startswith(prefix) and "pooler" not in k]
    if missing:
        raise ModelError(
            f"The weights in {folder} lack {len(missing)} tensors of the {type(model).__name__} that its config.json "
            f"describes, which would be random: {few(missing)}. The file belongs to another model or is not whole."
        )


def check_filled(info: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelError if a delivered network lacks a tensor, or has one of another shape than its config.json asks."""
    lost = sorted(str(key) for key in info["missing_keys"] if not str(key).endswith("num_batches_tracked"))
    lost += sorted(str(key[0]) for key in info["mismatched_keys"])
    if lost:
        raise ModelError(
            f"The weights in {folder} lack {len(lost)} tensors of the network that its config.json describes, or have "
            f"them in another shape: {few(lost)}. Config and weights are of different models: bring both back."
        )


def check_vocabulary(model: nn.Module, processor: Any) -> None:
    """Raise ModelError if the tokenizer can give an id that the model has no embedding row for. Special tokens that no
    plain text brings are tolerated, and a text that names one is refused when the model is given it (`rowless`)."""
    words: Any = model.get_input_embeddings()  # type: ignore[operator]
    rows = int(words.weight.shape[0])
    found = dict(sorted((i, token) for token, i in processor.get_vocab().items() if i >= rows))
    spare = never_meant(processor, found)
    beyond = [f'"{token}" (id {i})' for i, token in found.items() if i not in spare]
    if beyond:
        raise ModelError(
            f"The tokenizer has {len(beyond)} tokens beyond the {rows} rows of the model's embedding: {few(beyond)}. "
            "Text with one of them would fail in the middle of training. Tokenizer and weights are of different "
            "models: fetch both from the same place."
        )
    if spare:
        refuse_in_texts(words, spare)


def check_finite(model: nn.Module) -> None:
    """Raise ModelError if any weight is NaN or infinite, naming the tensors.

    A sum is not finite if one of its terms is not: one pass over memory, and only suspects are looked at twice.
    """
    import torch

    from tunesmith.models.quantised import packed

    bad = []
    for name, tensor in model.named_parameters():
        if (
            tensor.is_meta
            or packed(tensor)
            or not tensor.is_floating_point()
            or bool(torch.isfinite(tensor.detach().float().sum()))
        ):
            continue
        count = int((~torch.isfinite(tensor.detach())).sum())
        if count:
            bad.append(f"{name} ({count:,} of {tensor.numel():,} values)")
    if bad:
        raise ModelError(
            f"The pretrained weights are not finite in {len(bad)} tensors: {few(bad)}. Every answer would be NaN. The "
            "model was saved after its training failed, or the file is damaged: use another copy or an earlier one."
        )


def few(names: Collection[str]) -> str:
    """Names for a message, cut after six."""
    shown = list(names)[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
