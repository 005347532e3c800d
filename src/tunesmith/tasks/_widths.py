"""How many tokens wide the rows of a batch are.

A processor's bfloat16 kernels are made anew for each shape and kept, about half a megabyte for each product in a layer:
what a run of LoRA over short texts has in use grew from 397 to 775 MiB with rows of any width, and to 450 with rows of
a multiple of four (docs/experiments.md).
"""

from __future__ import annotations

FEWEST = 4
"""Rows are a multiple of this many tokens at least."""
FINENESS = 32
"""Widths up to a power of two are a multiple of its thirty-second part: of 4 up to 128 tokens, of 16 up to 512."""


def width(longest: int, most: int | str, *, multiple: int = FEWEST) -> int:
    """Tokens of a row that holds `longest` tokens: rounded up, but not beyond `most`, where a model's places may end.

    most: what no text is longer than; where it is not known ("auto"), rows are as wide as the longest.
    """
    if isinstance(most, str):
        return max(1, longest)
    step = max(multiple, (1 << max(0, longest - 1).bit_length()) // FINENESS)
    return max(1, longest, min(-(-longest // step) * step, most))
