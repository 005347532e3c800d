"""A transformers causal language model as the base of training: found, vetted, whole, its parts named, attention on.

From a hub name, a folder, a `package:` path or a GGUF file (dequantised into the cache, see `gguf.py`). Weights are
float32, but for linear layers in few bits (`quantised.py`), and tied ones stay tied. Its output layer is pretrained
like the rest, so there is no head of the task (`anatomy.head` is empty).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto import modeling_auto

from tunesmith.errors import ModelError
from tunesmith.models import gguf, quantised, vet
from tunesmith.models.adapter_files import ADAPTER, base_of_adapter
from tunesmith.models.anatomy import find_anatomy
from tunesmith.models.attention import use_attention
from tunesmith.models.chat_templates import settle_template
from tunesmith.models.claims import check_size
from tunesmith.models.quiet import quiet
from tunesmith.models.source import licence_of, locate
from tunesmith.models.tokenizer import read_tokenizer
from tunesmith.places import resolve_place
from tunesmith.types import ModelSource, Pretrained

PADDING = ("<|pad|>", "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>",
           "<unk>", "<|unk|>", "[UNK]", "<|endoftext|>")  # fmt: skip
"""Tokens that pad where the tokenizer names none but its end token, the first that the vocabulary has."""


def find_causal(name: str, revision: str | None = None) -> ModelSource:
    """Find the language model a person named; of a GGUF file `path` is the dequantised folder.

    revision: branch, tag or commit, for hub names. ModelError where there is none, or not one that can be read.
    """
    path = Path(resolve_place(name)).expanduser()
    if name.strip() and path.is_dir() and not (path / "config.json").is_file():
        files = sorted(each.name for each in path.glob(f"*{gguf.SUFFIX}"))
        if files:
            named = ", ".join(f"{name}/{file}" for file in files[:5])
            raise ModelError(f"{name} holds GGUF files. Name one of them: {named}.")
    if not gguf.is_gguf(path):
        return locate(name, revision)
    if revision is not None:
        raise ModelError(f"revision: {revision} belongs to a hub name, but {name} is a file. Leave it out.")
    folder = gguf.dequantised(path)
    return ModelSource(name, str(folder), {path.name: folder.name}, licence_of(folder))


def load_causal(source: ModelSource, *, template: str = "auto") -> Pretrained:
    """Any transformers causal language model with its tokenizer, in evaluation mode.

    template: name of the chat template that the tokenizer gets; auto: its own, else chatml. ModelError for files that
    are broken or unsafe, for an encoder, and for weights that are not whole or quantised by others than bitsandbytes.
    """
    folder = Path(source.path)
    model, info = read_network(folder)
    tokenizer = read_tokenizer(folder)
    check_whole(model, info, folder)
    vet.check_finite(model)
    vet.check_vocabulary(model, tokenizer)
    _set_padding(model, tokenizer)
    settle_template(tokenizer, template)
    model.eval()
    use_attention(model)
    return Pretrained(model, tokenizer, find_anatomy(model), source)


def read_causal(folder: Path, *, to_merge: bool = False) -> tuple[Any, Any]:
    """Model (float32 but for a base in few bits, evaluation mode) and tokenizer of a delivered folder, adapter or whole
    model, through transformers and peft alone. to_merge: a base in few bits is dequantised before the adapter comes.
    ModelError for files that are broken or unsafe, and where an adapter's base is gone."""
    adapted = (folder / ADAPTER).is_file()
    whole = base_of_adapter(folder) if adapted else folder
    model, info = read_network(whole)
    vet.check_filled(info, whole)
    if to_merge:
        quantised.dequantise(model)
    tokenizer = read_tokenizer(folder)
    if not adapted:
        return model.eval(), tokenizer
    from peft import PeftModel

    with vet.reading(folder), quiet():
        return PeftModel.from_pretrained(model, folder).eval(), tokenizer


def read_network(folder: Path, few_bits: Any = None) -> tuple[Any, dict[str, Any]]:
    """The model of a folder that is looked through first, and what transformers tells of the reading. few_bits: how its
    linear layers are to be quantised on the way, a `quantization_config` of transformers."""
    tensors = vet.vet_folder(folder, "causal lm")
    with vet.reading(folder), quiet(), torch.random.fork_rng(devices=[]):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_kind(config, folder)
        check_size(folder, AutoModelForCausalLM, config, tensors)
        torch.manual_seed(0)  # what is missing is drawn before it is refused
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **({} if few_bits is None else {"quantization_config": few_bits}),
        )
    model, info = loaded
    quantised.multiply_plainly(model, folder)
    return model, info


def _check_kind(config: Any, folder: Path) -> None:
    """ModelError for a model that reads both ways or needs a second network, and for weights in few bits that are not
    bitsandbytes' or cannot be read on this machine."""
    instead = "Name a causal language model: Llama, Qwen, SmolLM2, GPT-2 and their like."
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"The {config.model_type} model in {folder} is an encoder with a decoder, which turns one text into "
            f"another; it does not go on with a text by itself. {instead}"
        )
    encoders = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.model_type in encoders and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"The {config.model_type} model in {folder} is an encoder: every token sees those behind it too, so it "
            f"cannot write. It serves text_classification. {instead}"
        )
    few_bits = getattr(config, "quantization_config", None)
    if few_bits:
        quantised.check_readable(few_bits if isinstance(few_bits, dict) else few_bits.to_dict(), folder)


def check_whole(model: nn.Module, info: dict[str, Any], folder: Path) -> None:
    """ModelError unless every weight came from the files, in its shape, and none of theirs was passed over."""
    wrong = sorted(str(key[0]) for key in info["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"The weights in {folder} have other shapes than its config.json asks for: {vet.few(wrong)}. Config and "
            "weights are of different models: fetch both from the same place."
        )
    missing = sorted(str(key) for key in info["missing_keys"])
    if missing:
        left = vet.few(sorted(str(key) for key in info["unexpected_keys"])) or "nothing else"
        raise ModelError(
            f"The weights in {folder} lack {len(missing)} tensors of the {type(model).__name__}, which would be "
            f"random: {vet.few(missing)}. They hold beside what was used: {left}. The file is not whole, or is of a "
            "model made for something else (a classifier, an encoder)."
        )
    lost = sorted(str(key) for key in info["unexpected_keys"] if _belongs(model, str(key)))
    if lost:
        raise ModelError(
            f"The weights in {folder} hold tensors of layers that a {type(model).__name__} of this config.json has "
            f"otherwise or not at all: {vet.few(lost)}. They would be lost without a word, and the model would answer "
            "otherwise than it was made to. Is config.json of the same model?"
        )


def _belongs(model: nn.Module, key: str) -> bool:
    """Whether a tensor is of a layer that the network has (a bias it lacks), or of one more block: more than a second
    head or an image encoder that a text model leaves aside."""
    modules = dict(model.named_modules())
    for name in (key, f"{getattr(model, 'base_model_prefix', '')}.{key}"):
        owner = place = name.rpartition(".")[0]
        while place and place not in modules:
            place = place.rpartition(".")[0]
        found = modules[place]
        if place == owner and isinstance(getattr(found, "weight", None), torch.Tensor):
            return True
        if place != owner and isinstance(found, nn.ModuleList):
            return True
    return False


def _set_padding(model: Any, tokenizer: Any) -> None:
    """A padding token of its own where the vocabulary has one: padded with the end token, a model whose labels are
    masked by that id never learns to stop."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        known = tokenizer.get_vocab()
        spare = next((t for t in PADDING if t in known and known[t] != tokenizer.eos_token_id), None)
        tokenizer.pad_token = spare or tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelError("The tokenizer has neither a padding nor an end token. Add one to tokenizer_config.json.")
    tokenizer.padding_side = "right"
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    words = model.get_input_embeddings()
    words.padding_idx = None  # its row would not learn, which with the end token as padding means never to stop
