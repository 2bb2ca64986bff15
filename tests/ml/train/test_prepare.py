"""ml.train.prepare and metrics: the arithmetic between a dataset and a network."""

from typing import Any

import numpy as np
import pytest
import torch

from ml.config import NetworkConfig, parse_config
from ml.train import metrics
from ml.train.held_back import split_rows
from ml.train.prepare import decide_task, encode_classes
from ml.train.steps import balanced_weights, epoch_order, learning_rate


def config(**fields: Any) -> NetworkConfig:
    found = parse_config({"dataset": "digits", **fields})
    assert isinstance(found, NetworkConfig)
    return found


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (np.array(["a", "b"], object), "classification"),
        (np.arange(20), "classification"),
        (np.arange(200), "regression"),
        (np.repeat(np.arange(50), 10), "classification"),
        (np.array([1.5, 2.5]), "regression"),
    ],
)
def test_the_task_follows_from_the_target(target: np.ndarray, task: str) -> None:
    assert decide_task(config(), target) == task


def test_the_task_named_or_the_loss_named_decides() -> None:
    numbers = np.arange(3)
    assert decide_task(config(task="regression"), numbers) == "regression"
    assert decide_task(config(loss_function="mae"), numbers) == "regression"
    assert decide_task(config(loss_function="cross_entropy"), np.arange(200)) == "classification"


def test_whole_numbers_written_as_floats_are_whole_classes() -> None:
    values, classes = encode_classes(np.array([2.0, 0.0, 2.0]))
    assert (values.tolist(), classes) == ([1, 0, 1], [0, 2])


def test_the_split_keeps_the_balance_of_the_classes() -> None:
    targets = np.array([0] * 80 + [1] * 20)
    train, validation = split_rows(targets, 0.2, seed=3, stratify=True)
    assert np.bincount(targets[validation]).tolist() == [16, 4]
    assert sorted([*train, *validation]) == list(range(100))


def test_a_class_of_one_row_is_learned_from() -> None:
    train, validation = split_rows(np.array([0, 0, 0, 0, 1]), 0.9, seed=0, stratify=True)
    assert 4 in train
    assert len(validation) == 3


def test_the_split_depends_on_the_seed_alone() -> None:
    targets = np.zeros(50)
    first, again, other = (split_rows(targets, 0.2, seed, stratify=False) for seed in (1, 1, 2))
    assert first[1].tolist() == again[1].tolist() != other[1].tolist()


def test_balanced_weights_make_every_class_count_the_same() -> None:
    targets = np.array([0] * 6 + [1] * 3 + [2])
    weights = balanced_weights(targets, 3, torch.device("cpu")).numpy()
    assert (np.bincount(targets) * weights).tolist() == pytest.approx([10 / 3] * 3)


def test_every_epoch_has_its_own_order_of_the_same_rows() -> None:
    rows = np.arange(10, 40)
    first, second = epoch_order(rows, 3, 1), epoch_order(rows, 3, 2)
    assert first.tolist() != second.tolist()
    assert sorted(first) == sorted(second) == rows.tolist()
    assert epoch_order(rows, 3, 2).tolist() == second.tolist()


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("step", [0.5, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_the_learning_rate_rises_and_follows_its_schedule(
    scheduler: str, rates: list[float]
) -> None:
    settings = config(scheduler=scheduler, warmup_ratio=0.25, learning_rate=1)
    assert [learning_rate(settings, step, 8) for step in range(8)] == pytest.approx(rates)


def test_the_cosine_falls_from_all_to_almost_nothing() -> None:
    settings = config(scheduler="cosine", learning_rate=1)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates == sorted(rates, reverse=True)
    assert [rates[0], rates[50], rates[99]] == pytest.approx([1.0, 0.5, 0.0], abs=0.001)


def test_scores_of_a_small_example_worked_by_hand() -> None:
    truth, guess = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    confusion = metrics.confusion_matrix(truth, guess, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert metrics.accuracy(confusion) == pytest.approx(4 / 6)
    assert metrics.macro_f1(confusion) == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)


def test_errors_of_a_small_regression_worked_by_hand() -> None:
    found = metrics.regression_metrics(np.array([1.0, 3.0]), np.array([2.0, 3.0]))
    assert found == {"mae": 0.5, "rmse": pytest.approx(0.5**0.5), "r2": 0.5}


def test_r2_is_unknown_where_the_truth_never_varies() -> None:
    assert metrics.regression_metrics(np.ones(2), np.zeros(2))["r2"] is None
