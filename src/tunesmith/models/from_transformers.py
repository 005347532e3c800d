"""A transformers sequence classifier with the person's labels: read, vetted, its parts named, fast attention on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models import vet
from tunesmith.models.anatomy import find_anatomy
from tunesmith.models.attention import use_attention
from tunesmith.models.pooling import card_pooling
from tunesmith.models.quiet import quiet
from tunesmith.types import ModelSource, Pretrained

Pooling = Literal["auto", "cls", "mean"]


def load_classifier(
    source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int, pooling: Pooling = "auto"
) -> Pretrained:
    """Any transformers model with a sequence-classification form, with one output a label.

    New weights (the classifier, whatever the files lack) are drawn from `seed`. A head whose labels are the same
    as the person's keeps its rows. Weights are float32. ModelError for files that are broken, unsafe or unsuitable.
    """
    folder = Path(source.path)
    if folder.is_dir():
        vet.vet_folder(folder)
    try:
        config = _config(source, labels, multi_label=multi_label, pooling=pooling)
        model, info = _read(source, config, seed)
        processor = AutoTokenizer.from_pretrained(source.path, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise vet.explain_load_failure(error, folder) from error
    vet.check_loaded(model, info, folder)
    vet.check_finite(model)
    vet.check_vocabulary(model, processor)
    _set_padding(model, processor)
    model.eval()
    use_attention(model)
    drawn = {str(name) for name in info["missing_keys"]} | {str(entry[0]) for entry in info["mismatched_keys"]}
    return Pretrained(model, processor, find_anatomy(model, drawn), source)


def _config(source: ModelSource, labels: Sequence[str], *, multi_label: bool, pooling: Pooling) -> Any:
    config = AutoConfig.from_pretrained(source.path, trust_remote_code=False)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
    if hasattr(config, "classifier_pooling"):
        chosen = (card_pooling(Path(source.path)) or config.classifier_pooling) if pooling == "auto" else pooling
        config.classifier_pooling = chosen
    elif pooling == "mean":
        raise ModelError(
            f"task.pooling: mean was asked for, but a plain {config.model_type} classifier reads its first token "
            "only; what tunesmith delivers must load in plain transformers. Use auto or cls."
        )
    return config


def _read(source: ModelSource, config: Any, seed: int) -> tuple[PreTrainedModel, dict[str, Any]]:
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return model, info


def _set_padding(model: PreTrainedModel, processor: Any) -> None:
    """Decoders find the last token by the padding id; a tokenizer without one pads with its end of text."""
    if processor.pad_token_id is None:
        processor.pad_token = processor.eos_token or processor.unk_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = processor.pad_token_id
    processor.padding_side = "right"
