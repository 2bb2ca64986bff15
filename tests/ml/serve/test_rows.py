"""Rows that come and go leave what the others remember as it was."""

import random
from collections.abc import Iterator

import pytest
import torch

from ml.serve import rows as rows_module
from ml.serve.language import Language
from ml.serve.rows import CausalRows
from ml.serve.runtimes import Options
from tests.ml.train.language import make_base

VOCABULARY = 40


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return Language(make_base(tmp_path_factory.mktemp("d") / "m", "causal", 64), Options())


@pytest.fixture(autouse=True)
def _nothing_is_learned() -> Iterator[None]:
    with torch.inference_mode():
        yield


def alone(decoder: Language, texts: list[list[int]]) -> torch.Tensor:
    return torch.stack([decoder.model(torch.tensor([text])).logits[0, -1] for text in texts])


def draw(dice: random.Random, most: int) -> list[int]:
    return [dice.randrange(VOCABULARY) for _ in range(dice.randint(1, most))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("more", [1, 5])
def test_each_row_goes_on_as_if_it_were_alone(
    decoder: Language, seed: int, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MORE_TOKENS", more)
    dice, rows, texts = random.Random(seed), CausalRows(decoder), list[list[int]]()
    for _ in range(60):
        gone = {place for place in range(len(texts)) if dice.random() < 0.2}
        gone |= {place for place, text in enumerate(texts) if len(text) > 50}
        if gone:
            stay = len(texts) - len(gone)
            # As they were, or the last ones in the gaps.
            kept = [place for place in range(len(texts)) if place not in gone]
            if dice.random() < 0.5:
                late = iter([place for place in kept if place >= stay])
                kept = [place if place not in gone else next(late) for place in range(stay)]
            rows.keep(kept)
            texts = [texts[place] for place in kept]
        if texts:
            tokens = [dice.randrange(VOCABULARY) for _ in texts]
            texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
            torch.testing.assert_close(rows.step(tokens), alone(decoder, texts))
        if len(texts) < 6 and dice.random() < 0.5:
            new = [draw(dice, 20) for _ in range(dice.randint(1, 3))]
            torch.testing.assert_close(rows.begin(new), alone(decoder, new))
            texts += new


@pytest.mark.parametrize(("gone", "new"), [(0, [7, 8, 9]), (2, [7])])
def test_what_a_row_leaves_behind_is_seen_by_nobody(
    decoder: Language, gone: int, new: list[int]
) -> None:
    texts = [[1, 2, 3], [4, 5], [6]]
    rows = CausalRows(decoder)
    rows.begin(texts)
    for layer in rows._cache.layers:
        layer.values[gone] = torch.nan
        layer.keys[gone] = torch.inf
    kept = [place for place in range(3) if place != gone]
    rows.keep(kept)
    rows.begin([new])

    texts = [*(texts[place] for place in kept), new]
    found = rows.step([12] * len(texts))
    torch.testing.assert_close(found, alone(decoder, [[*text, 12] for text in texts]))


def test_where_memory_ends_nothing_has_changed(
    decoder: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = CausalRows(decoder)
    rows.begin([[1, 2, 3]])
    last = rows._cache.layers[-1]

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(last, "make_room", fail)
    with pytest.raises(MemoryError):
        rows.begin([[4] * 20])
    torch.testing.assert_close(rows.step([5]), alone(decoder, [[1, 2, 3, 5]]))
