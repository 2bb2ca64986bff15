"""Which rows are held back: the dataset's own word, its groups, else a drawn share."""

import numpy as np

from ml.train.held_back import hold_back


def held(
    targets: np.ndarray,
    splits: list[str] | None = None,
    groups: list[str] | None = None,
    seed: int = 0,
) -> tuple[list[int], list[int], list[str]]:
    told: list[str] = []
    train, validation = hold_back(
        targets,
        0.2,
        seed,
        splits=np.array(splits) if splits else None,
        groups=np.array(groups) if groups else None,
        warn=told.append,
    )
    return train.tolist(), validation.tolist(), told


def test_the_column_decides_and_says_so() -> None:
    train, validation, told = held(np.arange(4), ["train", "validation", "test", "train"])
    assert (train, validation) == ([0, 3], [1])
    (sentence,) = told
    assert "'split' holds back 1 of 4 rows; validation_split is ignored" in sentence


def test_test_rows_are_held_back_where_none_are_called_validation() -> None:
    train, validation, _ = held(np.arange(3), ["train", "test", "train"])
    assert (train, validation) == ([0, 2], [1])


def test_a_group_is_never_parted() -> None:
    groups = [str(row // 7) for row in range(140)]
    train, validation, told = held(np.arange(140) % 2, groups=groups)
    assert not {groups[row] for row in train} & {groups[row] for row in validation}
    assert 0.2 * 140 <= len(validation) <= 0.2 * 140 + 7
    assert told == []


def test_groups_are_drawn_by_the_seed() -> None:
    groups = [str(row // 7) for row in range(140)]
    first, again, other = (held(np.arange(140), groups=groups, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_without_either_each_class_gives_its_share() -> None:
    targets = np.array([0] * 50 + [1] * 10)
    _, validation, _ = held(targets)
    assert np.bincount(targets[validation]).tolist() == [10, 2]
