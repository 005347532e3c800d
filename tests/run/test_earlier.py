"""Learning on from an earlier run: the whole model it stands for, merged once, and what it was made from."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft  # noqa: F401  its import takes seconds, as do those below: here, and not inside a test
import pytest
import sklearn.metrics  # noqa: F401
import timm  # noqa: F401
import torch
import torchvision  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401
from tests.run.pictures import box_recipe, picture_recipe
from tests.run.worker import recipe, write_reviews

from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import ModelError, RunError
from tunesmith.models.kept_labels import kept_labels
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import earlier
from tunesmith.run import fit as spine
from tunesmith.run.earlier import model_of, run_of

SHORT = {"steps": 2, "evaluate_every": 2, "checkpoint_every": 2}
NO_OLD: dict[str, Any] = {"forgetting": {"old_tasks": []}}
TEXTS = ["a good film", "the plot was bad", "a very dull story of an actor"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module stand, with the data of the text runs."""
    found = tmp_path_factory.mktemp("earlier")
    write_reviews(found / "reviews.csv")
    return found


@pytest.fixture(scope="module")
def learned(place: Path, tiny_folders: Callable[[str], Path]) -> Callable[..., Path]:
    """A finished tiny run on texts by method and family, fitted when first asked for."""

    def fitted(method: str, kind: str = "bert", **task: Any) -> Path:
        folder = place / f"{kind}-{method}{''.join(map(str, task.values()))}"
        if not folder.exists():
            base = place / kind
            if not base.exists():
                shutil.copytree(tiny_folders(kind), base)  # some tests change what others rely on
            settings = recipe(base, place / "reviews.csv", method=method, train=SHORT)
            settings["task"] |= task
            spine.fit(Recipe.make({**settings, **NO_OLD}), folder)
        return folder

    return fitted


@pytest.fixture
def run(learned: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a finished LoRA run."""
    return Path(shutil.copytree(learned("lora"), tmp_path / "run", ignore=shutil.ignore_patterns("merged")))


def answers(folder: Path) -> np.ndarray:
    from tunesmith.models.from_transformers import read_classifier

    model, tokenizer = read_classifier(folder)
    with torch.no_grad():
        found: np.ndarray = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    return found


def counted_writes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that are merged from now on."""
    made: list[Path] = []
    write = earlier._write

    def counting(folder: Path, *given: Any) -> None:
        made.append(folder)
        write(folder, *given)

    monkeypatch.setattr(earlier, "_write", counting)
    return made


@pytest.mark.parametrize("method", ["lora", "ia3", "oft", "full", "adapter"])
def test_the_whole_model_answers_as_what_the_run_delivered(method: str, learned: Callable[..., Path]) -> None:
    folder = learned(method)
    found = Path(model_of(str(folder)))
    whole = not (folder / "best" / "adapter_config.json").is_file()
    assert found == folder / ("best" if whole else "merged")
    assert whole == (method in ("full", "adapter"))
    assert not list(found.glob("adapter*"))
    np.testing.assert_allclose(answers(found), answers(folder / "best"), rtol=1e-4, atol=1e-5)  # sums in other orders


def test_the_next_run_begins_where_the_first_ended(run: Path, place: Path, tmp_path: Path) -> None:
    settings = recipe(Path(model_of(str(run))), place / "reviews.csv", method="lora", train=SHORT)
    settings["task"] = {"name": "text_classification", "max_length": 24}
    second = spine.fit(Recipe.make({**settings, **NO_OLD}), tmp_path / "second")
    first = json.loads((run / "scores.json").read_text())
    assert second.scores["before"] == pytest.approx(first["after"], rel=1e-4)
    shutil.rmtree(run / "merged")  # the base of the second adapter, which its own merging needs again
    assert Path(model_of(str(second.folder))) == tmp_path / "second" / "merged"
    assert (run / "merged" / "model.safetensors").is_file()


def test_it_is_merged_once_and_again_when_it_no_longer_fits(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted_writes(monkeypatch)
    merged = Path(model_of(str(run)))
    first = (merged / "model.safetensors").read_bytes()
    for name in (run, run / "best", run / "merged"):
        assert model_of(str(name)) == str(merged)
    assert len(made) == 1
    with (merged / "model.safetensors").open("r+b") as file:  # damaged
        file.seek(-4, 2)
        file.write(b"\x00\x00\x80\x7f")
    model_of(str(run))
    assert (len(made), (merged / "model.safetensors").read_bytes()) == (2, first)
    _scale(run / "best" / "adapter_model.safetensors", 2.0)  # another adapter
    (run / ".merging").mkdir()  # and what a process that was killed left behind
    model_of(str(run))
    assert (len(made), (run / ".merging").exists()) == (3, False)
    assert (merged / "model.safetensors").read_bytes() != first
    np.testing.assert_allclose(answers(merged), answers(run / "best"), rtol=1e-4, atol=1e-5)


def test_of_several_who_ask_at_once_one_merges(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted_writes(monkeypatch)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(model_of(str(run)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [str(run / "merged")] * 3
    assert len(made) == 1


def test_a_merged_folder_without_weights_is_made_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = Path(model_of(str(run)))
    told = json.loads((merged / "merged.json").read_text())
    for name in [name for name in told["files"] if name.endswith(".safetensors")]:
        (merged / name).unlink()
        del told["files"][name]
    (merged / "merged.json").write_text(json.dumps(told))
    made = counted_writes(monkeypatch)
    model_of(str(run))
    assert len(made) == 1
    assert (merged / "model.safetensors").is_file()


def test_what_it_was_made_from_stands_beside_it(run: Path) -> None:
    from tunesmith.train.checkpoint import file_sha256

    state = torch.get_rng_state()
    merged = Path(model_of(str(run)))
    assert torch.equal(torch.get_rng_state(), state)
    told = json.loads((merged / "merged.json").read_text())
    adapter = run / "best" / "adapter_model.safetensors"
    assert told["adapter"]["adapter_model.safetensors"] == file_sha256(adapter)
    assert told["base"]["sha256"] == json.loads((run / "manifest.json").read_text())["model"]["sha256"]
    assert told["files"]["model.safetensors"] == file_sha256(merged / "model.safetensors")


def test_a_name_that_is_no_run_stays_as_it_is(place: Path, learned: Callable[..., Path]) -> None:
    learned("lora")
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "timm/resnet18", "package:x/y", str(place / "bert")):
        assert model_of(name) == name
        assert run_of(name) is None


def test_an_unfinished_run_says_how_to_finish_it(run: Path) -> None:
    (run / "scores.json").unlink()
    with pytest.raises(RunError, match=f"tunesmith resume {run}"):
        model_of(str(run))


def test_prompts_cannot_be_merged_and_the_error_says_what_can(learned: Callable[..., Path], tmp_path: Path) -> None:
    folder = learned("prompt_tuning")
    with pytest.raises(ModelError, match=r"prompt_tuning.*full, head.*lora.*forgetting\.old_tasks"):
        model_of(str(folder))
    assert not (folder / "merged").exists()
    settings = picture_recipe(tmp_path, kind="timm_vit", method="visual_prompt", train=SHORT)
    pictures = spine.fit(Recipe.make({**settings, **NO_OLD}), tmp_path / "run")
    with pytest.raises(ModelError, match="visual_prompt"):
        model_of(str(pictures.folder))


def test_a_base_that_is_gone_or_another_is_named(run: Path, tmp_path: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    base = Path(shutil.copytree(manifest["model"]["path"], tmp_path / "base"))
    manifest["model"]["path"] = str(base)
    (run / "manifest.json").write_text(json.dumps(manifest))
    _scale(base / "model.safetensors", 1.5)
    with pytest.raises(ModelError, match="its sha256 has changed"):
        model_of(str(run))
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no longer there"):
        model_of(str(run))
    assert not (run / "merged").exists()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_chosen_pooling_is_not_probed_again(pooling: str, learned: Callable[..., Path]) -> None:
    from tests.models.test_from_transformers import settled

    from tunesmith.types import ModelSource

    merged = model_of(str(learned("lora", "modernbert", pooling=pooling)))
    found, model = settled(ModelSource("m", merged), Path(merged).parent)
    assert found == {"pooling": pooling}
    assert model.config.classifier_pooling == pooling  # type: ignore[attr-defined]


def test_a_fitted_pooler_stays_as_it_was_tuned(learned: Callable[..., Path]) -> None:
    from safetensors.torch import load_file
    from tests.models.test_from_transformers import settled

    from tunesmith.types import ModelSource

    merged = Path(model_of(str(learned("lora", pooling="fitted"))))
    found, model = settled(ModelSource("m", str(merged)), merged.parent)
    assert found == {"pooling": "cls"}
    tuned = load_file(merged / "model.safetensors")["bert.pooler.dense.weight"]
    assert torch.equal(model.bert.pooler.dense.weight, tuned)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind",
    ["timm_resnet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("torchvision_mobilenet", "hf_vit"))],
)
def test_a_run_on_pictures_is_learned_on_from(kind: str, tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path, kind=kind, method="lora", train=SHORT)
    first = spine.fit(Recipe.make({**settings, **NO_OLD}), tmp_path / "first")
    merged = model_of(str(first.folder))
    assert merged == str(tmp_path / "first" / "merged")
    settings |= {"model": merged, "method": "head"}
    second = spine.fit(Recipe.make({**settings, **NO_OLD}), tmp_path / "second")
    assert second.scores["before"] == pytest.approx(first.scores["after"], rel=1e-3)


def test_a_detector_is_delivered_whole(tmp_path: Path) -> None:
    from tests.tiny_detectors import over_backbone

    from tunesmith.models.whole import write_whole

    run, pretrained = tmp_path / "run", over_backbone("retinanet")
    (run / "best" / "adapter").mkdir(parents=True)
    write_whole(pretrained.model, run / "best", pretrained)
    (run / "best" / "adapter" / "adapter_config.json").write_text("{}")
    (run / "recipe.yaml").write_text(json.dumps({**box_recipe(tmp_path, method="lora"), "output": str(run)}))
    (run / "scores.json").write_text("{}")
    assert model_of(str(run)) == str(run / "best")
    task = Recipe.read(run / "recipe.yaml").task.model_copy(update={"pyramid_channels": 128})
    source = task.find_model(model_of(str(run)), revision=None, weights=None, pretrained=True)
    assert kept_labels(source, ["dog"], kind="boxes") == ("platelet", "red cell", "white cell", "dog")


def test_old_classes_beside_new_ones_are_scored_and_reported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on two new classes whose head keeps the two of the first; test data may then hold old classes only."""
    from dataclasses import replace

    from tunesmith.run import setup

    merged = model_of(str(run))
    load = setup.load_for  # type: ignore[attr-defined]

    def with_old(*given: Any, **named: Any) -> Any:
        found = load(*given, **named)
        source = Recipe.make(settings).task.find_model(merged, revision=None, weights=None, pretrained=True)
        return replace(found, labels=kept_labels(source, found.labels, kind="texts"))

    rows = [
        f"{'long' if i % 2 else 'short'} story {chr(97 + i % 26)} {i},{'long' if i % 2 else 'short'}" for i in range(60)
    ]
    (tmp_path / "new.csv").write_text("text,label\n" + "\n".join(rows))
    settings = {**recipe(Path(merged), tmp_path / "new.csv", method="lora", train=SHORT), **NO_OLD}
    settings["task"] = {"name": "text_classification", "max_length": 24, "class_weights": "balanced"}
    monkeypatch.setattr(setup, "load_for", with_old)
    second = spine.fit(Recipe.make(settings), tmp_path / "second")
    assert Predictor(second.folder).labels == ("bad", "good", "long", "short")
    assert 0 <= second.scores["after"]["macro_f1"] <= 1
    assert "auroc" not in second.scores["after"]  # an area over fewer classes would be another figure
    assert (second.folder / "report.html").is_file()
    write_reviews(tmp_path / "old.csv", rows=20, seed=5)
    found = evaluate_run(second.folder, str(tmp_path / "old.csv"), tmp_path / "work")
    assert found.examples == 20
    assert {"f1/bad", "f1/good"} & set(found.scores)


def _scale(path: Path, factor: float) -> None:
    """Multiply every weight of a file."""
    from safetensors.torch import load_file, save_file

    save_file({name: tensor * factor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
