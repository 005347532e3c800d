"""Keys and values before a vision transformer's own: what attention sees, and that nothing else changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.models import visual_prefixes
from tunesmith.models.vision_files import read_image_classifier

from ..pictures_models import SIDE, tiny_vision

TRANSFORMERS = ("timm_vit", "hf_vit", "hf_dinov2")


def prepared(kind: str, **options: Any) -> tuple[Any, nn.Module, Any]:
    pretrained, method = tiny_vision(kind), registry.make({"name": "prefix_tuning", "length": 3, **options})
    torch.manual_seed(4)
    return method, method.prepare(pretrained), pretrained


def pictures(count: int = 5) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def logits(model: nn.Module, given: Tensor) -> Tensor:
    found = model(given)
    answer: Tensor = getattr(found, "logits", found)
    return answer


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_attention_is_the_softmax_over_learned_and_own_keys(kind: str) -> None:
    _, model, pretrained = prepared(kind)
    name = pretrained.anatomy.attention[0]
    layer: Any = model.get_submodule(name)
    with torch.no_grad():
        layer.prefix.normal_()
    hidden = torch.randn(2, 6, 32)
    base = getattr(layer, "attention", layer)
    if kind == "timm_vit":
        query, key, value = base.qkv(hidden).reshape(2, 6, 3, 4, 8).permute(2, 0, 3, 1, 4)
        answer, outward = layer(hidden), base.proj
    else:
        query, key, value = (
            m(hidden).view(2, 6, 4, 8).transpose(1, 2) for m in (base.q_proj, base.k_proj, base.v_proj)
        )
        answer, outward = layer(hidden)[0], base.o_proj
    keys = torch.cat([layer.prefix[0].expand(2, -1, -1, -1), key], dim=2)
    values = torch.cat([layer.prefix[1].expand(2, -1, -1, -1), value], dim=2)
    weights = torch.softmax(query @ keys.transpose(2, 3) / 8**0.5, dim=-1)
    assert weights.shape == (2, 4, 6, 9)
    wanted = outward((weights @ values).transpose(1, 2).reshape(2, 6, 32))
    torch.testing.assert_close(answer, wanted, atol=1e-5, rtol=1e-5)  # float32, another order of sums


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_every_layer_has_its_own_and_only_they_and_the_head_learn(kind: str) -> None:
    method, model, pretrained = prepared(kind)
    learned = method.learned(model)
    own = [n for n in learned if n.endswith(".prefix")]
    assert own == [f"{name}.prefix" for name in pretrained.anatomy.attention]
    assert all(learned[name].shape == (2, 4, 3, 8) for name in own)
    assert all(any(n.startswith(h + ".") for h in pretrained.anatomy.head) for n in set(learned) - set(own))
    zero = registry.make({"name": "prefix_tuning", "initialisation": "zero"}).prepare(tiny_vision(kind))
    assert not any(bool(module.prefix.any()) for module in visual_prefixes.holders(zero))  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_batch_cut_into_pieces_gives_the_same_gradient(kind: str) -> None:
    method, model, _ = prepared(kind)
    method.training_mode(model)
    labels = torch.tensor([0, 2, 1, 1, 0])
    found = []
    for cuts in ([slice(0, 5)], [slice(0, 2), slice(2, 3), slice(3, 5)]):
        model.zero_grad(set_to_none=True)
        for cut in cuts:
            nn.functional.cross_entropy(logits(model, pictures()[cut]), labels[cut], reduction="sum").backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)  # float32 sums over other groups


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_switched_off_the_base_answers_bit_for_bit_and_its_config_is_plain(kind: str, tmp_path: Path) -> None:
    given = pictures()
    with torch.no_grad():
        untouched = logits(tiny_vision(kind).model, given)
        method, model, pretrained = prepared(kind)
        start = {n: t.detach().clone() for n, t in method.learned(model).items()}
        for parameter in method.learned(model).values():
            parameter.add_(0.3)
        with method.switched_off(model, start):
            assert torch.equal(logits(model, given), untouched)
        assert not torch.allclose(logits(model.eval(), given), untouched, atol=1e-2)
    method.save(model, tmp_path, pretrained)
    assert "tunesmith" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    told = json.loads((tmp_path / visual_prefixes.FILE).read_text(encoding="utf-8"))
    assert len(told["prefixes"]) == 2


@pytest.mark.parametrize("kind", ["timm_vit", "hf_dinov2"])
@pytest.mark.slow
def test_another_process_reads_what_was_saved_and_answers_bit_for_bit(kind: str, tmp_path: Path) -> None:
    method, model, pretrained = prepared(kind)
    with torch.no_grad():
        for parameter in method.learned(model).values():
            parameter.add_(0.1)
        expected = logits(model.eval(), pictures())
    method.save(model, tmp_path, pretrained)
    program = (
        "import sys, torch; from pathlib import Path\n"
        "from tunesmith.models.vision_files import read_image_classifier\n"
        "model, form = read_image_classifier(Path(sys.argv[1]))\n"
        "found = model(torch.load(sys.argv[2]))\n"
        "torch.save(getattr(found, 'logits', found).detach(), sys.argv[3])\n"
    )
    torch.save(pictures(), tmp_path / "given.pt")
    paths = [str(tmp_path), str(tmp_path / "given.pt"), str(tmp_path / "found.pt")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120)
    assert torch.equal(torch.load(tmp_path / "found.pt"), expected)
    with torch.no_grad():
        assert torch.equal(logits(read_image_classifier(tmp_path)[0], pictures()), expected)


@pytest.mark.parametrize(("option", "value"), [("projection", True), ("initialisation", "words")])
def test_what_is_for_texts_is_refused_on_pictures(option: str, value: Any) -> None:
    with pytest.raises(ModelError, match=rf"method\.{option}: .* is for texts"):
        prepared("hf_vit", **{option: value})


@pytest.mark.parametrize(
    ("library", "architecture", "fits"),
    [
        ("timm", "vit_tiny_patch16_224", True),
        ("timm", "deit_tiny_patch16_224", True),
        ("timm", "beit_base_patch16_224", False),
        ("torchvision", "vit_b_16", False),
    ],
)
def test_which_attention_of_other_libraries_takes_a_prefix(library: str, architecture: str, fits: bool) -> None:
    import timm
    import torchvision

    with torch.device("meta"):
        if library == "timm":
            model: Any = timm.create_model(architecture)
            attention = [f"blocks.{i}.attn" for i in range(len(model.blocks))]
        else:
            model = torchvision.models.get_model(architecture)
            attention = [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(12)]
    if fits:
        assert visual_prefixes.shape_of(model, attention, library) == (3, 64)
        return
    with pytest.raises(ValueError, match="takes no learned keys and values"):
        visual_prefixes.shape_of(model, attention, library)
