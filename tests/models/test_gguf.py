"""A GGUF file becomes a plain transformers folder with the same answers; what is no good GGUF file is told in words."""

from __future__ import annotations

import contextlib
import errno
import json
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tiny_gguf import SPECIAL, TEMPLATE, TOKENS, tiny_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.errors import DiskError, ModelError
from tunesmith.models import cache as cached
from tunesmith.models import gguf, gguf_convert, gguf_rope
from tunesmith.models.gguf import dequantised
from tunesmith.models.gguf_header import read_gguf_header

IDS = torch.arange(5, 25)[None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_plain_transformers_loads_the_folder_with_the_same_answers(tmp_path: Path, tied: bool) -> None:
    original = tiny_llama(tie_word_embeddings=tied)
    folder = dequantised(write_gguf(tmp_path / "tiny.gguf", original))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert torch.equal(logits(model), logits(original))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16"])
def test_quantised_weights_are_those_that_transformers_reads(tmp_path: Path, kind: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    ours = AutoModelForCausalLM.from_pretrained(dequantised(path))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    assert torch.equal(logits(ours), logits(theirs))
    assert not torch.equal(logits(ours), logits(tiny_llama()))  # what was rounded away stays lost


def test_the_tokenizer_stands_beside_it_with_template_and_special_tokens(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    tokenizer = AutoTokenizer.from_pretrained(dequantised(path))
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert [tokenizer(word, add_special_tokens=False)["input_ids"] for word in SPECIAL] == [[0], [1], [2]]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.model_max_length == 128
    for text in ("hello world", "  hell\n\nhe<|im_end|>", "Grüße, 世界 🙂", "", "x  y\tz 12"):
        assert tokenizer(text)["input_ids"] == theirs(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_cut_off_before_merging_where_the_vocabulary_was_learned_so(tmp_path: Path) -> None:
    split = AutoTokenizer.from_pretrained(dequantised(write_gguf(tmp_path / "a.gguf")))
    plain = write_gguf(tmp_path / "b.gguf", entries={"tokenizer.ggml.pre": "gpt-2"})
    assert split.tokenize("he  5") == ["he", "ĠĠ", "5"]  # as SmolLM2's own tokenizer
    assert AutoTokenizer.from_pretrained(dequantised(plain)).tokenize("he  5") == ["he", "Ġ", "Ġ", "5"]


def test_the_folder_is_named_by_the_files_sha256_and_made_once(tmp_path: Path, cache: Path) -> None:
    import hashlib

    path = write_gguf(tmp_path / "tiny.gguf")
    folder = dequantised(path)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    path.rename(tmp_path / "renamed.gguf")
    assert dequantised(tmp_path / "renamed.gguf") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert folder == cache / hashlib.sha256((tmp_path / "renamed.gguf").read_bytes()).hexdigest()
    assert [each.name for each in cache.iterdir()] == [folder.name]


@pytest.mark.parametrize("harm", ["cut", "form", "gone"])
def test_a_cached_folder_that_is_not_whole_is_made_anew(tmp_path: Path, harm: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    folder = dequantised(path)
    weights = (folder / "model.safetensors").read_bytes()
    if harm == "cut":
        (folder / "model.safetensors").write_bytes(weights[:-1])
    elif harm == "form":
        (folder / gguf.NOTE).write_text('{"form": 0}')
    else:
        (folder / "config.json").unlink()
    assert dequantised(path) == folder
    assert (folder / "model.safetensors").read_bytes() == weights
    assert len(list(folder.parent.iterdir())) == 1


def test_of_two_processes_at_once_one_folder_stays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    plain = gguf_convert.convert

    def beaten(*given: Any) -> None:
        plain(*given)
        monkeypatch.setattr(gguf_convert, "convert", plain)
        dequantised(path)  # the other process is done first

    monkeypatch.setattr(gguf_convert, "convert", beaten)
    folder = dequantised(path)
    assert [each.name for each in cache.iterdir()] == [folder.name]
    AutoModelForCausalLM.from_pretrained(folder)


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path, cache: Path) -> None:
    import os

    for name, age in ((".making-old", 100_000), (".making-new", 10)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    dequantised(write_gguf(tmp_path / "tiny.gguf"))
    assert sorted(each.name for each in cache.iterdir() if each.name.startswith(".")) == [".making-new"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(cached.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DiskError, match="TUNESMITH_CACHE"):
        dequantised(path)
    monkeypatch.undo()
    monkeypatch.setenv("TUNESMITH_CACHE", str(cache.parent))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(DiskError, match="No space left"):
        dequantised(path)
    assert not list(cache.iterdir())


def test_licence_and_origin_are_written_beside(tmp_path: Path) -> None:
    from tunesmith.models.source import licence_of

    folder = dequantised(write_gguf(tmp_path / "tiny.gguf"))
    assert licence_of(folder) == "apache-2.0"
    assert json.loads((folder / gguf.NOTE).read_text())["file"] == "tiny.gguf"


def test_without_the_package_gguf_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    with pytest.raises(ModelError, match=r"pip install 'tunesmith\[language\]'"):
        dequantised(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + b"x" * 100, "pickle of PyTorch under a GGUF name"),
        (pickle.dumps({"weights": [1]}), "pickle"),
        (b"<!doctype html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (struct.pack("<Q", 40) + b'{"a":{}}' + b" " * 40, "safetensors file under a GGUF name"),
        (b"ggjt\x03\x00\x00\x00", "old ggml file"),
        (b"something else entirely", "four letters GGUF"),
        (b"GGUF", "middle of its head"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "other byte order"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62), "metadata entries"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63) + b"x" * 50, "text of"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 8, 2**61), "entries of an array"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 9, 1) + b"x" * 40,
            "unknown type 9",
        ),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 77) + b"x" * 40, "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2) + b"\xff\xfe" + struct.pack("<II", 4, 0) + b"x" * 40, "UTF-8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not say what network"),
    ],
)
def test_what_is_no_whole_gguf_file_is_refused_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        dequantised(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "tiny.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for share in (0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.9999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError, match="damaged or not whole"):
            dequantised(path)


def test_a_tensor_that_claims_to_be_huge_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    body = struct.pack("<Q", 1) + b"w" + struct.pack("<IQQIQ", 2, 2**40, 2**20, 0, 0)
    path = tmp_path / "huge.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + body + b"\0" * 64)
    with pytest.raises(ModelError, match="beyond its end"):
        dequantised(path)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"general.architecture": "martian", "martian.block_count": 2}, 'architecture "martian"'),
        ({"llama.block_count": 2**31}, "blocks"),
        ({"llama.embedding_length": 2**30}, "some would be random"),
        ({"llama.vocab_size": 2**31}, "some would be random"),
        ({"llama.feed_forward_length": 32}, "some would be lost"),
        ({"tokenizer.ggml.tokens": None}, "no vocabulary"),
        ({"tokenizer.ggml.model": "unheard-of"}, "unheard-of"),
        ({"llama.attention.head_count": 3}, "tiny.gguf"),
        ({"split.count": 3}, "one of several parts"),
        ({"llama.rope.scaling.type": "odd", "llama.rope.scaling.factor": 2.0}, 'rule "odd"'),
    ],
)
def test_a_head_that_does_not_fit_its_tensors_is_refused(tmp_path: Path, entries: dict[str, Any], words: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", entries=entries)
    with pytest.raises(ModelError, match=words):
        dequantised(path)


def test_tensors_that_are_missing_or_have_no_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="some would be random"):
        dequantised(write_gguf(tmp_path / "a.gguf", leave=("blk.1.ffn_up.weight",)))
    more = {"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)}
    with pytest.raises(ModelError, match="some would be lost"):
        dequantised(write_gguf(tmp_path / "b.gguf", tensors=more))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    model = tiny_llama()
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        dequantised(write_gguf(tmp_path / "tiny.gguf", model))


def test_positions_stretched_as_in_llama_3_1_stay_so(tmp_path: Path) -> None:
    stretched = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                 "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    model = tiny_llama(rope_parameters=stretched)
    plain = tiny_llama(rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    factors = (plain.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq).numpy()
    np.testing.assert_allclose(gguf_rope.llama3_factors(4, 500000.0, 8.0), factors, rtol=1e-5)
    entries = {"llama.rope.freq_base": 500000.0}
    path = write_gguf(tmp_path / "tiny.gguf", model, tensors={"rope_freqs.weight": factors}, entries=entries)
    folder = dequantised(path)
    told = json.loads((folder / "config.json").read_text())["rope_parameters"]
    assert told == stretched
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))
    odd = {"rope_freqs.weight": np.array([1, 5, 2, 7], dtype=np.float32)}
    with pytest.raises(ModelError, match="follow no rule"):
        dequantised(write_gguf(tmp_path / "odd.gguf", tensors=odd))


def test_a_linear_stretch_is_kept(tmp_path: Path) -> None:
    entries = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    folder = dequantised(write_gguf(tmp_path / "tiny.gguf", entries=entries))
    model = tiny_llama(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("whole") / "tiny.gguf")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_head_is_read_or_refused_and_never_anything_else(whole: Path, data: st.DataObject) -> None:
    harmed = bytearray(whole.read_bytes())
    for place in data.draw(st.lists(st.integers(0, 12_000), min_size=1, max_size=4)):
        harmed[place] = data.draw(st.sampled_from([0, 1, 8, 9, 127, 128, 255]))
    path = whole.with_name("harmed.gguf")
    path.write_bytes(harmed)
    with contextlib.suppress(ModelError):
        gguf.read_header(path)


def test_the_head_is_read_without_loading_the_tensors(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "tiny.gguf"), {0: (1, 4)})
    assert header.architecture == "llama"
    assert header.size("block_count") == 2
    assert header.shapes["token_embd.weight"] == (len(TOKENS), 32)
    assert header.elements == sum(p.numel() for p in tiny_llama().parameters())


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    code = f"from pathlib import Path; from tunesmith.models.gguf import dequantised; dequantised(Path({str(path)!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
