"""Every retention on a language model, against references written out with plain logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.forgetting.conftest import ready
from tests.forgetting.test_language import settings, write_preferences, write_texts
from tests.tiny_language_model import write_chats, write_tiny_language_model
from tunesmith.recipe.recipe import Recipe
from tunesmith.retention.base import Held
from tunesmith.retention.ewc import EWC
from tunesmith.run.fit import fit
from tunesmith.run.forgotten import guard, untouched
from tunesmith.run.setup import start_learning
from tunesmith.train.randomness import generator
from tunesmith.types import Batch


@dataclass
class Set:
    """A language model that has begun to learn, and moved since."""

    model: nn.Module
    held: Held
    penalty: Any
    start: dict[str, Tensor]

    def gradients(self, step: int) -> tuple[float, dict[str, Tensor]]:
        self.model.zero_grad()
        value = 0.0
        for part in self.penalty(self.model, step):
            part.backward()
            value += part.item()
        return value, self.own()

    def own(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_language_model(tmp_path_factory.mktemp("talker"))


def set_up(talker: Path, place: Path, retention: Any, *, old: str = "texts", method: str = "full") -> Set:
    texts = str(write_texts(place / "t"))
    (place / "run").mkdir()
    changes = {
        "retention": retention,
        "method": method,
        "forgetting": {"old_tasks": ["auto" if old == "auto" else {"source": "texts", "data": texts}]},
    }
    new = ready(settings(talker, write_chats(place / "new.jsonl", rows=40), **changes), place / "w")
    tasks = untouched(new, place / "run")
    learning = start_learning(new)
    guarded = guard(new, learning, tasks)
    assert guarded.held is not None
    for number, tensor in enumerate(guarded.held.learned.values()):
        draw = torch.randn(tensor.shape, generator=generator("moved", number))
        tensor.data.add_(0.1 * (tensor.std() + 0.1) * draw)
    return Set(learning.model, guarded.held, guarded.penalty, dict(guarded.start))


def rows_of(batch: Batch) -> Iterator[tuple[list[int], list[int]]]:
    """Each text of a batch, packed or not: its tokens, and its labels where it has any."""
    labels = batch.labels if batch.labels is not None else torch.full_like(batch.inputs["input_ids"], -100)
    own = batch.inputs.get("segments", batch.inputs["attention_mask"])
    for row, segments in enumerate(own.tolist()):
        for number in sorted(set(segments) - {0}):
            there = own[row] == number
            yield batch.inputs["input_ids"][row][there].tolist(), labels[row][there].tolist()


def log_probabilities(model: Any, ids: list[int]) -> Tensor:
    """Of the token behind each place, [tokens, vocabulary]."""
    found: Tensor = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return found


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 2e-3) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=rtol, atol=rtol * float(tensor.abs().max() + 1e-12))


def test_replay_adds_the_loss_a_token_of_old_texts(talker: Path, tmp_path: Path) -> None:
    made = set_up(talker, tmp_path, {"name": "replay", "share": 0.5})
    value, found = made.gradients(3)
    made.model.zero_grad()
    losses, tokens = torch.zeros(()), 0
    for ids, labels in rows_of(made.held.old[0].batch(3, 4)):
        said = log_probabilities(made.model, ids)
        for place in range(1, len(ids)):
            if labels[place] != -100:
                losses, tokens = losses - said[place - 1, labels[place]], tokens + 1
    wanted = losses / tokens * (4 / 8)  # four old texts beside eight new ones
    wanted.backward()
    assert value == pytest.approx(float(wanted), rel=1e-4)
    close(found, made.own())


@pytest.mark.parametrize("inputs", ["new", "old"])
@pytest.mark.parametrize("old", ["texts", "auto"])
def test_lwf_keeps_the_next_token_distributions(inputs: str, old: str, talker: Path, tmp_path: Path) -> None:
    retention = {"name": "lwf", "inputs": inputs, "weight": 0.7, "temperature": 2.0, "share": 0.5}
    made = set_up(talker, tmp_path, retention, old=old)
    value, found = made.gradients(2)
    now = {name: tensor.detach().clone() for name, tensor in made.held.learned.items()}
    batch = made.held.new(2, 4) if inputs == "new" else made.held.old[0].batch(2, 4)
    texts = [ids for ids, _ in rows_of(batch)]
    assert sum(len(ids) - 1 for ids in texts) <= 256  # so that every place is asked
    made.model.eval().zero_grad()
    put(made, made.start)
    with torch.no_grad():
        before = [log_probabilities(made.model, ids) for ids in texts]
    put(made, now)
    total, places = torch.zeros(()), 0
    for ids, said in zip(texts, before, strict=True):
        one, two = log_probabilities(made.model, ids)[:-1] / 2, said[:-1] / 2
        each = two.softmax(-1) * (two.log_softmax(-1) - one.log_softmax(-1))
        total, places = total + 4 * each.sum(), places + len(ids) - 1
    wanted = 0.7 * total / places
    wanted.backward()
    assert value == pytest.approx(float(wanted), rel=1e-3)
    close(found, made.own(), rtol=5e-3)


def put(made: Set, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in made.held.learned.items():
            tensor.copy_(values[name])


@pytest.mark.parametrize("method", ["lora", "ia3", "prefix_tuning", "prompt_tuning"])
def test_the_teacher_is_the_model_with_the_method_off(method: str, talker: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = set_up(talker, tmp_path, {"name": "lwf", "share": 0.5}, old="auto", method=method)
    plain = AutoModelForCausalLM.from_pretrained(talker).eval()
    batch = made.held.new(1, 2)
    with torch.no_grad(), made.held.switched_off():
        said = made.held.old[0].outputs(made.model.eval(), batch).log_softmax(-1)
    with torch.no_grad():
        wanted = torch.cat([log_probabilities(plain, ids)[:-1] for ids, _ in rows_of(batch)])
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-4)
    value, found = made.gradients(1)
    assert value > 0
    assert any(tensor.abs().max() > 0 for tensor in found.values())


def test_l2_sp_pulls_every_weight_back_embeddings_too(talker: Path, tmp_path: Path) -> None:
    made = set_up(talker, tmp_path, {"name": "l2_sp", "strength": 0.3})
    value, found = made.gradients(1)
    away = {name: tensor.detach() - made.start[name] for name, tensor in made.held.learned.items()}
    assert value == pytest.approx(sum(float(0.15 * each.square().sum()) for each in away.values()), rel=1e-4)
    close(found, {name: 0.3 * each for name, each in away.items()})
    assert any("embed" in name for name in found)


def test_ewc_takes_the_fisher_information_of_drawn_tokens(talker: Path, tmp_path: Path) -> None:
    made = set_up(talker, tmp_path, {"name": "ewc", "strength": 0.4, "examples": 3})
    value, found = made.gradients(1)
    now = {name: tensor.detach().clone() for name, tensor in made.held.learned.items()}
    put(made, made.start)
    made.model.eval()
    fisher = {name: torch.zeros_like(tensor) for name, tensor in now.items()}
    for number in range(1, 4):
        ((ids, _),) = rows_of(made.held.old[0].batch(-number, 1))
        said = log_probabilities(made.model, ids)[:-1]
        draw = generator(3, "fisher", made.held.old[0].name, number)
        tokens = torch.multinomial(said.detach().double().softmax(-1), 1, generator=draw)
        made.model.zero_grad()
        said.gather(1, tokens).sum().backward()
        for name, gradient in made.own().items():
            fisher[name] += gradient.square() / 3
    mean = sum(float(f.sum()) for f in fisher.values()) / sum(f.numel() for f in fisher.values())
    pull = {name: 0.4 * f / mean * (now[name] - made.start[name]) for name, f in fisher.items()}
    assert value == pytest.approx(
        sum(float((p * (now[n] - made.start[n])).sum()) / 2 for n, p in pull.items()), rel=1e-2
    )
    close(found, pull, rtol=1e-2)


def test_drawn_tokens_have_the_fisher_information_of_each_token_summed() -> None:
    """At one weight per place: E (sum of slopes)^2 is the sum of p (1 - p) w^2, exactly in the mean."""
    from tunesmith.retention.ewc import sampled

    class Told:
        name = "told"

        def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
            return (before.softmax(-1) * (before.log_softmax(-1) - now.log_softmax(-1))).sum(-1).mean()

    weight = torch.ones((), requires_grad=True)
    slopes = torch.tensor([[0.5, -1.0, 0.2], [1.5, 0.3, 0.0]])
    total, draws = 0.0, 3000
    batch = Batch({}, torch.tensor([[1, 2]]), (0,))
    for number in range(draws):
        value, factor = sampled(Told(), weight * slopes, batch, generator("draws", number))  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(value, weight)
        total += factor * float(gradient) ** 2 / draws
    p = slopes.softmax(-1)
    wanted = (p * slopes.square()).sum(-1) - (p * slopes).sum(-1).square()
    assert total == pytest.approx(float(wanted.sum()), rel=0.08)


def test_ewc_is_the_same_when_asked_again(talker: Path, tmp_path: Path) -> None:
    made = set_up(talker, tmp_path, {"name": "ewc", "examples": 2}, old="auto")
    first, again = (EWC(examples=2).fisher(made.held) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_wise_ft_goes_back_along_the_line(method: str, talker: Path, tmp_path: Path) -> None:
    texts = {"source": "texts", "data": str(write_texts(tmp_path / "t"))}
    train = {"steps": 12, "batch_size": 8, "evaluate_every": 12, "checkpoint_every": 12, "threads": 1, "seed": 3,
             "learning_rate": 0.02, "precision": "float32"}  # fmt: skip
    made = settings(talker, write_chats(tmp_path / "new.jsonl"), method=method, train=train,
                    retention={"name": "wise_ft", "points": 5}, forgetting={"old_tasks": [texts]})  # fmt: skip
    run = fit(Recipe.make(made), tmp_path / "run")
    curve = run.scores["retention"]["curve"]
    assert curve[0]["forgetting"] == {"texts": 0.0}
    assert curve[0]["new_score"] > curve[-1]["new_score"]  # a loss
    assert run.scores["retention"]["share"] in [point["share"] for point in curve]


@pytest.mark.slow
@pytest.mark.parametrize("retention", ["replay", "lwf"])
def test_preference_tuning_is_held_alike(retention: str, talker: Path, tmp_path: Path) -> None:
    texts = {"source": "texts", "data": str(write_texts(tmp_path / "t"))}
    task = {"name": "preference", "max_length": 96}
    made = settings(talker, write_preferences(tmp_path / "p.jsonl"), task=task, retention=retention, method="lora",
                    forgetting={"old_tasks": [texts, "auto"]})  # fmt: skip
    run = fit(Recipe.make(made), tmp_path / "run")
    assert set(run.scores["old_tasks"]) == {"texts", "auto"}
    assert all(found["forgetting"]["off"] == [0.0, 0.0, 0.0] for found in run.scores["old_tasks"].values())
