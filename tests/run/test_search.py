"""Searches: which trials they make, that none is lost or counted twice, what they choose, what they say of it."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.run import search_worker
from tests.run.search_worker import FAKE, SETTINGS, Forked, run, table
from tests.run.worker import recipe, write_reviews

from tunesmith.errors import RecipeError, RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import open_run
from tunesmith.run.search.trial_folder import course, is_finished
from tunesmith.run.search.trials import Trials

KILLS = 10


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing disturbed."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    run(folder, trials=10)
    return folder


def test_the_default_is_trial_0_and_every_trial_has_a_run_folder(whole: Path) -> None:
    rows = table(whole)
    assert [row["number"] for row in rows] == list(range(10))
    assert rows[0]["settings"] == []
    assert rows[0]["state"] == "complete"
    for row in rows:
        folder = whole / "trials" / f"{row['number']:04d}"
        assert (folder / "recipe.yaml").is_file()
        made = Recipe.read(folder / "recipe.yaml")
        assert made == made.changed(*row["settings"]), "the folder's recipe is that of the table"


def test_a_hopeless_trial_is_stopped_early(whole: Path) -> None:
    pruned = [row for row in table(whole) if row["state"] == "pruned"]
    assert pruned
    for row in pruned:
        folder = whole / "trials" / f"{row['number']:04d}"
        evaluations = (folder / "events.jsonl").read_text().count('"evaluated"')
        assert evaluations == len(row["course"]) < 5
        assert not (folder / "scores.json").exists()
        assert "not promising after step" in row["reason"]


def test_trials_that_never_go_on_keep_no_data_and_no_checkpoints(whole: Path) -> None:
    assert_cleared(whole)


def assert_cleared(folder: Path) -> None:
    rows = table(folder)
    assert {row["state"] for row in rows} >= {"complete", "pruned"}
    for row in rows:
        trial = folder / "trials" / f"{row['number']:04d}"
        assert not (trial / ".work").exists()
        assert (trial / "checkpoints").exists() == (row["state"] == "complete")


def test_the_best_recipe_is_written_with_where_it_came_from(whole: Path) -> None:
    rows = [row for row in table(whole) if row["state"] == "complete"]
    best = max(rows, key=lambda row: row["values"][0])
    text = (whole / "best.yaml").read_text()
    assert f"# Trial {best['number']}: validation accuracy {best['values'][0]:.4f}" in text
    made = Recipe.read(whole / "best.yaml")
    assert made == made.changed(*best["settings"])
    assert json.loads((whole / "verdict.json").read_text())["words"] in text
    changes = [line.partition(": ")[2].split(" -> ") for line in text.splitlines() if " -> " in line]
    assert all(before != after for before, after in changes)


@pytest.mark.slow
def test_a_search_killed_ten_times_makes_the_same_trials(whole: Path, tmp_path: Path) -> None:
    _killed(tmp_path / "killed", KILLS, trials=10)
    assert table(tmp_path / "killed") == table(whole)
    assert (tmp_path / "killed" / "verdict.json").read_text() == (whole / "verdict.json").read_text()
    assert_cleared(tmp_path / "killed")
    seen = {p.name for p in (tmp_path / "killed" / "trials").iterdir() if p.is_dir()}
    assert seen == {f"{n:04d}" for n in range(10)}


@pytest.mark.slow
def test_hyperband_prunes_and_kills_change_nothing(tmp_path: Path) -> None:
    run(tmp_path / "calm", trials=12, pruning="hyperband")
    rows = table(tmp_path / "calm")
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: row["values"][0])
    for row in rows:
        at = len(row["course"]) - 1
        assert row["state"] == "complete" or row["course"][at][1] < best["course"][at][1], "the best is not pruned"
    _killed(tmp_path / "killed", 4, trials=12, pruning="hyperband")
    assert table(tmp_path / "killed") == rows


def _killed(folder: Path, kills: int, **options: Any) -> None:
    """A search that `kill -9` meets so often at random moments, and that then comes to its end."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")
    draw = random.Random(seed)
    for kill in range(kills):
        process = search_worker.start(folder, **options)
        goal = (kill + 1) * 10 // (kills + 2)  # so that the kills are spread over the whole search
        while process.is_alive() and len(list((folder / "trials").glob("*/events.jsonl"))) < goal:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.5))
        assert process.is_alive(), "the search ended before it could be killed"
        process.kill()
        process.join()
    process = search_worker.start(folder, **options)
    process.join(120)
    assert process.exitcode == 0


@pytest.mark.slow
def test_a_signal_ends_a_search_resumably(whole: Path, tmp_path: Path) -> None:
    process = search_worker.start(tmp_path / "s", trials=10)
    while len(list((tmp_path / "s" / "trials").glob("*/events.jsonl"))) < 3:
        time.sleep(0.01)
    process.terminate()
    process.join(60)
    assert process.exitcode == 75
    assert (tmp_path / "s" / "search.html").is_file(), "what there is can be read"
    run(tmp_path / "s", trials=10)
    assert table(tmp_path / "s") == table(whole)


def test_a_search_that_is_started_again_has_nothing_left_to_do(whole: Path) -> None:
    before = table(whole)
    lines: list[str] = []
    run(whole, trials=10, say=lines.append, program=("/nonexistent",))
    assert table(whole) == before
    assert any("going on with the search" in line for line in lines)


@pytest.mark.slow
def test_more_trials_go_on_where_fewer_ended(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "grown", trials=4, seeds=0)
    run(tmp_path / "grown", trials=10)
    assert table(tmp_path / "grown") == table(whole)


@pytest.mark.slow
def test_parallel_trials_are_all_counted_once(tmp_path: Path) -> None:
    found = run(tmp_path / "s", trials=9, jobs=3, seeds=0)
    assert [trial.number for trial in found.trials] == list(range(9))
    assert all(trial.state in ("complete", "pruned") for trial in found.trials)
    assert len({trial.settings for trial in found.trials}) == 9


def test_a_failed_trial_is_kept_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    found = run(tmp_path / "s", over=["train.learning_rate=0.001,0.9", "method.dropout=0.0,0.5"], trials=4, seeds=0,
                pruning="none")  # fmt: skip
    reasons = {trial.settings: trial.reason for trial in found.trials if trial.state == "failed"}
    assert "step 3: loss nan" in reasons["train.learning_rate=0.9", "method.dropout=0.0"]
    assert "do not go together" in reasons["train.learning_rate=0.9", "method.dropout=0.5"]
    assert {trial.state for trial in found.trials} == {"failed", "complete"}
    diverged = next(
        trial for trial in found.trials if trial.settings == ("train.learning_rate=0.9", "method.dropout=0.0")
    )
    assert not (found.book.trial(diverged.number) / ".work").exists(), "it is never gone on with"


def test_a_space_with_nothing_new_to_try_ends_the_search(tmp_path: Path) -> None:
    lines: list[str] = []
    found = run(tmp_path / "s", over=["method.rank=4,16"], trials=30, seeds=0, pruning="none", say=lines.append)
    assert sorted(trial.settings for trial in found.trials) == [(), ("method.rank=16",), ("method.rank=4",)]
    assert any("nothing new is left to try" in line for line in lines)


def test_when_all_trials_fail_the_message_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TEST", "bad")
    with pytest.raises(RunError, match=r"all 3 trials failed(.|\n)*step 3: loss nan(.|\n)*tunesmith fit"):
        run(tmp_path / "s", trials=3)
    assert [row["state"] for row in table(tmp_path / "s")] == ["failed"] * 3


def test_a_search_without_validation_examples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VALIDATION", "0")
    with pytest.raises(RunError, match=r"data\.split\.validation"):
        run(tmp_path / "s")


def test_another_search_in_the_same_folder_is_refused(whole: Path) -> None:
    with pytest.raises(RunError, match="another search: the space differ"):
        run(whole, over=["method.rank=4,8"])
    with pytest.raises(RunError, match=r"another search: method\.dropout differ"):
        run(whole, settings={**SETTINGS, "method": {"name": "lora", "dropout": 0.1}})


@pytest.mark.slow
def test_no_score_of_the_test_part_can_change_a_search(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TEST_SCORE", "nan")
    run(tmp_path / "s", trials=10)
    assert table(tmp_path / "s") == table(whole)


@pytest.mark.slow
def test_forgetting_is_a_second_objective_without_pruning(tmp_path: Path) -> None:
    found = run(tmp_path / "s", trials=10, seeds=2, forgetting=True)
    assert all(trial.state == "complete" and len(trial.values) == 2 for trial in found.trials)
    from tunesmith.run.search.winner import front

    best = front(found.trials, found.book.main)
    assert 1 < len(best) < len(found.trials)
    for one in best:
        assert not any(t.values[0] > one.values[0] and t.values[1] < one.values[1] for t in found.trials)
    assert found.best in best
    assert found.best.values[1] <= found.trials[0].values[1], "the winner forgets no more than the default"
    if found.best.number:
        assert found.verdict.forgotten is not None


def test_forgetting_without_an_old_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"forgetting\.old_tasks"):
        run(tmp_path / "s", settings={**SETTINGS, "forgetting": {"old_tasks": []}}, forgetting=True)


def test_time_is_counted_over_restarts_and_ends_the_trials(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    run(folder, trials=2, seeds=0)
    spent = json.loads((folder / "clock.json").read_text())["seconds"]
    assert spent > 0
    lines: list[str] = []
    run(folder, trials=50, seconds=spent + 0.001, seeds=0, say=lines.append)
    assert any("no time for another trial" in line for line in lines)
    assert len(table(folder)) < 5


@pytest.mark.slow
def test_a_trial_that_time_cut_short_goes_on_when_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PAUSE", "0.3")
    folder = tmp_path / "s"
    run(folder, trials=1, seeds=0)
    spent = json.loads((folder / "clock.json").read_text())["seconds"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunesmith.run.search.session.Session.expected", lambda session: 0.0)
        run(folder, trials=2, seconds=spent + 1.2, seeds=0)
    assert [row["state"] for row in table(folder)] == ["complete", "running"]
    run(folder, trials=2, seeds=0)
    assert [row["state"] for row in table(folder)] == ["complete", "complete"]


@pytest.mark.slow
def test_children_do_not_outlive_a_killed_search(tmp_path: Path) -> None:
    process = search_worker.start(tmp_path / "s", trials=30)
    while len(list((tmp_path / "s" / "trials").glob("*/events.jsonl"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(0.2)
    alive = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _bytes(p)]
    assert not alive


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def test_a_real_search_leaves_ordinary_runs(tiny_folders: Callable[[str], Path], tmp_path: Path) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"), train={"steps": 4})
    settings["forgetting"] = {"old_tasks": []}
    over = ["train.learning_rate=1e-3,1e-2"]
    found = run(tmp_path / "s", settings=settings, over=over, trials=2, seeds=0, engine=Forked())
    assert [trial.state for trial in found.trials] == ["complete", "complete"]
    for trial in found.trials:
        opened = open_run(found.book.trial(trial.number))
        scores = [seen.scores["accuracy"] for seen in course(opened.folder)]
        assert trial.values[0] == max(scores), "judged by validation examples"
    page = (tmp_path / "s" / "search.html").read_text()
    assert found.verdict.words in page


@pytest.mark.slow
def test_a_real_trial_is_pruned_by_not_asking_for_its_next_event(
    tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"),
                      train={"steps": 10, "evaluate_every": 2})  # fmt: skip
    settings["forgetting"] = {"old_tasks": []}
    over = ["train.learning_rate=1e-9..1e-2:log"]
    found = run(tmp_path / "s", settings=settings, over=over, trials=8, seeds=0, engine=Forked())
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        events = (found.book.trial(trial.number) / "events.jsonl").read_text().splitlines()
        assert json.loads(events[-1])["event"] == "evaluated"
        assert json.loads(events[-1])["step"] < 10
        assert not is_finished(found.book.trial(trial.number))
        assert not any((found.book.trial(trial.number) / name).exists() for name in (".work", "checkpoints"))


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_makes_the_same_trials(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    import ray
    from ray.cluster_utils import Cluster

    from tunesmith.run.search.launch_ray import RayEngine

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        engine = RayEngine(cluster.address, FAKE)
        run(tmp_path / "one", trials=10, engine=engine)
        engine = RayEngine(cluster.address, FAKE)
        found = run(tmp_path / "two", trials=6, jobs=2, seeds=1, engine=engine)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert table(tmp_path / "one") == table(whole)
    assert [trial.number for trial in found.trials] == list(range(6))
    assert all(trial.state in ("complete", "pruned") for trial in found.trials)


@pytest.mark.parametrize("name", ["a?1", "b#2 c", "d%20e", "{x}", "ü@:"])
def test_the_book_of_trials_lies_in_its_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    Trials(tmp_path / name, ["maximize"], seed=0).close()
    assert (tmp_path / name / "study.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
