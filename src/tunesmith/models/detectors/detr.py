"""transformers detectors (DETR and its kin) with the person's labels, and their picture form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection, PretrainedConfig
from transformers.models.auto import image_processing_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models import vet
from tunesmith.models.adapter_files import ADAPTER, about_adapter
from tunesmith.models.claims import NAMES_TIMM, are_usual, check_size
from tunesmith.models.quiet import quiet
from tunesmith.models.weights_file import TensorEntry
from tunesmith.types import ModelSource, PictureForm

KINDS = ("detr", "conditional_detr", "deformable_detr", "yolos", "rt_detr", "rt_detr_v2", "d_fine")
PROCESSOR_OF = {"rt_detr_v2": "rt_detr", "d_fine": "rt_detr"}
"""Model types whose checkpoints come with another type's image processor."""
READS_MASK = ("detr", "conditional_detr", "deformable_detr")
"""Model types that keep padding out of attention, so that their boxes are shares of the picture inside the padding."""
CLASS_ROWS = re.compile(
    r"(class_labels_classifier(\.layers\.2)?|class_embed\.\d+|enc_score_head|denoising_class_embed)\.(weight|bias)$"
)
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop",
            "hidden_dropout_prob", "attention_probs_dropout_prob")  # fmt: skip


def load_transformers(
    source: ModelSource, labels: Sequence[str], *, seed: int, size: int | None, pretrained: bool
) -> tuple[nn.Module, PictureForm, set[str]]:
    """The model in evaluation mode, how it wants its pictures, and the names of modules with newly drawn weights.

    Class rows go by name: known classes keep theirs, others are drawn from `seed`. Dropout is set to 0: torch draws it
    for a whole batch at once, so that cutting the batch would change it, and later detectors of this kind train
    without (Zhang et al. 2022, DINO, arXiv 2203.03605, appendix on hyper-parameters: dropout 0).
    """
    folder = Path(source.path)
    tensors = vet_detector(folder, pretrained=pretrained)
    with vet.reading(folder):
        old_config = _config(folder)
        if pretrained:
            check_size(folder, AutoModelForObjectDetection, old_config, tensors)
        new = _new(old_config, labels, seed)
        with quiet():
            form = picture_form(folder, old_config.model_type, size)
        if not pretrained:
            return new.eval(), form, {""}
        with quiet():
            old, info = AutoModelForObjectDetection.from_pretrained(
                source.path,
                config=old_config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    lost = sorted(str(k) for k in info["missing_keys"]) + sorted(str(k[0]) for k in info["mismatched_keys"])
    if lost:
        raise ModelError(
            f"The weights in {folder} lack or misfit {len(lost)} tensors of the {type(old).__name__} that its "
            f"config.json describes: {', '.join(lost[:5])}. Fetch config and weights from the same place."
        )
    with vet.reading(folder):
        before = [str(old_config.id2label[i]) for i in sorted(old_config.id2label)]
        drawn = _copy(new, old, before, labels)
    vet.check_finite(new)
    return new.eval(), form, drawn


def _config(folder: Path) -> Any:
    """The folder's configuration. What transformers 4 wrote beside the name of a timm backbone is left out: with it
    transformers 5 asks the hub for that name, and without it means the same."""
    told = vet.read_config(folder)
    if told["model_type"] in NAMES_TIMM and are_usual(told.get("backbone_kwargs")):
        told.pop("backbone_kwargs", None)
        return CONFIG_MAPPING[told["model_type"]].from_dict(told)
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def vet_detector(folder: Path, *, pretrained: bool) -> dict[str, TensorEntry]:
    """The tensors by name, none unless pretrained; ModelError for what is not a detector of these types in safetensors,
    an adapter among them (transformers would put adapter_model.bin, a pickle, onto the detector)."""
    if (folder / ADAPTER).is_file():
        raise ModelError(about_adapter(folder))
    config = vet.read_config(folder)
    kind = config.get("model_type")
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise ModelError(
            f'model_type in {folder / "config.json"} is "{kind}", which is not a detector that tunesmith trains.{hint} '
            f"It trains: {', '.join(KINDS)}; and torchvision's (torchvision/fasterrcnn_resnet50_fpn, ...)."
        )
    return vet.vet_weights(folder, config, weights=pretrained)


def _new(old: PretrainedConfig, labels: Sequence[str], seed: int) -> nn.Module:
    """A net of the same kind for `labels`, all weights drawn from `seed`."""
    told: dict[str, Any] = old.to_dict()
    told |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    told |= {name: 0.0 for name in DROPOUTS if name in told}
    if "use_pretrained_backbone" in told:
        told["use_pretrained_backbone"] = False
    config = type(old).from_dict(told)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = AutoModelForObjectDetection.from_config(config)
    return model.float()


def _copy(new: nn.Module, old: nn.Module, before: Sequence[str], labels: Sequence[str]) -> set[str]:
    """Copy `old` into `new`, class rows by name; a row after the classes means "no object" and goes along."""
    state, source = new.state_dict(), old.state_dict()
    rows = [(i, list(before).index(label)) for i, label in enumerate(labels) if label in before]
    for name, tensor in state.items():
        if not CLASS_ROWS.search(name):
            tensor.copy_(source[name])
            continue
        beyond = [(len(labels), len(before))] if tensor.shape[0] > len(labels) else []
        pairs = rows + beyond
        if pairs:
            to, origin = (torch.tensor(side) for side in zip(*pairs, strict=True))
            tensor[to] = source[name][origin]
    if len(rows) == len(labels):
        return set()
    return {name.rpartition(".")[0] for name in state if CLASS_ROWS.search(name)}


def image_processor(kind: str, folder: Path | None = None) -> Any:
    """The image processor of a model type: the folder's own where it has one."""
    if folder is not None and (folder / "preprocessor_config.json").is_file():
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    names: Any = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES[PROCESSOR_OF.get(kind, kind)]  # type: ignore[attr-defined]
    return getattr(transformers, names["torchvision"])()


def picture_form(folder: Path, kind: str, size: int | None) -> PictureForm:
    """How a model type wants its pictures, by the folder's own image processor where it has one."""
    processor = image_processor(kind, folder)
    told = dict(processor.size)
    squash = "height" in told and "width" in told
    side = size or int(told.get("longest_edge") or told.get("max_height") or told.get("height") or 800)
    if size is None and squash:
        height, width = int(told["height"]), int(told["width"])
    else:
        height = width = side
    plain = not getattr(processor, "do_normalize", True)
    mean = (0.0, 0.0, 0.0) if plain else tuple(float(v) for v in processor.image_mean)
    std = (1.0, 1.0, 1.0) if plain else tuple(float(v) for v in processor.image_std)
    return PictureForm(height, width, 1.0, "bilinear", mean, std, squash)  # type: ignore[arg-type]


def save_processor(model: nn.Module, form: PictureForm, folder: Path, source: ModelSource | None) -> None:
    """Write preprocessor_config.json such that a plain program resizes to `form`."""
    kind = model.config.model_type  # type: ignore[union-attr]
    processor = image_processor(str(kind), Path(source.path) if source else None)
    if form.squash:
        processor.size = {"height": form.height, "width": form.width}
    else:
        processor.size = {"shortest_edge": form.height, "longest_edge": form.height}
    processor.save_pretrained(folder)


def true_sizes(model: Any, pixels: Tensor, sizes: Tensor) -> Tensor:
    """Height and width [n, 2] that a model's boxes are shares of: the picture's, or the padded canvas where the model
    does not see the padding."""
    if model.config.model_type in READS_MASK:
        return sizes
    return torch.tensor(pixels.shape[-2:], device=sizes.device).expand_as(sizes)
