"""Reading back what a run delivered, as any plain transformers and peft program would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load_delivered(folder: Path) -> tuple[Any, Any]:
    """Model (float32, evaluation mode) and tokenizer of a `best/` folder, through transformers and peft alone."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    processor = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    common = {"config": config, "dtype": torch.float32, "trust_remote_code": False, "use_safetensors": True}
    if not (folder / "adapter_config.json").exists():
        return AutoModelForSequenceClassification.from_pretrained(folder, **common).eval(), processor
    from peft import PeftModel

    base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    model = AutoModelForSequenceClassification.from_pretrained(base, **common)
    return PeftModel.from_pretrained(model, folder).eval(), processor
