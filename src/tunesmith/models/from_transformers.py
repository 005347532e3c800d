"""A transformers sequence classifier with the person's labels: read, vetted, its parts named, fast attention on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.adapter_files import ADAPTER, base_of_adapter
from tunesmith.models.anatomy import find_anatomy
from tunesmith.models.attention import use_attention
from tunesmith.models.claims import check_counts, check_size
from tunesmith.models.label_rows import exact_rows, tensors_of_file
from tunesmith.models.last_token import pads_safely
from tunesmith.models.pooling import card_pooling
from tunesmith.models.quiet import quiet
from tunesmith.models.tokenizer import read_tokenizer
from tunesmith.types import ModelSource, Pretrained

Pooling = Literal["auto", "cls", "mean", "fitted"]


def load_classifier(
    source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int, pooling: Pooling = "auto"
) -> Pretrained:
    """Any transformers model with a sequence-classification form, with one output a label.

    New weights (the classifier, whatever the files lack) are drawn from `seed`. A label that the files' head knows by
    the same name keeps its row. Weights are float32. ModelError for files that are broken, unsafe or unsuitable.
    """
    folder = Path(source.path)
    tensors = vet.vet_folder(folder)
    with vet.reading(folder):
        config, before = _config(source, labels, multi_label=multi_label, pooling=pooling)
        check_size(folder, AutoModelForSequenceClassification, config, tensors)
        model, info = _read(folder, config, seed)
    processor = read_tokenizer(folder, pairs=True)
    drawn = {str(name) for name in info["missing_keys"]} | {str(entry[0]) for entry in info["mismatched_keys"]}
    new_rows, known = _match_labels(model, before, labels, drawn, seed, folder)
    drawn |= new_rows
    vet.check_loaded(model, info, folder)
    vet.check_finite(model)
    vet.check_vocabulary(model, processor)
    _set_padding(model, processor)
    model.eval()
    use_attention(model)
    return Pretrained(model, processor, find_anatomy(model, drawn), source, known=known)


def read_classifier(folder: Path) -> tuple[Any, Any]:
    """Model (float32, evaluation mode) and tokenizer of a delivered folder, through transformers and peft alone.
    ModelError for files that are broken or unsafe, and where an adapter's base is gone."""
    adapted = (folder / ADAPTER).is_file()
    place = base_of_adapter(folder) if adapted else folder
    tensors = vet.vet_folder(place)
    check_counts(folder / "config.json", vet.read_config(folder), len(tensors))
    processor = read_tokenizer(folder, pairs=True)
    with vet.reading(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_size(folder, AutoModelForSequenceClassification, config, tensors)
        # The base's own head may have another size; the adapter brings the one that was learned.
        model, info = _read(place, config, 0)
        if not adapted:
            vet.check_filled(info, folder)
            return model.eval(), processor
        from peft import PeftModel

        found: Any = PeftModel.from_pretrained(model, folder).eval()
        if found.active_peft_config.is_prompt_learning and found.active_peft_config.peft_type != "PREFIX_TUNING":
            pads_safely(found, language=False)
        return found, processor


def _config(
    source: ModelSource, labels: Sequence[str], *, multi_label: bool, pooling: Pooling
) -> tuple[Any, Sequence[str]]:
    """The configuration with the person's labels, and the labels that the files bring, in their order."""
    config = AutoConfig.from_pretrained(source.path, trust_remote_code=False)
    before = [str(label) for _, label in sorted((config.id2label or {}).items())]
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
    if hasattr(config, "classifier_pooling"):
        said = pooling if pooling in ("cls", "mean") else card_pooling(Path(source.path))
        if said in ("cls", "mean"):
            config.classifier_pooling = said
    elif pooling == "mean":
        raise ModelError(
            f"task.pooling: mean was asked for, but a plain {config.model_type} classifier reads its first token "
            "only; what tunesmith delivers must load in plain transformers. Use auto or cls."
        )
    return config, before


def _read(folder: Path, config: Any, seed: int) -> tuple[PreTrainedModel, dict[str, Any]]:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return model, info


def _match_labels(
    model: PreTrainedModel, before: Sequence[str], labels: Sequence[str], drawn: set[str], seed: int, folder: Path
) -> tuple[set[str], tuple[str, ...]]:
    """Rows of the output layer go by label name: a label that the files' head knows keeps its row, whatever the order
    and number; the rows of others are drawn. Gives the names of parameters that hold rows drawn here, and the labels
    that are known."""
    name, layer = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    if layer.out_features != len(labels) or list(before) == list(labels):
        return set(), () if f"{name}.weight" in drawn else tuple(labels)
    parameters = {f"{name}.{own}": p for own, p in layer.named_parameters(recurse=False)}
    rows = exact_rows(before, labels)
    if f"{name}.weight" in drawn:  # no file brought it, or one of another size, and transformers has drawn it anew
        old = tensors_of_file(folder, list(parameters)) if rows else {}
        if any(key not in old or len(old[key]) != len(before) for key in parameters):
            return set(), ()
    else:
        old = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    with torch.no_grad():
        if f"{name}.weight" not in drawn and len(rows) < len(labels):
            spread = float(getattr(model.config, "initializer_range", 0.02))
            fresh = torch.Generator().manual_seed(seed)
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=fresh) * spread)
            if layer.bias is not None:
                layer.bias.zero_()
        for key, parameter in parameters.items():
            for place, row in rows.items():
                parameter[place] = old[key][row]
    return set() if len(rows) == len(labels) else set(parameters), tuple(labels[place] for place in sorted(rows))


def _set_padding(model: PreTrainedModel, processor: Any) -> None:
    """Decoders find the last token by the padding id; a tokenizer without one pads with its end of text."""
    if processor.pad_token_id is None:
        processor.pad_token = processor.eos_token or processor.unk_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = processor.pad_token_id
    processor.padding_side = "right"
