"""A tuned detector on disk, and back, by the libraries' own means.

transformers: `save_pretrained` of model and image processor; `AutoModelForObjectDetection.from_pretrained` reads it.

torchvision by name: model.safetensors and config.json, which this plain program reads (`c["categories"]` names the
class numbers of its answers):

    import json, torch, torchvision
    from safetensors.torch import load_file
    c = json.load(open("config.json"))
    sizes = {} if c["builder"].startswith("ssd") else {"min_size": c["size"], "max_size": c["size"]}
    builder = getattr(torchvision.models.detection, c["builder"])
    model = builder(weights=None, weights_backbone=None, num_classes=len(c["categories"]), **sizes, **c["arguments"])
    model.load_state_dict(load_file("model.safetensors"))
    found = model.eval()([picture])  # [3, height, width], values 0 to 1

Over a timm network, `plain_program` says the longer program of the same kind for the detector at hand; it is written
beside the weights as load.py.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForObjectDetection

from tunesmith.models.claims import check_size
from tunesmith.models.detectors.detect import is_transformers
from tunesmith.models.detectors.detr import picture_form, save_processor, vet_detector
from tunesmith.models.detectors.detr_loss import plain_module
from tunesmith.models.detectors.from_torchvision import CONFIG, WEIGHTS, read_folder
from tunesmith.models.detectors.load import form_of
from tunesmith.models.detectors.spec import OVER_BACKBONE, Spec, to_config
from tunesmith.models.quiet import quiet
from tunesmith.models.vet import check_filled, read_config, reading
from tunesmith.types import PictureForm, Pretrained

PROGRAM = "load.py"


def write_detector(model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
    """Write the whole detector, adapters merged or never there, as a plain program of its library reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    inner = plain_module(model)
    if is_transformers(inner):
        with quiet():
            inner.save_pretrained(folder)  # type: ignore[operator]
            save_processor(inner, pretrained.processor, folder, pretrained.source)
        return
    spec: Spec = inner.spec  # type: ignore[assignment]
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in inner.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    told = {"library": "torchvision", **to_config(spec), "licence": pretrained.source.licence}
    told |= {"versions": {name: version(name) for name in ("torch", "torchvision", "timm")}}
    (folder / CONFIG).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PROGRAM).write_text(plain_program(spec), encoding="utf-8")


def read_detector(folder: Path) -> tuple[nn.Module, PictureForm, tuple[str, ...]]:
    """What `write_detector` wrote: the model in evaluation mode, its picture form and its labels. ModelError for files
    that are broken or unsafe."""
    if read_config(folder).get("library") == "torchvision":
        model, spec = read_folder(folder)
        return model, form_of(spec), spec.labels
    tensors = vet_detector(folder, pretrained=True)
    with reading(folder), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_size(folder, AutoModelForObjectDetection, config, tensors)
        loaded: Any = AutoModelForObjectDetection.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        form = picture_form(folder, config.model_type, None)
        labels = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    found, info = loaded
    check_filled(info, folder)
    return found.eval(), form, labels


_START = '''"""Loads this detector with plain torchvision: python -i load.py"""
import json
from pathlib import Path
import torch, torchvision
from safetensors.torch import load_file
from torchvision.models import detection
here = Path(__file__).parent
c = json.loads((here / "config.json").read_text())
'''
_NAMED = """sizes = {} if c["builder"].startswith("ssd") else {"min_size": c["size"], "max_size": c["size"]}
builder = getattr(detection, c["builder"])
model = builder(weights=None, weights_backbone=None, num_classes=len(c["categories"]), **sizes, **c["arguments"])
"""
_PYRAMID = """import timm
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7
class Pyramid(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = timm.create_model(c["backbone"], features_only=True, out_indices=c["levels"])
        two_stage, self.out_channels = c["builder"] == "faster_rcnn", c["pyramid"]
        more = LastLevelMaxPool() if two_stage else LastLevelP6P7(c["pyramid"], c["pyramid"])
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), c["pyramid"], more)
    def forward(self, pixels):
        maps = [m.permute(0, 3, 1, 2) if c["nhwc"] else m for m in self.body(pixels)]
        return self.fpn({str(i): m for i, m in enumerate(maps)})
told, classes, levels = dict(c["arguments"]), len(c["categories"]), len(c["levels"])
told |= {"min_size": c["size"], "max_size": c["size"], "image_mean": c["mean"], "image_std": c["std"]}
anchors = detection.anchor_utils.AnchorGenerator
"""
_FASTER_RCNN = """first, width = told.pop("smallest_anchor"), told.pop("representation")
sizes = tuple((first * 2**i,) for i in range(levels + 1))
pool = torchvision.ops.MultiScaleRoIAlign([str(i) for i in range(levels)], output_size=7, sampling_ratio=2)
told["rpn_anchor_generator"], told["box_roi_pool"] = anchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes)), pool
told["box_head"] = detection.faster_rcnn.TwoMLPHead(c["pyramid"] * 49, width)
told["box_predictor"] = detection.faster_rcnn.FastRCNNPredictor(width, classes)
model = detection.FasterRCNN(Pyramid(), **told)
"""
_RETINANET = """first = told.pop("smallest_anchor")
sizes = tuple(tuple(int(first * 2 ** (i + third / 3)) for third in range(3)) for i in range(levels + 2))
told["anchor_generator"] = anchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
norm = lambda channels: torch.nn.GroupNorm(32, channels)
told["head"] = detection.retinanet.RetinaNetHead(c["pyramid"], 9, classes, norm_layer=norm)
model = detection.RetinaNet(Pyramid(), classes, **told)
"""
_FCOS = """sizes = tuple((8 * 2**i,) for i in range(levels + 2))
told["anchor_generator"] = anchors(sizes, ((1.0,),) * len(sizes))
model = detection.FCOS(Pyramid(), classes, **told)
"""
_END = """model.load_state_dict(load_file(here / "model.safetensors"))
model.eval()  # model([picture]), picture [3, height, width] with values 0 to 1; c["categories"] names its labels
"""


def plain_program(spec: Spec) -> str:
    """The program, without tunesmith, that loads the delivered detector."""
    if spec.builder not in OVER_BACKBONE:
        return _START + _NAMED + _END
    kind = {"faster_rcnn": _FASTER_RCNN, "retinanet": _RETINANET, "fcos": _FCOS}[spec.builder]
    return _START + _PYRAMID + kind + _END
