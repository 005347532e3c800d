"""Reading back what a run delivered, as any plain transformers and peft program would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.models.quiet import quiet


def load_delivered(folder: Path) -> tuple[Any, Any]:
    """Model (float32, evaluation mode) and tokenizer of a `best/` folder, through transformers and peft alone."""
    with quiet():
        processor = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        common = {"config": config, "dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
        adapter = folder / "adapter_config.json"
        if not adapter.exists():
            return AutoModelForSequenceClassification.from_pretrained(folder, **common).eval(), processor
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        # The base's own head may have another size; the adapter brings the one that was learned.
        model = AutoModelForSequenceClassification.from_pretrained(base, **common, ignore_mismatched_sizes=True)
        return PeftModel.from_pretrained(model, folder).eval(), processor
