"""Language models in few bits: the copy that is kept, exact products, what is refused, and back to plain weights."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.test_causal import write
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.causal import find_causal, load_causal
from tunesmith.models.quantised import bits_of, dequantise, weight_of, weights_in
from tunesmith.models.quantised_copy import quantised

IDS = torch.tensor([[1, 40, 41, 42, 43, 44, 45, 46], [1, 50, 51, 52, 53, 54, 55, 56]])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loaded(folder: Path, bits: int, kind: str = "llama") -> Any:
    source = find_causal(str(folder if folder.exists() else write(folder, kind)))
    return load_causal(quantised(source, bits) if bits else source)


def layers(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if type(m).__name__ in ("Linear4bit", "Linear8bitLt")]


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "opt"])
@pytest.mark.parametrize(("bits", "apart"), [(4, 0.11), (8, 0.015)])
def test_its_weights_are_near_and_its_answers_follow_from_them(
    kind: str, bits: int, apart: float, tmp_path: Path
) -> None:
    whole, few = loaded(tmp_path / "m", 0, kind), loaded(tmp_path / "m", bits, kind)
    assert (bits_of(whole.model), bits_of(few.model)) == (0, bits)
    assert len(layers(few.model)) == sum(type(m) is nn.Linear for m in whole.model.modules()) - 1  # all but the output
    for name, layer in few.model.named_modules():
        if layer in layers(few.model):
            exact = whole.model.get_submodule(name).weight
            assert float((weight_of(layer, torch.float32) - exact).norm() / exact.norm()) < apart
            assert weights_in(layer.weight) == exact.numel()
    plain = copy.deepcopy(few.model)
    dequantise(plain)
    assert not layers(plain)
    with torch.no_grad():
        assert torch.equal(plain(IDS).logits, few.model(IDS).logits)
    assert few.anatomy.layers == whole.anatomy.layers


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_the_plain_layers_with_the_same_weights(
    bits: int, autocast: bool, tmp_path: Path
) -> None:
    few = loaded(tmp_path / "m", bits).model
    plain = copy.deepcopy(few)
    dequantise(plain)
    found = []
    for model in (few, plain):
        model.requires_grad_(False) if model is plain else None
        states = model.get_input_embeddings()(IDS).detach().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(inputs_embeds=states, labels=IDS).loss
        loss.backward()
        found.append((loss.detach(), states.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(
        found[0][1], found[1][1], rtol=0, atol=(2e-2 if autocast else 1e-5) * float(found[1][1].abs().max())
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_an_answer_does_not_depend_on_its_batch_nor_on_evaluation(bits: int, tmp_path: Path) -> None:
    """bitsandbytes' own products round with the batch, or repack weights where nothing learns."""
    model = loaded(tmp_path / "m", bits).model
    loud = copy.deepcopy(model)
    with torch.no_grad():
        loud.get_input_embeddings().weight[50:57] *= 50  # outliers in the other row
        alone, beside = model(IDS[:1]).logits, loud(IDS).logits[:1]
        assert torch.allclose(alone, beside, atol=1e-5)
        before = model.train()(IDS).logits
        assert torch.equal(before, model.eval()(IDS).logits)
        assert torch.equal(before, copy.deepcopy(model)(IDS).logits)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_copy_is_made_once_and_is_a_plain_folder(bits: int, tmp_path: Path, cache: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = find_causal(str(write(tmp_path / "m", "llama")))
    (tmp_path / "m" / "README.md").write_text("---\nlicense: mit\n---\n")
    found = quantised(source, bits)
    assert (found.name, found.sha256) == (source.name, source.sha256)
    assert Path(found.path).is_relative_to(cache)
    at = (Path(found.path) / "model.safetensors").stat().st_mtime_ns
    assert quantised(source, bits) == found
    assert (Path(found.path) / "model.safetensors").stat().st_mtime_ns == at
    (Path(found.path) / "model.safetensors").write_bytes(b"cut off")
    assert quantised(source, bits) == found
    ours = load_causal(found)
    assert bits_of(ours.model) == bits
    theirs = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32).eval()
    assert AutoTokenizer.from_pretrained(found.path).get_vocab() == ours.processor.get_vocab()
    ours_of, theirs_of = ours.model.state_dict(), theirs.state_dict()
    assert ours_of.keys() == theirs_of.keys()
    assert all(torch.equal(ours_of[n], theirs_of[n]) for n in ours_of if isinstance(ours_of[n], torch.Tensor))
    assert replace(source, sha256={"model.safetensors": "0" * 64}) != source
    assert quantised(replace(source, sha256={"model.safetensors": "0" * 64}), bits).path != found.path


@pytest.mark.parametrize("shape", [(32, 32), (40, 96), (3, 22), (5, 13), (64, 128), (50, 130)])
@pytest.mark.parametrize("nested", [False, True])
def test_rows_that_fill_no_whole_blocks_are_worked_out_rightly(shape: tuple[int, int], nested: bool) -> None:
    import bitsandbytes

    weights = 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layer: Any = bitsandbytes.nn.Linear4bit(
        shape[1], shape[0], bias=False, compress_statistics=nested, quant_type="nf4"
    )
    layer.weight = bitsandbytes.nn.Params4bit(
        weights, False, compress_statistics=nested, quant_type="nf4", module=layer
    )
    found = weight_of(layer.to("cpu"), torch.float32)
    assert found.shape == shape
    assert float((found - weights).norm() / weights.norm()) < 0.11


@pytest.mark.parametrize("bits", [4, 8])
def test_what_the_folder_brings_beside_its_weights_is_taken_over_as_it_is_now(bits: int, tmp_path: Path) -> None:
    source = find_causal(str(write(tmp_path / "m", "llama")))
    first = quantised(source, bits)
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    second = quantised(source, bits)
    assert second.path != first.path
    assert (Path(second.path) / "chat_template.jinja").read_text() == "{{ messages[0]['content'] }}"


def test_a_folder_that_others_have_quantised_is_taken(tmp_path: Path) -> None:
    """With bytes that go by another type, as sharding wants them."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    write(tmp_path / "m", "llama")
    stored = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_quant_storage=torch.bfloat16)
    AutoModelForCausalLM.from_pretrained(tmp_path / "m", quantization_config=stored).save_pretrained(tmp_path / "q")
    for file in (tmp_path / "m").glob("token*"):
        (tmp_path / "q" / file.name).write_bytes(file.read_bytes())
    found = load_causal(find_causal(str(tmp_path / "q")))
    assert bits_of(found.model) == 4
    whole = loaded(tmp_path / "m", 0)
    exact = whole.model.get_submodule("model.layers.0.mlp.up_proj").weight
    near = weight_of(found.model.get_submodule("model.layers.0.mlp.up_proj"), torch.float32)
    assert float((near - exact).norm() / exact.norm()) < 0.15
    assert found.anatomy.layers == whole.anatomy.layers


@pytest.mark.parametrize("kind", ["mixtral", "llama"])
def test_a_model_with_all_bits_is_left_alone_and_can_be_saved(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "m", kind, num_key_value_heads=2, num_local_experts=2)
    model = loaded(tmp_path / "m", 0).model
    ways = getattr(model, "_weight_conversions", None)
    dequantise(model)
    assert getattr(model, "_weight_conversions", None) is ways
    model.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_damaged_copy_of_someone_elses_is_told(bits: int, tmp_path: Path) -> None:
    few = Path(quantised(find_causal(str(write(tmp_path / "m", "llama"))), bits).path)
    config = (few / "config.json").read_text()
    tensors = load_file(few / "model.safetensors")
    scales = "model.layers.0.mlp.up_proj." + ("SCB" if bits == 8 else "weight.nested_absmax")
    save_file(tensors | {scales: tensors[scales].fill_(float("nan"))}, few / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"up_proj.*not finite"):
        load_causal(find_causal(str(few)))
    (tmp_path / "m" / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"quantised, and those of .* have no scales|could not load"):
        load_causal(find_causal(str(tmp_path / "m")))


@pytest.mark.parametrize("bits", [4, 8])
def test_broken_weights_are_told_before_anything_is_made_of_them(bits: int, tmp_path: Path, cache: Path) -> None:
    source = find_causal(str(write(tmp_path / "m", "llama")))
    file = tmp_path / "m" / "model.safetensors"
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b"nothing of the kind" * 50):
        file.write_bytes(broken)
        with pytest.raises(ModelError, match="safetensors"):
            quantised(source, bits)
    assert not list(cache.rglob("config.json"))


def test_what_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_causal(str(write(tmp_path / "m", "llama")))
    few = quantised(source, 4)
    with pytest.raises(ModelError, match="quantised already"):
        quantised(find_causal(few.path), 8)
    foreign = tmp_path / "foreign"
    write(foreign, "llama")
    config = json.loads((foreign / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (foreign / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"quantised \(gptq\)"):
        load_causal(find_causal(str(foreign)))
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite \(model\.layers\.0\.mlp\.up_proj"):
        quantised(find_causal(str(tmp_path / "m")), 4)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for asked in (lambda: quantised(source, 4), lambda: load_causal(find_causal(few.path))):
        with pytest.raises(ModelError, match=r"pip install 'tunesmith\[quantised\]'"):
            asked()
