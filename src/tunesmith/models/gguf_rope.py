"""How a GGUF file stretches its rotary positions, which transformers' reader passes over without a word.

Llama 3.1 and its like carry the factor of each frequency as a tensor (`rope_freqs.weight`), worked out from four
numbers (llama.cpp, convert_hf_to_gguf.py; transformers, `rope_type` llama3):

    wavelength = 2 pi base^(2i / size);   factor 1 below context / high, `factor` above context / low, between them
    1 / ((1 - s) / factor + s) with s = (context / wavelength - low) / (high - low)

Others name a rule (`rope.scaling.type`: linear, yarn) with its factor.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import ModelError
from tunesmith.models.gguf_header import GgufHeader

FREQUENCIES = "rope_freqs.weight"
_CONTEXT, _LOW, _HIGH = 8192, 1.0, 4.0
"""Of every model known with such factors."""


def settle_rope(config: Any, path: Path, header: GgufHeader) -> None:
    """Put the file's stretching into a configuration that says nothing of it. ModelError where that cannot be told."""
    told = getattr(config, "rope_parameters", None) or {}
    settings = told.get("full_attention", told) if isinstance(told, dict) else {}
    found = _from_tensor(path, header) if FREQUENCIES in header.shapes else _from_rule(path, header)
    if found and settings.get("rope_type", "default") == "default":
        if not settings:
            raise ModelError(f"{path} stretches its positions, and its network has none that could be stretched.")
        settings.update(found)


def _from_rule(path: Path, header: GgufHeader) -> dict[str, Any]:
    prefix = f"{header.architecture}.rope.scaling"
    rule, factor = header.metadata.get(f"{prefix}.type", "none"), header.metadata.get(f"{prefix}.factor")
    if rule == "none" or factor in (None, 0, 1):
        return {}
    found = {"rope_type": rule, "factor": float(factor)}
    if rule == "linear":
        return found
    context = header.metadata.get(f"{prefix}.original_context_length")
    if rule == "yarn" and isinstance(context, int):
        return {**found, "original_max_position_embeddings": context}
    raise ModelError(f'{path} stretches its positions by the rule "{rule}", which cannot be brought over from GGUF.')


def _from_tensor(path: Path, header: GgufHeader) -> dict[str, Any]:
    from gguf import GGUFReader

    factors = next(np.array(t.data, dtype=np.float64) for t in GGUFReader(path).tensors if t.name == FREQUENCIES)
    base = float(header.metadata.get(f"{header.architecture}.rope.freq_base", 10_000.0))
    found = {"factor": round(float(factors.max()), 4), "low_freq_factor": _LOW, "high_freq_factor": _HIGH,
             "original_max_position_embeddings": _CONTEXT}  # fmt: skip
    if not np.allclose(llama3_factors(len(factors), base, found["factor"]), factors, rtol=1e-3):
        raise ModelError(
            f"{path} stretches its positions by factors ({FREQUENCIES}) that follow no rule transformers knows. Use "
            "the model's safetensors folder."
        )
    return {"rope_type": "llama3", **found}


def llama3_factors(count: int, base: float, factor: float) -> np.ndarray:
    """The factors that divide each frequency, [count]."""
    waves = 2 * math.pi * base ** (np.arange(count) / count)
    smooth = np.clip((_CONTEXT / waves - _LOW) / (_HIGH - _LOW), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
