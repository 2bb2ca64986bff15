"""Each rule against a recorded course that shows it, and against one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from ml.config import parse_config
from ml.diagnosis import Facts, Finding, diagnose, split_time

CONFIG = parse_config({"dataset": "d", "learning_rate": 0.01, "batch_size": 32}).to_dict()


def facts(**recorded: Any) -> Facts:
    config = {**CONFIG, **recorded.pop("config", {})}
    return Facts(config=config, **recorded)


def epochs(
    loss: list[float], val_loss: list[float] | None = None, **extra: float
) -> list[dict[str, Any]]:
    return [
        {
            "epoch": number,
            "loss": one,
            "accuracy": None,
            "val_loss": val_loss[number - 1] if val_loss else None,
            "val_accuracy": None,
            "extra": extra,
        }
        for number, one in enumerate(loss, 1)
    ]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def falling(count: int, start: float = 2.0) -> list[float]:
    return [start * 0.97**step + 0.05 for step in range(count)]


def test_nothing_recorded_is_nothing_found() -> None:
    assert diagnose(facts()) == []
    assert split_time(facts()) is None


def test_a_course_that_goes_well_stands_out_in_nothing() -> None:
    losses = [1.2, 0.7, 0.5, 0.4, 0.33, 0.28]
    well = facts(
        epochs=epochs(losses, [loss + 0.05 for loss in losses], duration_seconds=9.0),
        loss=falling(200),
        seconds={"data_seconds": [0.001] * 50, "compute_seconds": [0.02] * 50},
        confusion={"classes": ["a", "b"], "confusion": [[40, 5], [4, 51]]},
        device="cuda:0",
        gpu_count=1,
        gpu_busy_percent=[93.0] * 60,
    )
    assert diagnose(well) == []


def test_waiting_for_data_says_the_share_and_the_batch_to_try() -> None:
    seconds = {"data_seconds": [0.012] * 40, "compute_seconds": [0.023] * 40}
    found = only(diagnose(facts(seconds=seconds, device="cuda:0")))
    assert found.code == "waits_for_data"
    assert found.sentence == (
        "The GPU waited for data 34 % of the time (12 ms of the 35 ms of a step):"
        " try batch_size=64."
    )


def test_a_few_steps_are_no_evidence_of_waiting() -> None:
    seconds = {"data_seconds": [0.012] * 5, "compute_seconds": [0.023] * 5}
    assert diagnose(facts(seconds=seconds)) == []


def test_validation_that_takes_half_of_an_epoch_is_named() -> None:
    rows = epochs([0.5, 0.4], validation_seconds=4.0, duration_seconds=8.0)
    found = only(diagnose(facts(epochs=rows, checkpoint_seconds=0.5)))
    assert found.code == "spends_on_epoch_ends"
    assert "smaller validation_split than 0.2" in found.sentence


def test_checkpoints_on_a_slow_disk_are_named() -> None:
    rows = epochs([0.5, 0.4], validation_seconds=0.5, duration_seconds=4.0)
    found = only(diagnose(facts(epochs=rows, checkpoint_seconds=6.0)))
    assert "faster disk" in found.sentence


def test_an_idle_gpu_gets_larger_steps_to_do() -> None:
    found = only(diagnose(facts(device="cuda:0", gpu_busy_percent=[18.0] * 30)))
    assert found.code == "leaves_gpu_idle"
    assert "18 %" in found.sentence
    assert "30 readings" in found.sentence
    assert "batch_size=64" in found.sentence


def test_without_readings_nothing_is_said_of_the_gpu() -> None:
    assert diagnose(facts(device="cuda:0", gpu_busy_percent=[18.0] * 3)) == []


def test_a_gpu_that_was_left_out_is_offered() -> None:
    found = only(diagnose(facts(config={"device": "cpu"}, device="cpu", gpu_count=2)))
    assert found.code == "leaves_gpu_unused"
    assert "2 GPUs" in found.sentence


def test_the_first_value_that_is_no_number_leads_to_a_smaller_rate() -> None:
    found = only(diagnose(facts(not_finite=("loss", 1234), loss=falling(100) + [9.0] * 50)))
    assert found.level == "warning"
    assert found.sentence == (
        "The loss was no longer a number at step 1,234: try learning_rate=0.001 (it was 0.01)."
    )


def test_a_loss_that_rises_again_has_too_large_steps() -> None:
    found = only(diagnose(facts(loss=[*falling(100), *[0.4 + 0.01 * n for n in range(60)]])))
    assert found.code == "steps_too_far"
    assert "learning_rate=0.0033" in found.sentence


def test_spikes_are_counted() -> None:
    loss = falling(200)
    for step in (60, 90, 150):
        loss[step] *= 5
    found = only(diagnose(facts(loss=loss)))
    assert (found.code, found.evidence["spikes"]) == ("loss_spikes", 3)


def test_two_spikes_are_no_habit() -> None:
    loss = falling(200)
    loss[60], loss[90] = 9.0, 9.0
    assert diagnose(facts(loss=loss)) == []


def test_learning_by_heart_says_since_when_and_what_helps() -> None:
    rows = epochs([1.0, 0.6, 0.4, 0.3, 0.2, 0.1], [1.0, 0.7, 0.6, 0.65, 0.72, 0.8])
    found = only(diagnose(facts(epochs=rows)))
    assert found.code == "overfits"
    assert "since epoch 3: val_loss rose from 0.6 to 0.8" in found.sentence
    assert "loss fell from 0.4 to 0.1" in found.sentence
    assert "early_stopping_patience=3" in found.sentence
    assert "dropout=0.3" in found.sentence


def test_what_is_already_set_against_it_is_not_proposed_again() -> None:
    rows = epochs([1.0, 0.6, 0.4, 0.3, 0.2, 0.1], [1.0, 0.7, 0.6, 0.65, 0.72, 0.8])
    config = {"early_stopping_patience": 5, "dropout": 0.5, "weight_decay": 0.1}
    found = only(diagnose(facts(epochs=rows, config=config)))
    assert found.sentence.endswith("try more data.")


def test_a_val_loss_that_rises_with_the_loss_is_no_learning_by_heart() -> None:
    rows = epochs([0.5, 0.4, 0.5, 0.6, 0.7], [0.6, 0.5, 0.6, 0.7, 0.8])
    assert diagnose(facts(epochs=rows)) == []


def test_a_val_loss_that_swings_wants_smaller_steps_and_is_no_learning_by_heart() -> None:
    losses = [1.4, 0.9, 0.8, 0.75, 0.746, 0.73, 0.74, 0.72, 0.70, 0.69, 0.676]
    swinging = [1.4, 1.0, 0.84, 0.87, 0.491, 0.62, 0.9, 0.54, 0.537, 0.53, 0.719]
    found = only(diagnose(facts(epochs=epochs(losses, swinging))))
    assert found.code == "swings"
    assert "between 0.491 and 0.9 in the last 7" in found.sentence
    assert "learning_rate=0.0033" in found.sentence


def test_an_even_slow_fall_wants_larger_steps() -> None:
    found = only(diagnose(facts(epochs=epochs([2.31, 2.30, 2.29, 2.28, 2.27, 2.26]))))
    assert found.code == "learns_too_slowly"
    assert "learning_rate=0.1 (it is 0.01)" in found.sentence


def test_a_fall_that_has_ended_wants_no_larger_steps() -> None:
    rows = epochs([2.31, 2.25, 2.249, 2.248, 2.247])
    assert diagnose(facts(epochs=rows)) == []


def test_a_plateau_says_since_when() -> None:
    rows = epochs(
        [1.0, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
        [1.1, 0.6, 0.500, 0.501, 0.5, 0.501, 0.5, 0.5],
    )
    found = only(diagnose(facts(epochs=rows)))
    assert found.code == "stands_still"
    assert "since epoch 3: val_loss stays at 0.5" in found.sentence


def test_a_model_that_names_the_largest_class_every_time() -> None:
    table = {"classes": ["no", "yes"], "confusion": [[90, 0], [10, 0]]}
    found = only(diagnose(facts(confusion=table)))
    assert found.code == "answers_one_class"
    assert "'no' for 100 %" in found.sentence
    assert "accuracy of 90 % says nothing" in found.sentence


def test_one_answer_for_even_classes_is_no_imbalance() -> None:
    table = {"classes": ["a", "b"], "confusion": [[50, 0], [50, 0]]}
    assert "learning_rate" in only(diagnose(facts(confusion=table))).sentence


def test_a_model_better_than_the_majority_is_left_alone() -> None:
    table = {"classes": ["no", "yes"], "confusion": [[88, 2], [3, 7]]}
    assert diagnose(facts(confusion=table)) == []


def test_warnings_come_before_notes() -> None:
    found = diagnose(
        facts(not_finite=("grad_norm", 9), device="cuda:0", gpu_busy_percent=[5.0] * 20)
    )
    assert [one.level for one in found] == ["warning", "note"]
    assert found[0].sentence.startswith("The gradient")


@pytest.mark.parametrize("part", ["data_seconds", "optimizer_seconds"])
def test_the_split_of_time_says_only_what_was_measured(part: str) -> None:
    assert split_time(facts(seconds={part: [1.0, 3.0], "compute_seconds": []})) == {part: 2.0}
