"""A merged language model stops and pads as what its run delivered."""

from __future__ import annotations

import json
from pathlib import Path

from tests.run.tiny_speaker import fit_speaker, write_questions, write_speaker

from tunesmith.run.earlier import model_of


def test_a_merged_model_ends_its_answers_where_the_chat_template_does(tmp_path: Path) -> None:
    """As Qwen2.5's base: its own end of text is not the token with which its template ends an answer."""
    base = write_speaker(tmp_path / "model")
    write_questions(tmp_path / "questions.jsonl")
    for name in ("config.json", "generation_config.json"):
        told = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({**told, "pad_token_id": None}))
    ways = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps({**ways, "temperature": 0.7}))  # old files: no do_sample
    run = fit_speaker(
        tmp_path, tmp_path / "run", "method=lora", "train.steps=1", "train.evaluate_every=1", "task.answers.rows=0"
    )
    merged = Path(model_of(str(run)))
    found = json.loads((merged / "generation_config.json").read_text())
    assert found == json.loads((run / "best" / "generation_config.json").read_text())
    assert (found["eos_token_id"], found["pad_token_id"]) == ([1, 3], 0)
    assert json.loads((merged / "config.json").read_text())["pad_token_id"] == 0
    assert (merged / "chat_template.jinja").read_text() == (run / "best" / "chat_template.jinja").read_text()
    made = json.loads((merged / "merged.json").read_text())
    del made["adapter"]["generation_config.json"]  # as it was before this file counted
    (merged / "merged.json").write_text(json.dumps(made))
    before = (merged / "model.safetensors").stat().st_mtime_ns
    assert Path(model_of(str(run))) == merged
    assert (merged / "model.safetensors").stat().st_mtime_ns == before  # runs that began from it find it as it was
