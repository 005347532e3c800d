"""Methods on conv nets and vision transformers: which layers they take, what they refuse and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.adapter import Adapter
from tunesmith.methods.base import registry
from tunesmith.methods.full import Full
from tunesmith.methods.linear_probe_then_full import LinearProbeThenFull
from tunesmith.methods.lora import LoRA
from tunesmith.methods.norm_tuning import NormTuning
from tunesmith.methods.visual_prompt import VisualPrompt
from tunesmith.run.fitting import fits, probe

from ..pictures_models import SIDE, tiny_vision


def wrapped(model: nn.Module) -> dict[str, nn.Module]:
    from peft.tuners.lora import LoraLayer

    named = model.named_modules()
    return {n.removeprefix("base_model.model."): m.get_base_layer() for n, m in named if isinstance(m, LoraLayer)}


def test_lora_leaves_depthwise_convolutions_and_the_stem_alone() -> None:
    model = LoRA(rank=2).prepare(tiny_vision("timm_efficientnet"))
    layers = wrapped(model)
    assert layers
    assert all(layer.groups == 1 for layer in layers.values())
    assert "conv_stem" not in layers


def test_a_convolutions_role_is_a_target() -> None:
    layers = wrapped(LoRA(rank=2, targets=["pointwise"]).prepare(tiny_vision("timm_resnet")))
    assert len(layers) == 4
    assert {layer.kernel_size for layer in layers.values()} == {(1, 1)}


def test_lora_says_that_it_cannot_change_depthwise_convolutions() -> None:
    with pytest.raises(ModelError, match="cannot change depthwise convolutions"):
        LoRA(targets=["depthwise"]).prepare(tiny_vision("timm_efficientnet"))


def test_pissa_takes_a_convolutions_largest_singular_parts() -> None:
    pretrained = tiny_vision("timm_resnet")
    kernel = pretrained.model.layer1[0].conv1.weight.detach().clone()
    model = LoRA(variant="pissa", rank=3, targets=["layer1.0.conv1"]).prepare(pretrained)
    layer = model.base_model.model.layer1[0].conv1
    rest = layer.get_base_layer().weight.flatten(1)
    values = torch.linalg.svdvals(kernel.flatten(1))
    torch.testing.assert_close(torch.linalg.svdvals(rest)[:5], values[3:8], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer.get_delta_weight("default") + rest.view_as(kernel), kernel, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["full", "norm_tuning", "bitfit", "last_blocks"])
def test_statistics_of_norms_that_learn_are_learned_with_them(name: str) -> None:
    model = (method := registry.make({"name": name, "statistics": "moving"})).prepare(tiny_vision("timm_resnet"))
    learned = method.learned(model)
    statistics = {n for n in learned if n.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    expected = 5 if name == "last_blocks" else 15  # the last two blocks' norms: two each, and one in the shortcut
    assert len(statistics) == 3 * expected
    assert "layer4.0.bn1.running_var" in statistics


def test_pretrained_norms_keep_their_statistics_and_drawn_ones_do_not() -> None:
    pretrained = tiny_vision("timm_resnet")
    assert not [n for n in Full().learned(Full().prepare(pretrained)) if "running" in n]
    Full().training_mode(pretrained.model)
    assert not pretrained.model.bn1.training
    drawn = replace(pretrained, source=replace(pretrained.source, weights="drawn"))
    assert [n for n in Full().learned(Full().prepare(drawn)) if "running" in n]
    Full().training_mode(pretrained.model)
    assert pretrained.model.bn1.training


def test_frozen_norms_with_an_activation_inside_stay_in_evaluation_mode() -> None:
    from timm.layers import BatchNormAct2d

    method = registry.make("head")
    model = method.prepare(tiny_vision("timm_efficientnet"))
    method.training_mode(model)
    norms = [module for module in model.modules() if isinstance(module, BatchNormAct2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert model.training


def test_a_token_for_masked_patches_that_no_answer_reads_stays() -> None:
    pretrained = tiny_vision("hf_dinov2")
    model = Full().prepare(pretrained)
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {"dinov2.embeddings.mask_token"}


def test_a_frozen_part_has_no_moments_until_it_learns() -> None:
    method = LinearProbeThenFull(probe=0.5, statistics="moving")
    model = method.prepare(tiny_vision("timm_resnet"))
    learned = method.learned(model)
    weights = {n: t for n, t in learned.items() if isinstance(t, nn.Parameter)}
    before = {n: t.detach().clone() for n, t in learned.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2, weight_decay=0.1)
    moved = []
    for step in range(1, 5):
        method.training_mode(model)
        model(torch.randn(4, 3, SIDE, SIDE)).sum().backward()
        for weight in weights.values():  # as the loop does for what got none
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        method.after_backward(model, step, 4)
        optimizer.step()
        method.after_step(model, step, 4)
        optimizer.zero_grad()
        moved.append({n for n, t in learned.items() if not torch.equal(t, before[n])})
        if step == 2:
            assert {n for n, t in weights.items() if t in optimizer.state} == {"fc.weight", "fc.bias"}
    assert moved[1] == {"fc.weight", "fc.bias"}
    assert moved[3] == set(learned)
    assert method.whole_from(4) == 3


def test_beside_a_convolution_the_adapter_is_its_kernels_middle() -> None:
    pretrained = tiny_vision("torchvision_mobilenet")
    method = Adapter(size=4, scale=2.0)
    model = method.prepare(pretrained)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(0, 0.1)
    plain = method.merge(model)
    pixels = torch.randn(2, 3, SIDE, SIDE)
    torch.testing.assert_close(plain(pixels), model(pixels), atol=1e-4, rtol=1e-4)
    depthwise = plain.features[1].block[0][0]
    change = depthwise.weight - pretrained.model.features[1].block[0][0].base.weight
    assert int((change != 0).sum()) == depthwise.out_channels  # one number a channel


def test_learned_tokens_change_every_block_and_are_gone_at_the_end() -> None:
    pretrained = tiny_vision("timm_vit")
    model = VisualPrompt(length=3).prepare(pretrained)
    seen = []
    model.blocks[1].register_forward_hook(lambda _module, given, output: seen.append((given[0].shape, output.shape)))
    model(torch.zeros(1, 3, SIDE, SIDE))
    assert seen == [((1, 17, 32), (1, 17, 32))]
    assert {n for n, p in model.named_parameters() if p.requires_grad and "prompt" in n} == {
        "blocks.0.prompt",
        "blocks.1.prompt",
    }


def test_norm_tuning_refuses_a_net_without_norms() -> None:
    pretrained = tiny_vision("timm_resnet")
    layers = tuple(layer for layer in pretrained.anatomy.layers if layer.kind != "norm")
    with pytest.raises(ModelError, match="no normalisation layer"):
        NormTuning().prepare(replace(pretrained, anatomy=replace(pretrained.anatomy, layers=layers)))


def test_a_probe_tells_what_fits_and_what_it_learns() -> None:
    found = dict(probe(lambda: tiny_vision("timm_resnet")))
    assert set(found) == set(registry.names())
    assert found["head"] == 32 * 3 + 3
    assert "reads pictures" in str(found["prompt_tuning"])
    assert "only convolutions" in str(found["vera"])
    assert isinstance(found["lora"], int)


def test_asking_whether_a_method_fits_leaves_the_model_alone() -> None:
    pretrained = tiny_vision("timm_resnet")
    names = [name for name, _ in pretrained.model.named_modules()]
    assert fits(LoRA(), pretrained) is None
    assert "only convolutions" in str(fits(registry.make("vera"), pretrained))
    assert [name for name, _ in pretrained.model.named_modules()] == names
