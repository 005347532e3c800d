from __future__ import annotations

import json
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import peft  # noqa: F401  its import takes seconds: here, and not inside the first test that needs it
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from tests.tar_files import unpack
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.weights_file import read_header

CHECKPOINTS = Path(__file__).parents[2] / "../shared/data/broken/checkpoints"
needs_checkpoints = pytest.mark.skipif(
    not CHECKPOINTS.is_dir(), reason="the broken checkpoints are not beside the project"
)
BERT = json.dumps({"model_type": "bert"})


@pytest.fixture(autouse=True)
def _no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every test runs in its own folder, in which a payload that got to run would leave a marker file."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob("*MARKER*"))


def load(folder: Path):
    vet.vet_folder(folder)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True
    )
    vet.check_loaded(model, info, folder)
    vet.check_finite(model)
    vet.check_vocabulary(model, AutoTokenizer.from_pretrained(folder))
    return model


def message(folder: Path, check=vet.vet_folder) -> str:
    with pytest.raises(ModelError) as caught:
        check(folder)
    return str(caught.value)


def write(folder: Path, config: str = BERT, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


REFUSED_UNOPENED = {
    "pickle_bin": ["only as pickle", "pytorch_model.bin", "weights_only=True"],
    "truncated": ["cut off", "12,681 bytes", "21,136"],
    "lfs_pointer": ["Git LFS pointer", "git lfs pull"],
    "huge_header": ["not a safetensors file", "1,152,921,504,606,846,976"],
    "html_weights": ["web page"],
    "missing_shard": ["1 of the 2", "model-00002-of-00002.safetensors"],
    "index_traversal": ["../tiny_ok/model.safetensors", "Refused"],
    "bad_config": ["not JSON", "line 1"],
    "unknown_type": ['"notamodel"', "modernbert", "distilbert"],
    "no_weights": ["no weights", "vocab.txt"],
    "bad_adapter": ["adapter", "/nonexistent/base", "is not on this machine", "r=4", "rank 8"],
    "unknown_peft": ['no adapter type "MAGIC"', "LORA", "adapter_model.safetensors"],
}


@needs_checkpoints
@pytest.mark.parametrize("name", sorted(REFUSED_UNOPENED))
def test_a_broken_folder_is_refused_before_it_is_loaded(name: str):
    text = message(CHECKPOINTS / name)
    assert [part for part in REFUSED_UNOPENED[name] if part not in text] == []


@needs_checkpoints
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("shape_mismatch", ["23 tensors", "[64, 16] (expected [64, 24])"]),
        ("nan_weights", ["not finite in 1 tensors"]),
        ("vocab_too_big", ["beyond the 64 rows", "id 64"]),
    ],
)
def test_a_broken_model_is_refused_once_it_is_loaded(name: str, parts: list[str]):
    text = message(CHECKPOINTS / name, load)
    assert [part for part in parts if part not in text] == []


@needs_checkpoints
@pytest.mark.parametrize("name", ["tiny_ok", "resume_payload"])
def test_a_good_folder_loads_and_its_pickles_stay_unopened(name: str):
    assert load(CHECKPOINTS / name).config.hidden_size == 16


@needs_checkpoints
def test_every_broken_checkpoint_has_a_test():
    tested = {*REFUSED_UNOPENED, "shape_mismatch", "nan_weights", "vocab_too_big", "tiny_ok", "resume_payload"}
    assert {p.name for p in CHECKPOINTS.iterdir() if p.is_dir()} == tested


@needs_checkpoints
@pytest.mark.parametrize("length", [0x80, 0x3C20])  # as bytes these begin like a pickle and like a page
def test_a_header_whose_length_looks_like_another_format_is_read(length: int, tmp_path: Path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(length).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + header + b"\0\0\0\0")
    assert read_header(file)["w"].shape == (1,)


def test_a_model_with_its_own_code_is_refused(tmp_path: Path):
    unpack(CHECKPOINTS / "remote_code.tar", tmp_path / "unpacked")
    assert "does not run code that comes with a model" in message(tmp_path / "unpacked/remote_code")


@needs_checkpoints
def test_code_beside_a_known_architecture_is_never_run(tmp_path: Path):
    unpack(CHECKPOINTS / "remote_code.tar", tmp_path / "unpacked")
    folder = tmp_path / "unpacked/remote_code"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    (folder / "vocab.txt").write_bytes((CHECKPOINTS / "tiny_ok/vocab.txt").read_bytes())
    assert type(load(folder)).__module__.startswith("transformers.models.bert")


def test_a_misspelt_model_type_gets_a_suggestion(tmp_path: Path):
    assert 'Did you mean "distilbert"?' in message(write(tmp_path / "m", json.dumps({"model_type": "distillbert"})))


def test_the_folder_inside_is_suggested_where_the_model_lies_one_level_deeper(tmp_path: Path):
    write(tmp_path / "m/0_Transformer")
    assert '"0_Transformer"' in message(tmp_path / "m")


@pytest.mark.parametrize(
    "shard", ["/etc/x.safetensors", "a/b.safetensors", "..\\x.safetensors", "C:\\x.safetensors", ".."]
)
def test_an_index_never_leads_out_of_the_folder(tmp_path: Path, shard: str):
    index = json.dumps({"weight_map": {"w": shard}}).encode()
    folder = write(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_bytes(index)
    assert "Refused" in message(folder)


def test_weights_under_another_name_are_named(tmp_path: Path):
    assert "rename it to model.safetensors" in message(write(tmp_path / "m", model_fp16__safetensors=b""))


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path: Path):
    assert "is a pickle" in message(write(tmp_path / "m", model__safetensors=b"PK\x03\x04" + b"\0" * 60))


@pytest.mark.parametrize(
    "header",
    [
        b"{not json",
        b"[]",
        b'{"w": 3}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b"[" * 5000,
    ],
)
def test_a_damaged_header_is_a_clear_error(tmp_path: Path, header: bytes):
    content = struct.pack("<Q", len(header)) + header + b"\0" * 4
    assert "etch it again" in message(write(tmp_path / "m", model__safetensors=content))


def test_shards_of_different_versions_are_found_out(tmp_path: Path):
    folder = write(tmp_path / "m")
    save_file({"a": np.zeros(2)}, folder / "s.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "s.safetensors", "b": "s.safetensors"}})
    )
    assert "lack 1 tensors" in message(folder)


def test_vetting_reads_headers_only(tmp_path: Path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**32], "data_offsets": [0, 2**34]}}).encode()
    folder = write(tmp_path / "m", model__safetensors=struct.pack("<Q", len(header)) + header)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(8 + len(header) + 2**34)  # 16 GiB of hole
    vet.vet_folder(folder)
    start = time.perf_counter()
    vet.vet_folder(folder)
    assert time.perf_counter() - start < 0.5


class Small(torch.nn.Module):
    base_model_prefix = "body"

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Embedding(4, 3)
        self.config = type("Config", (), {"num_labels": 5})()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.body


def test_a_new_number_of_classes_is_no_fault():
    vet.check_loaded(Small(), {"mismatched_keys": {("classifier.weight", (2, 3), (5, 3))}}, Path("m"))
    vet.check_loaded(Small(), {"missing_keys": {"classifier.weight", "body.pooler.weight"}}, Path("m"))


@pytest.mark.parametrize(
    "info",
    [
        {"mismatched_keys": {("classifier.weight", (5, 3), (5, 4))}},
        {"mismatched_keys": {("body.weight", (2, 3), (5, 3))}},
        {"missing_keys": {"body.layer.0.weight"}},
    ],
)
def test_a_backbone_that_did_not_arrive_is_a_fault(info: dict):
    with pytest.raises(ModelError):
        vet.check_loaded(Small(), info, Path("m"))


def test_large_but_finite_weights_pass_though_their_sum_overflows():
    model = Small()
    torch.nn.init.constant_(model.body.weight, 3e38)
    vet.check_finite(model)
    model.body.weight.data[1, 1] = float("inf")
    with pytest.raises(ModelError, match=r"body.weight \(1 of 12 values\)"):
        vet.check_finite(model)


def test_a_token_with_an_id_beyond_the_rows_is_found_though_the_count_fits():
    tokenizer = type("Tokenizer", (), {"get_vocab": lambda self: {"a": 0, "b": 9}})()
    with pytest.raises(ModelError, match=r'"b" \(id 9\)'):
        vet.check_vocabulary(Small(), tokenizer)


def test_a_failed_load_tells_what_to_do(tmp_path: Path):
    failure = ImportError("DebertaV2Converter requires the sentencepiece library")
    assert "pip install" in str(vet.explain_load_failure(failure, write(tmp_path / "m")))
    failure = ValueError("please pass `trust_remote_code=True`")
    assert "does not run" in str(vet.explain_load_failure(failure, tmp_path / "m"))


HEADERS: dict[str, object] = {
    "a hundred thousand dimensions": {"w": {"dtype": "F32", "shape": [7] * 300_000, "data_offsets": [0, 8]}},
    "an offset beyond all numbers": '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e400]}}',
    "an offset that is no whole number": {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8.0]}},
    "tensors that overlap": {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},
    "a gap before a tensor": {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    "a type that there is not": {"w": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}},
    "a dimension beyond all files": {"w": {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}},
    "notes that are no text": {
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "__metadata__": {"format": 1},
    },
    "notes that are no object": {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": [1]},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_a_short_fault_at_once(name: str, tmp_path: Path):
    told = HEADERS[name]
    header = (told if isinstance(told, str) else json.dumps(told)).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(8)
    start = time.perf_counter()
    text = message(write(tmp_path / "m", model__safetensors=content))
    assert time.perf_counter() - start < 2
    assert len(text) < 600


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]),
        st.fixed_dictionaries(
            {},
            optional={
                "dtype": st.sampled_from(["F32", "U8", "F4", "F33"]) | st.integers(0, 9),
                "shape": st.lists(st.integers(-1, 4) | st.booleans() | st.just(2**64), max_size=3)
                | st.text(max_size=2),
                "data_offsets": st.lists(st.integers(-1, 16) | st.floats(0, 9), min_size=1, max_size=3),
            },
        ),
        max_size=3,
    ),
    st.integers(0, 16),
)
def test_what_is_read_of_a_header_the_safetensors_library_reads_too(header: dict[str, object], size: int):
    raw = json.dumps(header).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        file.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(size))
        try:
            ours = set(read_header(file))
        except ModelError:
            return
        with safe_open(file, "np") as opened:
            assert set(opened.keys()) == ours
