"""Packed texts: every token is learned from once, nothing is padded, parts are never mixed."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml.config import CausalConfig, parse_config
from ml.rundir import RunDir
from ml.train.ranks import Ranks
from ml.train.recipes.causal import CausalTask
from ml.train.recipes.packing import cut_blocks, join_texts
from ml.train.recipes.tokens import IGNORED
from ml.train.steps import epoch_order
from tests.ml.train.language import SCRATCH, make_language_run, make_rows
from tests.ml.train.runs import events, history, train
from tests.ml.train.test_resume import pause_at_step, weights

TEXTS = [f"{number}: " + "la " * (number * 7 % 40) + f"end {number}" for number in range(30)]
ROWS = [
    {"text": text, "split": "validation" if number % 5 == 0 else "train"}
    for number, text in enumerate(TEXTS)
]
PARTS = {
    name: [row["text"] for row in ROWS if row["split"] == name] for name in ("train", "validation")
}


def make_task(tmp_path: Path, **fields: Any) -> CausalTask:
    dataset = make_rows(tmp_path / "data", ROWS)
    given = {"recipe": "causal", "dataset": {"path": str(dataset)}, "max_length": 24, **SCRATCH}
    config = parse_config({**given, **fields})
    assert isinstance(config, CausalConfig)
    return CausalTask(config, tmp_path, torch.device("cpu"), lambda message: None)


def told(task: CausalTask, rows: np.ndarray) -> str:
    """What these rows teach, in their order."""
    tokens = [label for row in rows for label in task.labels[row].tolist() if label != IGNORED]
    text: str = task.tokenizer.decode(tokens)
    return text


def test_a_block_begins_with_the_last_token_of_the_one_before() -> None:
    stream = list(itertools.chain.from_iterable(join_texts([[5, 6, 7], [], [8]], end=1)))
    assert stream == [1, 5, 6, 7, 1, 1, 8, 1]
    starts, ends = cut_blocks(len(stream), 4)
    blocks = [stream[start:end] for start, end in zip(starts, ends, strict=True)]
    assert blocks == [[1, 5, 6, 7], [7, 1, 1, 8], [8, 1]]
    assert len(cut_blocks(1, 4)[0]) == 0, "an end of text alone teaches nothing"


def test_every_text_is_learned_whole_and_in_its_own_part(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    for rows, name in ((task.train_rows, "train"), (task.validation_rows, "validation")):
        assert told(task, rows) == "".join(f"<s>{text}</s>" for text in PARTS[name])
        tokens = task.tokenizer(PARTS[name])["input_ids"]
        assert task.weight(rows) == sum(len(text) + 1 for text in tokens)


def test_only_the_last_block_of_each_part_may_be_short(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    for rows in (task.train_rows, task.validation_rows):
        assert {len(task.inputs[row]) for row in rows[:-1]} == {24}
        assert bool(task.batch(rows[:-1])["attention_mask"].all())


def test_ranks_have_each_block_once(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    order = epoch_order(task.train_rows, seed=3, epoch=1)
    dealt = [Ranks(rank, 2).deal(order) for rank in (0, 1)]
    assert sorted(np.concatenate(dealt)) == task.train_rows.tolist()


def test_without_packing_a_text_is_a_sample_and_what_is_lost_is_told(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", ROWS)
    fields = {**SCRATCH, "packing": False, "epochs": 1}
    run = make_language_run(tmp_path / "run", "causal", dataset, **fields)
    assert train(run) == 0
    [cut] = [each["message"] for each in events(run, type="warning") if "cut" in each["message"]]
    assert "of 30 texts are longer than 24 tokens and cut: " in cut
    assert "tokens" in cut.split("cut: ")[1]
    assert "bits_per_byte" not in events(run, type="epoch")[0]["extra"]


def packed_run(tmp_path: Path, name: str = "run") -> RunDir:
    data = tmp_path / "data"
    dataset = data if data.exists() else make_rows(data, ROWS)
    return make_language_run(tmp_path / name, "causal", dataset, **SCRATCH, dropout=0.1)


def test_the_figures_are_those_of_every_held_back_token(tmp_path: Path) -> None:
    """Reckoned once more from the exported folder alone, text after text."""
    run = packed_run(tmp_path)
    assert train(run) == 0
    metrics = (run.read_result(1) or {})["metrics"]
    model: Any = AutoModelForCausalLM.from_pretrained(run.model_path)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(run.model_path)
    texts = "".join(f"<s>{text}</s>" for text in PARTS["validation"])
    stream = tokenizer(f"</s>{texts}", add_special_tokens=False, return_tensors="pt")["input_ids"]
    nats = count = 0.0
    with torch.inference_mode():
        for start in range(0, stream.shape[1] - 1, 23):
            block = stream[:, start : start + 24]
            nats += model(input_ids=block, labels=block).loss.item() * (block.shape[1] - 1)
            count += block.shape[1] - 1
    assert count == stream.shape[1] - 1
    assert metrics["val_loss"] == pytest.approx(nats / count, rel=1e-4)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-3)
    size = sum(len(text.encode()) for text in PARTS["validation"])
    assert metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_samples_begin_where_held_back_texts_do(tmp_path: Path) -> None:
    run = packed_run(tmp_path)
    assert train(run) == 0
    samples = events(run, type="sample")[-1]["samples"]
    assert len(samples) == 2
    for sample in samples:
        asked = sample["prompt"] + sample["expected"]
        assert any(text.startswith(asked) for text in PARTS["validation"])


def test_a_pause_in_mid_epoch_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = packed_run(tmp_path, "whole")
    assert train(whole) == 0
    run = packed_run(tmp_path)
    pause_at_step(run, 3, monkeypatch)
    assert train(run, attempt=2) == 0
    [started] = events(run, 2, "started")
    assert 0 < started["resumed_from_step"] < started["total_steps"]
    assert weights(run) == weights(whole)
    assert history(run, 2) == history(whole, 1)
