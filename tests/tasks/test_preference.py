"""Preference tuning on a tiny Llama: what is compared, that micro-batches change nothing, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tasks.talking import judged, pairs, write_talker

from tunesmith.chats import Chat
from tunesmith.errors import DataError, RecipeError, RunError
from tunesmith.evaluate.evaluate import Part, logits_of
from tunesmith.recipe.recipe import Recipe
from tunesmith.tasks.preference import Preference
from tunesmith.train import randomness
from tunesmith.train.device import Device
from tunesmith.types import Batch, Example, Pretrained

OBJECTIVES = ("dpo", "ipo", "orpo", "simpo", "kto")
LENGTH = 64


class Rows:
    """Encoded examples that stand in memory."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        self.lengths = np.array([len(row["input_ids"]) for row in rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Pretrained]:
    folder = write_talker(tmp_path_factory.mktemp("talker"))
    read = Preference().load(
        Preference().find_model(str(folder), revision=None, weights=None, pretrained=True),
        (), multi_label=False, seed=0,
    )  # fmt: skip
    return lambda: replace(read, model=copy.deepcopy(read.model))


def task(objective: str, **more: Any) -> Preference:
    return Preference(**{"objective": objective, "max_length": LENGTH, **more})


def referred(of: Preference, pretrained: Pretrained, examples: Sequence[Example]) -> Part:
    part = Part(Rows(of.encode(examples, pretrained.processor)), of.targets(examples, ()), ())  # type: ignore[arg-type]
    if of.refers:
        of.refer(pretrained, {"train": part}, device=Device())
    return part


def nudged(pretrained: Pretrained, *, double: bool = False) -> Any:
    """The model after some training: its weights moved a little."""
    model: Any = pretrained.model
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.03)
    return model.double() if double else model


def batches(of: Preference, part: Part, pretrained: Pretrained, cuts: Sequence[tuple[int, int]]) -> list[Batch]:
    return [of.collate([part.encoded[i] for i in range(*cut)], part.targets[slice(*cut)], pretrained.processor,
                       positions=range(*cut)) for cut in cuts]  # fmt: skip


def gradient(of: Preference, model: Any, cut: Sequence[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss and its gradient, as the loop has them."""
    model.zero_grad()
    total = count = 0.0
    for batch in of.foresee(model, cut, device=Device()):
        randomness.begin(0, 1, batch.positions)
        loss = of.loss(model, batch)
        loss.total.backward()
        total, count = total + float(loss.total.detach()), count + loss.count
    return total / count, {n: p.grad / count for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("make", [pairs, judged])
def test_micro_batches_change_neither_loss_nor_gradient(
    objective: str, make: Callable[[int], list[Example]], talker: Callable[[], Pretrained]
) -> None:
    if make is judged and objective != "kto":
        return
    pretrained, of = talker(), task(objective)
    part = referred(of, pretrained, make(7))
    model = nudged(pretrained, double=True)
    whole, one = gradient(of, model, batches(of, part, pretrained, [(0, 7)]))
    cut, two = gradient(of, model, batches(of, part, pretrained, [(0, 1), (1, 4), (4, 7)]))
    assert cut == pytest.approx(whole, rel=1e-6)
    largest = max(float(g.abs().max()) for g in one.values())
    assert largest > 1e-4
    for name, wanted in one.items():
        torch.testing.assert_close(two[name], wanted, rtol=1e-6, atol=1e-6 * largest)


def test_ktos_reference_point_is_that_of_the_whole_batch(talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task("kto", desirable_weight=2.0)
    part = referred(of, pretrained, pairs(6))
    part.targets[:, 2] -= np.array([9.0, 1, 1, 1, 1, 1])  # as if the model had moved far on one prompt
    pieces = batches(of, part, pretrained, [(0, 2), (2, 6)])
    whole = of.foresee(pretrained.model, batches(of, part, pretrained, [(0, 6)]), device=Device())[0]
    points = [float(each.inputs["reference_point"]) for each in of.foresee(pretrained.model, pieces, device=Device())]
    assert points == pytest.approx([14 / 6, 14 / 6], rel=1e-4)
    assert float(whole.inputs["reference_point"]) == pytest.approx(14 / 6, rel=1e-4)
    alone = [of.loss(pretrained.model, each) for each in pieces]
    together = of.loss(pretrained.model, whole)
    apart = sum(float(each.total.detach()) for each in alone) - float(together.total.detach())
    assert abs(apart) > 1e-4  # which is why it must be foreseen


def test_dropout_masks_follow_the_example_and_are_the_same_for_both_of_its_answers(
    talker: Callable[[], Pretrained],
) -> None:
    pretrained, of = talker(), task("dpo")
    examples = pairs(5)
    same = [replace(e, inputs={**e.inputs, "rejected": e.inputs["chosen"]}) for e in examples]
    model: Any = pretrained.model
    model.config.attention_dropout = 0.3
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    randomness.use_counter_dropout(model)
    twins = referred(of, pretrained, same)
    part = referred(of, pretrained, examples)
    model.train()
    randomness.begin(0, 1, range(5))
    (twin,) = batches(of, twins, pretrained, [(0, 5)])
    assert float(of.loss(model, twin).total.detach()) / 5 == pytest.approx(math.log(2), rel=1e-6)
    whole, _ = gradient(of, model, batches(of, part, pretrained, [(0, 5)]))
    cut, _ = gradient(of, model, batches(of, part, pretrained, [(0, 2), (2, 5)]))
    assert cut == pytest.approx(whole, rel=1e-6)
    model.eval()
    assert gradient(of, model, batches(of, part, pretrained, [(0, 5)]))[0] != pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("objective", ["dpo", "ipo", "kto"])
def test_the_untouched_model_has_gained_nothing(objective: str, talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task(objective)
    part = referred(of, pretrained, pairs(9))
    logits = logits_of(pretrained.model, part.encoded, task=of, processor=pretrained.processor, device=Device())
    assert np.allclose(logits[:, :3], part.targets, atol=1e-3)
    found = of.score(logits, part.targets, ())
    assert found["reward_accuracy"] == 0.5
    assert abs(found["margin"]) < 1e-4
    assert found["loss"] == pytest.approx({"dpo": math.log(2), "ipo": 25.0, "kto": 0.5}[objective], rel=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_swapping_chosen_and_rejected_turns_the_scores_round(objective: str, talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task(objective)
    examples = pairs(8)
    turned = [replace(e, inputs={**e.inputs, "chosen": e.inputs["rejected"], "rejected": e.inputs["chosen"]})
              for e in examples]  # fmt: skip
    parts = [referred(of, pretrained, each) for each in (examples, turned)]
    model = nudged(pretrained)
    one, two = (of.score(logits_of(model, part.encoded, task=of, processor=pretrained.processor, device=Device()),
                         part.targets, ()) for part in parts)  # fmt: skip
    assert one["margin"] == pytest.approx(-two["margin"], rel=1e-4)
    assert abs(one["margin"]) > 1e-3
    assert one["reward_accuracy"] == pytest.approx(1 - two["reward_accuracy"])
    assert one["chosen_reward"] == pytest.approx(two["rejected_reward"], rel=1e-4)


def test_scores_are_the_means_of_what_is_kept_of_each_example(talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task("dpo")
    examples = pairs(8)
    part = referred(of, pretrained, examples)
    model = nudged(pretrained)
    logits = logits_of(model, part.encoded, task=of, processor=pretrained.processor, device=Device())
    found = of.score(logits, part.targets, ())
    kept = list(of.rated(logits, part.targets))
    assert found["loss"] == pytest.approx(np.mean([each["loss"] for each in kept]), abs=1e-5)
    margins = np.array([each["chosen_reward"] - each["rejected_reward"] for each in kept])
    assert found["margin"] == pytest.approx(margins.mean(), abs=1e-5)
    assert found["reward_accuracy"] == pytest.approx((margins > 0).mean())
    untouched = np.concatenate([part.targets, logits[:, 3:]], axis=1)
    before, after, gain = of.intervals(untouched, logits, part.targets, (), None, seed=0)
    assert before is not None
    assert gain is not None
    assert before.value == pytest.approx(math.log(2), rel=1e-4)
    assert after.value == pytest.approx(found["loss"])
    assert after.low <= after.value <= after.high
    assert gain.value == pytest.approx(after.value - before.value)
    (line, *_) = of.records(examples, logits, (), None, multi_label=False)
    assert line["chosen"] == examples[0].inputs["chosen"]
    assert line["chosen_logp"] == pytest.approx(float(logits[0, 0]), abs=1e-3)


def test_liked_answers_are_judged_by_how_often_they_outrank_disliked_ones(talker: Callable[[], Pretrained]) -> None:
    of = task("kto")
    logits = np.array([[-1, 0, 0, 4, 0, 0], [0, -9, 0, 0, 4, 0], [-8, 0, 0, 4, 0, 0], [0, -5, 0, 0, 4, 0]], np.float32)
    targets = np.array([[-5, 0, 0], [0, -5, 0], [-5, 0, 0], [0, -5, 0]], np.float64)
    found = of.score(logits, targets, ())
    assert found["auroc"] == pytest.approx(0.75)  # liked ones gained 4 and -3, disliked ones -4 and 0
    assert "reward_accuracy" not in found
    assert found["margin"] == pytest.approx(0.1 * (0.5 - -2.0))
    liked = of.score(logits[[0, 2]], targets[[0, 2]], ())
    assert set(liked) == {"loss", "chosen_reward", "drift"}


def decoded(row: Any, column: int, tokenizer: Any) -> tuple[str, str]:
    first = sum(row["sizes"][:column])
    ids = row["input_ids"][first : first + row["sizes"][column]]
    start = row["starts"][column]
    return tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:])


def test_only_the_last_answer_and_its_end_are_compared(talker: Callable[[], Pretrained]) -> None:
    tokenizer = talker().processor
    said = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "who"})  # fmt: skip
    example = Example({"chat": Chat(said).to_json(), "chosen": "me", "rejected": "not you"})
    (row,) = task("dpo", max_length="auto").encode([example], tokenizer)
    prompt, answer = decoded(row, 0, tokenizer)
    assert answer == "me<|im_end|>"
    assert prompt.endswith("<|im_start|>assistant\n")
    assert "hello<|im_end|>" in prompt
    assert decoded(row, 1, tokenizer) == (prompt, "not you<|im_end|>")


def test_both_answers_keep_one_prompt_when_they_are_cut(talker: Callable[[], Pretrained]) -> None:
    tokenizer = talker().processor
    chat = Chat(({"role": "user", "content": "word " * 30},)).to_json()
    fits = Example({"chat": chat, "chosen": "yes", "rejected": "no, never"})
    (row,) = task("dpo", max_length=80).encode([fits], tokenizer)
    prompt, answer = decoded(row, 0, tokenizer)
    assert (answer, decoded(row, 1, tokenizer)) == ("yes<|im_end|>", (prompt, "no, never<|im_end|>"))
    assert max(row["sizes"]) == 80
    assert prompt.startswith("<|im_start|>user")
    assert prompt.endswith("word <|im_end|>\n<|im_start|>assistant\n")
    long = Example({"chat": chat, "chosen": "yes " * 50, "rejected": "no"})
    (row,) = task("dpo", max_length=80).encode([long], tokenizer)
    prompt, answer = decoded(row, 0, tokenizer)
    assert row["starts"][:2] == [40, 40]  # half of the room is the prompt's
    assert answer == ("yes " * 50)[:40]
    assert decoded(row, 1, tokenizer) == (prompt, "no<|im_end|>")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.text("ab ", min_size=1, max_size=40), min_size=1, max_size=3),
       answers=st.tuples(st.text("cd ", min_size=1, max_size=60), st.text("cd ", min_size=1, max_size=60)),
       limit=st.integers(8, 200))  # fmt: skip
def test_whatever_is_cut_both_answers_follow_one_prompt_and_begin_as_they_did(
    turns: list[str], answers: tuple[str, str], limit: int, talker: Callable[[], Pretrained]
) -> None:
    tokenizer = talker().processor
    said: list[dict[str, str]] = []
    for turn in turns:
        said += [{"role": "user", "content": "x" + turn}, {"role": "assistant", "content": "well"}]
    example = Example(
        {"chat": Chat(tuple(said[:-1])).to_json(), "chosen": "y" + answers[0], "rejected": "z" + answers[1]}
    )
    (whole,), (row,) = (task("dpo", max_length=most).encode([example], tokenizer) for most in ("auto", limit))
    assert max(row["sizes"]) <= limit
    prompts = {decoded(row, column, tokenizer)[0] for column in (0, 1)}
    assert len(prompts) == 1
    for column in (0, 1):
        kept, full = decoded(row, column, tokenizer)[1], decoded(whole, column, tokenizer)[1]
        assert full.startswith(kept)
        assert kept
        assert full == kept or row["starts"][column] <= -(-limit // 2)
    assert limit < max(whole["sizes"]) or row == whole


def test_the_mismatched_answer_belongs_to_another_prompt(talker: Callable[[], Pretrained]) -> None:
    tokenizer = talker().processor
    examples = pairs(4)
    examples.insert(1, replace(examples[0], inputs={**examples[0].inputs, "chosen": "sure"}))
    rows = task("kto", max_length="auto").encode(examples, tokenizer)
    told = [decoded(row, 2, tokenizer) for row in rows]
    for number, (row, (prompt, answer)) in enumerate(zip(rows, told, strict=True)):
        assert prompt == decoded(row, 0, tokenizer)[0]
        owners = [n for n, e in enumerate(examples)
                  if answer.removesuffix("<|im_end|>") in (e.inputs["chosen"], e.inputs["rejected"])]  # fmt: skip
        assert any(examples[n].inputs["chat"] != examples[number].inputs["chat"] for n in owners)


def test_what_cannot_be_learned_from_is_sifted_out_with_its_reason(talker: Callable[[], Pretrained]) -> None:
    (good,) = pairs(1)
    same = replace(good, inputs={**good.inputs, "chosen": "so it was today, yes", "rejected": "so it was today, no"})
    found = task("dpo", max_length=24).sift([good, same], talker().processor)
    assert found[0] == (0,)
    assert "agree in all" in str(found[1])
    assert task("dpo").sift([good, same], talker().processor) == [(0,), (0,)]


def test_refusals_say_what_to_give_instead(talker: Callable[[], Pretrained]) -> None:
    pretrained = talker()
    chat = pairs(1)[0].inputs["chat"]
    with pytest.raises(DataError, match=r"task\.objective=kto"):
        task("dpo").encode(judged(2), pretrained.processor)
    with pytest.raises(DataError, match=r"a.jsonl:7: .*columns.liked"):
        task("kto").encode([Example({"chat": chat, "answer": "x"}, file="a.jsonl", line=7)], pretrained.processor)
    with pytest.raises(DataError, match="`chosen` and a `rejected`"):
        task("dpo").encode([Example({"chat": chat})], pretrained.processor)
    with pytest.raises(DataError, match="all 2 training answers are liked"):
        referred(task("kto"), pretrained, judged(4)[::2])
    one = [replace(e, inputs={**e.inputs, "chat": chat}) for e in judged(4)]
    with pytest.raises(DataError, match="one prompt"):
        referred(task("kto"), pretrained, one)


def test_a_loss_without_the_untouched_models_answers_is_refused(talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task("dpo")
    examples = pairs(2)
    rows, room = of.encode(examples, pretrained.processor), of.targets(examples, ())
    with pytest.raises(RunError, match="untouched"):
        of.loss(pretrained.model, of.collate(rows, room, pretrained.processor))
    logits = of.predict(pretrained.model, of.collate(rows, None, pretrained.processor))
    with pytest.raises(RunError, match="untouched"):
        of.score(logits, room, ())
    simpo = task("simpo")
    assert np.isfinite(simpo.score(logits, room, ())["loss"])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"gamma": 0.5}, "gamma is only used with objective: simpo"),
        ({"objective": "ipo", "label_smoothing": 0.1}, "label_smoothing is only used with objective: dpo"),
        ({"desirable_weight": 2.0}, "desirable_weight is only used with objective: kto"),
    ],
)
def test_an_option_that_the_objective_does_not_heed_is_refused(given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(RecipeError, match=wanted):
        Recipe.make({"task": {"name": "preference", **given}, "model": "m", "data": "d.jsonl"})


def test_what_is_auto_comes_from_the_papers() -> None:
    def settled(**given: Any) -> dict[str, float]:
        return {name: value for name, (value, _) in Preference(**given).settle(100, only_head=False).items()}

    assert settled() == {"beta": 0.1, "gamma": 0.0, "sft_weight": 0.0}
    assert settled(objective="simpo") == {"beta": 2.0, "gamma": 1.0, "sft_weight": 0.0}
    assert settled(objective="simpo", beta=3.0)["gamma"] == 1.5
    assert settled(objective="orpo", beta=0.2) == {"gamma": 0.0, "sft_weight": 1.0}
    assert Preference(objective="orpo").terms.sft_weight == 1.0


def test_preflight_shows_what_is_compared(talker: Callable[[], Pretrained]) -> None:
    pretrained, of = talker(), task("dpo")
    part = referred(of, pretrained, pairs(3))
    ((name, ok, seen),) = of.examine(part, pretrained.processor)
    assert (name, ok) == ("answers", True)
    assert "3 chosen or liked, 3 rejected or disliked" in seen
    assert "<|im_end|>" in seen
