"""Parts of picture models by type, shape and role, without a list of architectures."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.vision_anatomy import find_vision_anatomy
from tunesmith.types import Anatomy, PictureForm

from ..pictures_models import TINY_VISION, tiny_vision


def of_timm(name: str, side: int = 64, **arguments: object) -> Anatomy:
    import timm

    return find_vision_anatomy(timm.create_model(name, num_classes=3, **arguments), library="timm",
                               form=PictureForm(side, side))  # fmt: skip


def roles(anatomy: Anatomy) -> Counter[str]:
    return Counter(layer.role for layer in anatomy.layers if layer.block >= 0 and layer.kind != "norm")


@pytest.mark.parametrize("kind", TINY_VISION)
def test_every_tiny_net_has_a_head_blocks_and_layers(kind: str) -> None:
    pretrained = tiny_vision(kind)
    anatomy, modules = pretrained.anatomy, dict(pretrained.model.named_modules())
    assert anatomy.head
    assert anatomy.blocks
    for name in (*anatomy.head, *anatomy.blocks, *(layer.name for layer in anatomy.layers)):
        assert name in modules
    head = [layer for layer in anatomy.layers if any(layer.name.startswith(h) for h in anatomy.head)]
    assert all(layer.block == -1 for layer in head)
    assert anatomy.hidden_size == head[0].inputs
    assert len(set(anatomy.blocks)) == len(anatomy.blocks)
    assert not any(a.startswith(b + ".") for a in anatomy.blocks for b in anatomy.blocks)


def test_a_resnets_blocks_are_its_residual_blocks() -> None:
    anatomy = tiny_vision("timm_resnet").anatomy
    assert anatomy.blocks == ("layer1.0", "layer2.0", "layer3.0", "layer3.1", "layer4.0")
    assert roles(anatomy) == {"spatial": 10, "pointwise": 4}
    assert [x.name for x in anatomy.layers if x.role == "stem"] == ["conv1"]
    assert anatomy.attention == ()


def test_an_efficientnets_last_convolution_is_one_more_block() -> None:
    anatomy = tiny_vision("timm_efficientnet").anatomy
    assert anatomy.blocks[0] == "blocks.0.0"
    assert anatomy.blocks[-1] == "conv_head"
    assert set(roles(anatomy)) == {"spatial", "pointwise", "depthwise"}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("timm_vit", {"query_key_value", "attention_output", "up", "down"}),
        ("hf_vit", {"query", "key", "value", "attention_output", "up", "down"}),
        ("hf_dinov2", {"query", "key", "value", "attention_output", "up", "down"}),
        ("hf_swin", {"query", "key", "value", "attention_output", "up", "down", "other"}),
    ],
)
def test_attention_and_feed_forward_parts_are_told_apart(kind: str, wanted: set[str]) -> None:
    anatomy = tiny_vision(kind).anatomy
    assert set(roles(anatomy)) == wanted
    assert anatomy.attention
    assert anatomy.heads in (2, 4)


def test_a_container_at_the_top_is_the_head() -> None:
    assert tiny_vision("torchvision_mobilenet").anatomy.head == ("classifier",)
    assert tiny_vision("hf_resnet").anatomy.head == ("classifier",)


def test_stages_that_hold_one_block_or_name_their_blocks_are_taken_apart() -> None:
    anatomy = of_timm("regnety_002")
    assert anatomy.blocks[-1] == "s4.b7"
    assert len(anatomy.blocks) == 13


def test_a_mixers_two_parts_are_one_block() -> None:
    anatomy = of_timm("mixer_s32_224", 224)
    assert anatomy.blocks == tuple(f"blocks.{i}" for i in range(8))


def test_a_net_that_is_one_row_of_layers_has_a_block_a_convolution() -> None:
    import torchvision

    model = torchvision.models.vgg11(num_classes=3)
    anatomy = find_vision_anatomy(model, library="torchvision")
    assert anatomy.blocks[0] == "features.3"
    assert len(anatomy.blocks) == 7


def test_a_layer_that_is_never_called_is_no_layer_to_stand_beside() -> None:
    import torchvision

    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    model = torchvision.models.VisionTransformer(**sizes, num_classes=3)
    anatomy = find_vision_anatomy(model, library="torchvision", form=PictureForm(32, 32))
    assert roles(anatomy) == {"up": 2, "down": 2}  # its attention hands weights to a function
    assert len(anatomy.attention) == 2


def test_standardised_and_self_padding_convolutions_are_left_alone() -> None:
    from timm.layers import Conv2dSame, ScaledStdConv2d

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.layers = nn.ModuleList([Block(Conv2dSame), Block(ScaledStdConv2d), Block(nn.Conv2d)])
            self.fc = nn.Linear(8, 3)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            values = self.stem(pixels)
            for layer in self.layers:
                values = layer(values)
            found: torch.Tensor = self.fc(values.mean((2, 3)))
            return found

    class Block(nn.Module):
        def __init__(self, conv: type[nn.Conv2d]) -> None:
            super().__init__()
            self.one = conv(8, 8, 3, stride=2)
            self.two = nn.Conv2d(8, 8, 1)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.two(self.one(values))
            return found

    anatomy = find_vision_anatomy(Net(), library="torchvision", form=PictureForm(64, 64))
    told = {layer.name: layer.role for layer in anatomy.layers if layer.name.endswith("one")}
    assert told == {"layers.0.one": "other", "layers.1.one": "other", "layers.2.one": "spatial"}


def test_reading_the_parts_changes_nothing() -> None:
    model = tiny_vision("timm_resnet").model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    find_vision_anatomy(model, library="timm", form=PictureForm(32, 32))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_without_a_classifier_is_refused() -> None:
    import timm

    with pytest.raises(ModelError, match="has no classifier"):
        find_vision_anatomy(timm.create_model("resnet18", num_classes=0), library="timm")
