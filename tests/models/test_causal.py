"""Causal language models are found, vetted and read whole, and their parts bear the right names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_gguf import MERGES, SPECIAL, TEMPLATE, TOKENS, tiny_llama, write_gguf
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from tunesmith.errors import ModelError
from tunesmith.models.causal import find_causal, load_causal, read_causal
from tunesmith.types import ModelSource, Pretrained

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
GROUPED = {**SIZES, "num_key_value_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "gpt_neox": SIZES,
    "opt": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 80,
        "word_embed_proj_dim": 32,
    },
}
QKV = {"attention_output": 2, "up": 2, "down": 2, "query_key_value": 2}
SINGLE = {"query": 2, "key": 2, "value": 2, "attention_output": 2, "up": 2, "down": 2}
ROLES = {
    "llama": {**SINGLE, "gate": 2},
    "qwen2": {**SINGLE, "gate": 2},
    "qwen3": {**SINGLE, "gate": 2},
    "gpt2": QKV,
    "gpt_neox": QKV,
    "opt": SINGLE,
}
WORDS = ["<pad>", "<s>", "</s>", "<unk>", *TOKENS[len(SPECIAL) :]]


def tokenizer(**more: Any) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    backend = Tokenizer(models.BPE(vocabulary, [(a, b) for a, b in (merge.split(" ") for merge in MERGES)]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", **more}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def write(folder: Path, kind: str, auto: Any = AutoModelForCausalLM, **more: Any) -> Path:
    torch.manual_seed(0)
    common = {"vocab_size": len(WORDS), "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
              "eos_token_id": 2}  # fmt: skip
    model = auto.from_config(AutoConfig.for_model(kind, **{**MODELS.get(kind, SIZES), **common, **more}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, 0.2)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path, **more: Any) -> Pretrained:
    return load_causal(ModelSource(str(folder), str(folder)), **more)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("causal")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).exists() else write(root / kind, kind)

    return folder


@pytest.mark.parametrize("kind", MODELS)
def test_roles_come_out_right_and_there_is_no_head(kind: str, folders: Callable[[str], Path]) -> None:
    anatomy = load(folders(kind)).anatomy
    assert anatomy.head == anatomy.classifier == ()
    counts: dict[str, int] = {}
    for layer in anatomy.of():
        counts[layer.role] = counts.get(layer.role, 0) + 1
    assert counts == ROLES[kind]
    assert (anatomy.hidden_size, anatomy.heads, len(anatomy.blocks), len(anatomy.attention)) == (32, 4, 2, 2)
    for role, part in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("gate", "gate"), ("up", "up")):
        names = [layer.name for layer in anatomy.of(role)]
        assert all(part in name or "fc1" in name or "c_fc" in name or "h_to_4h" in name for name in names)


@pytest.mark.parametrize("kind", MODELS)
def test_answers_are_plain_transformers_answers_in_float32(kind: str, folders: Callable[[str], Path]) -> None:
    pretrained = load(folders(kind))
    plain = AutoModelForCausalLM.from_pretrained(folders(kind), dtype=torch.float32).eval()
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(pretrained.model(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-4)
    assert not pretrained.model.training
    assert {p.dtype for p in pretrained.model.parameters()} == {torch.float32}
    assert pretrained.model.config._attn_implementation == "tunesmith"


def test_weights_kept_in_bfloat16_become_float32_and_tied_ones_stay_tied(tmp_path: Path) -> None:
    write(tmp_path, "llama", tie_word_embeddings=True)
    AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).save_pretrained(tmp_path)
    model: Any = load(tmp_path).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def packed(ids: Tensor, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """Texts behind each other in one row: who may see whom, and positions that begin anew."""
    segments = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
    mask = (segments[:, None] == segments) & torch.ones(len(segments), len(segments)).tril().bool()
    return {"input_ids": ids, "attention_mask": mask[None, None].expand(len(ids), 1, -1, -1),
            "position_ids": torch.cat([torch.arange(n) for n in sizes]).expand(len(ids), -1)}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("sizes", [(3, 5, 1, 7), (16,)])
def test_packed_rows_answer_as_sdpa_and_as_each_text_alone(
    kind: str, sizes: tuple[int, ...], folders: Callable[[str], Path]
) -> None:
    ours = load(folders(kind)).model
    sdpa = AutoModelForCausalLM.from_pretrained(folders(kind), attn_implementation="sdpa").eval()
    ids = torch.randint(4, len(WORDS), (2, sum(sizes)), generator=torch.Generator().manual_seed(1))
    inputs = packed(ids, sizes)
    found, theirs = ours(**inputs).logits, sdpa(**inputs).logits
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-4)
    alone = torch.cat([ours(part).logits for part in ids.split(sizes, dim=1)], dim=1)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


def test_packed_rows_longer_than_the_flash_limit_and_their_gradients_are_right(folders: Callable[[str], Path]) -> None:
    ours = load(folders("llama")).model
    sdpa = AutoModelForCausalLM.from_pretrained(folders("llama"), attn_implementation="sdpa").eval()
    for sizes in ((100, 170, 30), (20, 10)):
        ids = torch.randint(4, len(WORDS), (2, sum(sizes)), generator=torch.Generator().manual_seed(1))
        grads = []
        for model in (ours, sdpa):
            model.zero_grad()
            model(**packed(ids, sizes)).logits.square().mean().backward()
            grads.append({n: p.grad.clone() for n, p in model.named_parameters()})
        torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-3)


def test_a_gguf_file_is_found_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", kind="Q8_0")
    source = find_causal(str(path))
    assert source.name == str(path)
    assert source.sha256 == {"tiny.gguf": Path(source.path).name}
    assert source.licence == "apache-2.0"
    pretrained = load_causal(source)
    assert pretrained.processor.chat_template == TEMPLATE
    assert (pretrained.processor.eos_token, pretrained.processor.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert pretrained.anatomy.head == ()
    with pytest.raises(ModelError, match="Leave it out"):
        find_causal(str(path), "main")
    with pytest.raises(ModelError, match=r"Name one of them: .*/tiny.gguf"):
        find_causal(str(tmp_path))


def test_the_end_token_is_not_padding_and_its_embedding_learns(tmp_path: Path) -> None:
    write(tmp_path, "llama", pad_token_id=2)
    tokenizer(pad_token="</s>").save_pretrained(tmp_path)
    pretrained = load(tmp_path)
    model: Any = pretrained.model
    assert pretrained.processor.pad_token == "<pad>"
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 0
    assert pretrained.processor.padding_side == "right"
    model(torch.tensor([[5, 2, 6]])).logits.square().sum().backward()
    assert model.model.embed_tokens.weight.grad[2].abs().sum() > 0


def test_a_tokenizer_with_nothing_else_pads_with_its_end(tmp_path: Path) -> None:
    write(tmp_path, "llama")
    bare = tokenizer(pad_token=None, unk_token=None, bos_token=None)
    words = json.loads(bare.backend_tokenizer.to_str().replace('"<pad>":0,', "").replace('"<unk>":3,', ""))
    (tmp_path / "tokenizer.json").write_text(json.dumps({**words, "added_tokens": words["added_tokens"][-1:]}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    assert load(tmp_path).processor.pad_token == "</s>"


@pytest.mark.parametrize(
    ("kind", "auto", "words"),
    [
        ("bert", AutoModelForMaskedLM, "is an encoder"),
        ("bert", AutoModelForSequenceClassification, "is an encoder"),
        ("bart", AutoModelForSeq2SeqLM, "encoder with a decoder"),
        ("vit", None, "cannot use for causal lm"),
    ],
)
def test_models_that_cannot_write_are_refused(tmp_path: Path, kind: str, auto: Any, words: str) -> None:
    if auto is None:
        (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    else:
        more = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4} | {
            "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32
        }  # fmt: skip
        write(tmp_path, kind, auto, **(more if kind == "bart" else {}))
    with pytest.raises(ModelError, match=words):
        load(tmp_path)


def test_a_classifier_has_no_output_layer_to_write_with(tmp_path: Path) -> None:
    write(tmp_path, "llama", AutoModelForSequenceClassification, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"lm_head\.weight.*score\.weight.*classifier"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 1}, r"hold tensors of layers.*layers\.1"),
        ({"num_hidden_layers": 3}, r"would be random.*layers\.2"),
        ({"intermediate_size": 64}, "other shapes"),
        ({"vocab_size": 200}, "other shapes"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised .gptq"),
        ({"auto_map": {"AutoModelForCausalLM": "x.Y"}, "model_type": "own"}, "does not run code"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = json.loads((write(tmp_path, "llama") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words):
        load(tmp_path)


def test_a_bias_that_the_config_does_not_know_is_not_lost_without_a_word(tmp_path: Path) -> None:
    config = json.loads((write(tmp_path, "llama", attention_bias=True) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "attention_bias": False}))
    with pytest.raises(ModelError, match=r"hold tensors of layers.*bias"):
        load(tmp_path)


def test_a_second_head_in_the_files_does_no_harm(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write(tmp_path, "llama")
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "v_head.summary.weight": torch.ones(1, 32)}, file, {"format": "pt"})
    assert load(tmp_path).anatomy.head == ()


def test_a_tokenizer_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "llama", vocab_size=100)
    with pytest.raises(ModelError, match="beyond the 100 rows"):
        load(tmp_path)


def test_the_named_template_is_put_on(folders: Callable[[str], Path]) -> None:
    assert "<|im_start|>" in load(folders("llama")).processor.chat_template


def test_whole_models_and_adapters_are_read_back_through_plain_libraries(
    tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    from peft import LoraConfig, get_peft_model

    base = folders("llama")
    ids = torch.arange(4, 12)[None]
    whole, words = read_causal(base)
    assert not whole.training
    assert words.decode(words("hello world")["input_ids"]) == "hello world"
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    tuned: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    tuned.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    read, _ = read_causal(tmp_path)
    with torch.no_grad():
        assert torch.equal(read(ids).logits, tuned(ids).logits)
        assert not torch.equal(read(ids).logits, whole(ids).logits)
    assert not read.training
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**told, "base_model_name_or_path": "/gone/model"}))
    with pytest.raises(ModelError, match="which is gone"):
        read_causal(tmp_path)


def test_a_gguf_base_and_its_adapter_load_in_plain_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    pretrained = load_causal(find_causal(str(write_gguf(tmp_path / "tiny.gguf", tiny_llama()))))
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    tuned: Any = get_peft_model(pretrained.model, config)
    tuned.peft_config["default"].base_model_name_or_path = pretrained.source.path
    tuned.save_pretrained(tmp_path / "adapter")
    plain = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, tuned(ids).logits, atol=1e-5, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(pretrained.source.path).eos_token == "<|im_end|>"
