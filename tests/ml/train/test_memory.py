"""When memory runs out in mid-step: smaller parts, then less kept, then the numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ml import failpoints
from ml.exits import EXIT_CODES
from ml.rundir import RunDir, read_json
from ml.train.recipes.causal import CausalTask
from ml.train.recipes.network import NetworkTask
from tests.ml.train.language import SCRATCH, make_language_run, make_rows, rows_for
from tests.ml.train.runs import events, history, make_pictures, make_run, train
from tests.ml.train.test_resume import pause_at_step, weights

FIELDS: dict[str, Any] = {
    "architecture": "cnn",
    "channels": [4],
    "epochs": 2,
    "batch_size": 8,
    "dropout": 0,
}


def give_memory_for(
    samples: int, task: type[Any], monkeypatch: pytest.MonkeyPatch, *, may_save: bool = False
) -> None:
    """More samples at once fail as CUDA does: after something was computed, in mid-step."""
    loss: Callable[..., Any] = task.loss

    def limited(self: Any, batch: Any) -> Any:
        found = loss(self, batch)
        inputs = batch[0] if isinstance(batch, tuple) else batch["input_ids"]
        is_saving = may_save and self.saves_memory
        if self.module.training and len(inputs) > samples and not is_saving:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return found

    monkeypatch.setattr(task, "loss", limited)


def warnings(run: RunDir, attempt: int = 1) -> list[str]:
    return [event["message"] for event in events(run, attempt, "warning")]


def test_a_step_that_does_not_fit_is_taken_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_pictures(tmp_path / "data", 40)
    parts = make_run(
        tmp_path / "parts", dataset, **{**FIELDS, "batch_size": 2, "gradient_accumulation": 4}
    )
    assert train(parts) == 0
    run = make_run(tmp_path / "run", dataset, **FIELDS)
    give_memory_for(2, NetworkTask, monkeypatch)
    assert train(run) == 0
    assert [words.split(": ")[1] for words in warnings(run)] == [
        "from here on 4 samples are taken at once instead of 8.",
        "from here on 2 samples are taken at once instead of 4.",
    ]
    assert weights(run) == weights(parts)  # the failed tries left nothing behind
    assert history(run, 1) == history(parts, 1)


def test_the_smaller_parts_outlive_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_pictures(tmp_path / "data", 40)
    give_memory_for(3, NetworkTask, monkeypatch)
    whole = make_run(tmp_path / "whole", dataset, **FIELDS)
    assert train(whole) == 0
    run = make_run(tmp_path / "run", dataset, **FIELDS)
    pause_at_step(run, 3, monkeypatch)
    assert train(run, attempt=2) == 0
    assert warnings(run, 2) == []
    assert weights(run) == weights(whole)


def test_a_language_model_keeps_less_before_it_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("causal", 12))
    run = make_language_run(tmp_path / "run", "causal", dataset, **SCRATCH, epochs=1)
    give_memory_for(0, CausalTask, monkeypatch, may_save=True)
    assert train(run) == 0
    assert "activations are computed twice instead of kept" in warnings(run)[-1]
    newest = run.complete_checkpoints()[-1]
    state = read_json(newest / "state.json") or {}
    assert (state["micro_batch"], state["saves_memory"]) == (1, True)


@pytest.mark.parametrize("recipe", ["network", "causal", "classify"])
def test_an_evaluation_that_does_not_fit_begins_again_with_fewer_samples(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str) -> RunDir:
        if recipe == "network":
            return make_run(tmp_path / name, dataset, **FIELDS)
        return make_language_run(tmp_path / name, recipe, dataset, **SCRATCH)

    data = tmp_path / "data"
    dataset = make_pictures(data, 40) if recipe == "network" else make_rows(data, rows_for(recipe))
    whole, run = make("whole"), make("run")
    assert train(whole) == 0
    monkeypatch.setenv(failpoints.SWITCH, "1")
    monkeypatch.setenv(failpoints.PLAN, "evaluation.before_batch:oom")
    failpoints._passed.clear()
    assert train(run) == 0
    before = 512 if recipe == "network" else 8
    [told] = warnings(run)
    assert f"{before // 2} samples are evaluated at once instead of {before}." in told
    assert weights(run) == weights(whole)  # what is measured does not touch what is learned
    assert [each["epoch"] for each in events(run, type="epoch")] == [1, 2]


def test_what_never_fits_an_evaluation_fails_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(NetworkTask, "evaluate", never)
    run = make_run(tmp_path / "run", make_pictures(tmp_path / "data", 40), **FIELDS)
    assert train(run) == EXIT_CODES["gpu_out_of_memory"]
    assert "evaluate a single sample" in (run.read_result(1) or {})["error"]["message"]


def test_what_never_fits_fails_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_pictures(tmp_path / "data", 40)
    run = make_run(tmp_path / "run", dataset, **FIELDS)
    give_memory_for(0, NetworkTask, monkeypatch)
    assert train(run) == EXIT_CODES["gpu_out_of_memory"]
    message = (run.read_result(1) or {})["error"]["message"]
    assert "not enough for a single sample and 596 weights" in message
    assert "take a smaller model, shorter samples, or LoRA" in message
