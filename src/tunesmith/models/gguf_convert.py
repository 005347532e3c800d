"""From a GGUF file that was looked at to a folder that plain transformers loads: weights, configuration, tokenizer."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.gguf_header import GgufHeader
from tunesmith.models.gguf_rope import FREQUENCIES, settle_rope
from tunesmith.models.quiet import quiet
from tunesmith.models.tokenizer import try_tokenizer

SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Vocabularies (`tokenizer.ggml.pre`) whose merges were learned with every digit cut off first, as in llama.cpp's
table. transformers 5.23 does not know it and would read two spaces before a digit as two tokens instead of one."""

_LARGEST_BUFFERS = 2**28


def convert(path: Path, folder: Path, header: GgufHeader) -> None:
    """Write the model into an empty folder: config.json, safetensors in float32, tokenizer files.

    ModelError where transformers cannot read it, or would pass over a part of it. OSError where the disk refuses.
    """
    place, name = _alone(path, folder.parent)
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # its progress bar goes there unasked
            network = _skeleton(path, place, name, header)
            _fill(network, path, place, name)
            _tokenizer(place, name, header).save_pretrained(folder)
            network.save_pretrained(folder)
    except ModelError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _explained(error, path, header) from error
    except Exception as error:  # a file that lies makes libraries raise whatever the lie leads to
        if "os error" in str(error).lower():  # how safetensors tells of a full disk
            raise OSError(str(error)) from error
        raise _explained(error, path, header) from error


def _alone(path: Path, scratch: Path) -> tuple[Path, str]:
    """The file through a link in a folder of its own: transformers looks at what lies beside it."""
    place = scratch / "file"
    place.mkdir()
    try:
        os.symlink(path.resolve(), place / "model.gguf")
    except OSError:  # a system without links
        return path.parent, path.name
    return place, "model.gguf"


def _skeleton(path: Path, place: Path, name: str, header: GgufHeader) -> Any:
    """The network without weights, after checking that the file's tensors fill it, and that nothing of them is left."""
    config = AutoConfig.from_pretrained(place, gguf_file=name, trust_remote_code=False)
    vet.vet_model_type(path, config.to_dict(), "causal lm")
    config.quantization_config = None
    vars(config).pop("quantization_config", None)
    vars(config).pop("_model_name_or_path", None)
    config.dtype = torch.float32
    settle_rope(config, path, header)
    with torch.device("meta"):
        network: Any = AutoModelForCausalLM.from_config(config)
    wanted = sum(p.numel() for p in network.parameters())
    beside = (FREQUENCIES, *(("output.weight",) if config.tie_word_embeddings else ()))
    extra = [n for n in beside if n in header.shapes]
    held = header.elements - sum(_elements(header, n) for n in extra)
    if wanted != held or sum(b.numel() for b in network.buffers()) > _LARGEST_BUFFERS:
        raise ModelError(
            f"{path} holds {held:,} numbers, and the {type(network).__name__} that transformers would build from it "
            f"has {wanted:,}: {'some would be random' if wanted > held else 'some would be lost'}. The file is "
            f"damaged, or of a form of {header.architecture} that transformers does not know. Use the model's "
            "safetensors folder."
        )
    return network


def _elements(header: GgufHeader, name: str) -> int:
    return int(torch.Size(header.shapes[name]).numel())


def _fill(network: Any, path: Path, place: Path, name: str) -> None:
    """Put the file's weights, float32, into the network."""
    more: dict[str, Any] = {}
    try:
        from transformers import GgufConfig

        more["quantization_config"] = GgufConfig(dequantize=True)  # never packed, whatever is installed
    except ImportError:
        pass
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        place, gguf_file=name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False, **more
    )
    read, info = loaded
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise ModelError(f"{path} lacks {len(absent)} tensors of its network, such as {absent[0]}. Fetch it again.")
    network.load_state_dict(read.state_dict(), strict=False, assign=True)
    network.tie_weights()
    if any(p.is_meta for p in network.parameters()):
        raise ModelError(f"{path} does not fill the network that it describes. Fetch it again.")
    vet.check_finite(network)


def _tokenizer(place: Path, name: str, header: GgufHeader) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(place, gguf_file=name, trust_remote_code=False)
    if header.metadata.get("tokenizer.ggml.pre") in SINGLE_DIGITS:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    longest = header.size("context_length")
    if longest:
        tokenizer.model_max_length = longest
    try_tokenizer(tokenizer, place)
    return tokenizer


def _explained(error: Exception, path: Path, header: GgufHeader) -> ModelError:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(
        f'transformers could not read {path} (GGUF architecture "{header.architecture}"): {text.rstrip(".")}. Where '
        "the architecture is not supported, use the same model as a safetensors folder, or a newer transformers; else "
        "the file may be damaged: fetch it again."
    )
