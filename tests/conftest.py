"""Tiny pretrained models of every supported family: random weights, a small vocabulary, on disk like real ones."""

from __future__ import annotations

import copy
import functools
import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tunesmith.types import ModelSource, Pretrained

# The same examples in every run, so that what passed here passes in CI; HYPOTHESIS=explore draws new ones.
# A busy machine draws slowly, which is no fault of a test.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS", "fixed"))

TINY_MODELS = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "albert", "modernbert", "gpt2", "llama")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TINY_LANGUAGE_MODELS = ("gpt2_lm", "llama_lm")
"""Decoders with their own output layer, tied to the embeddings in GPT-2 and its own matrix in Llama."""
EXTRA: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {**SIZES, "embedding_size": 16},
    "deberta-v2": {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
    "albert": {**SIZES, "embedding_size": 16},
    "modernbert": {**SIZES, "num_hidden_layers": 3, "intermediate_size": 48, "global_attn_every_n_layers": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "llama": {**SIZES, "num_key_value_heads": 2, "intermediate_size": 80},
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("good", "bad", "film", "a", "the", "very", "not", "was", "great", "dull", "plot", "actor", "end", "story")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = list(dict.fromkeys([*SPECIAL, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]))


def pytest_collection_finish() -> None:
    """What the libraries hold stays: every fit collects garbage, which looks through hundreds of thousands of objects
    of torch and transformers otherwise.
    """
    gc.collect()
    gc.freeze()


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=60,
    ).save_pretrained(folder)


def _write_model(kind: str, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    family = kind.removesuffix("_lm")
    config = AutoConfig.for_model(
        family,
        **EXTRA[family],
        vocab_size=len(VOCABULARY),
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )
    for name in ("reference_compile", "deterministic_flash_attn"):
        if hasattr(config, name):
            setattr(config, name, False)
    torch.manual_seed(7)
    model = (AutoModel if family == kind else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Wider than libraries draw, so that attention is not flat; biases off zero, so that a lost one shows.
            parameter.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, 0.15)
    model.save_pretrained(folder)
    _write_tokenizer(folder)


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny pretrained backbone (no classifier in it), made when first asked for."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            _write_model(kind, path)
        return path

    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folders: Callable[[str], Path]) -> Callable[..., Pretrained]:
    """A fresh tiny classifier: `tiny("bert", labels=3, seed=0)`; read from disk once, copied after that. A kind that
    ends in `_lm` is a language model, which has no labels.
    """

    @functools.cache
    def read(kind: str, labels: int, seed: int) -> Pretrained:
        if kind.endswith("_lm"):
            return load_tiny_language_model(tiny_folders(kind))
        return load_tiny(tiny_folders(kind), labels=labels, seed=seed)

    def fresh(kind: str, labels: int = 3, seed: int = 0) -> Pretrained:
        pretrained = read(kind, labels, seed)
        return replace(pretrained, model=copy.deepcopy(pretrained.model))

    return fresh


def load_tiny(folder: Path, *, labels: int = 3, seed: int = 0) -> Pretrained:
    """A classifier on the backbone in `folder`, its head drawn from `seed`, in evaluation mode."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

    from tunesmith.models.anatomy import find_anatomy
    from tunesmith.models.attention import use_attention

    logging.set_verbosity_error()  # a classifier that is not in the file is what we expect
    torch.manual_seed(seed)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=labels, output_loading_info=True
    )
    model.eval()
    use_attention(model)
    anatomy = find_anatomy(model, info["missing_keys"])
    source = ModelSource(name=str(folder), path=str(folder))
    return Pretrained(model, AutoTokenizer.from_pretrained(folder), anatomy, source)


def load_tiny_language_model(folder: Path) -> Pretrained:
    """The language model in `folder`, in evaluation mode, without a head of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.models.anatomy import find_anatomy
    from tunesmith.models.attention import use_attention

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    use_attention(model)
    anatomy = replace(find_anatomy(model), head=(), classifier=())
    source = ModelSource(name=str(folder), path=str(folder))
    return Pretrained(model, AutoTokenizer.from_pretrained(folder), anatomy, source)
