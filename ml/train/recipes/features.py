"""The recipe `features`: scikit-learn on tables, texts and code; one pass, exported as ONNX.

There is nothing to pause: an interrupted training begins again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ml.config import MISFITS, FeaturesConfig
from ml.data import Images, Table
from ml.features import model
from ml.features.card import write_card
from ml.features.evaluate import Figures, answer, measure, measure_sources
from ml.features.inputs import choose_input
from ml.features.learn import Fitted, NoFeatures, choose_algorithm, fit_table, fit_texts
from ml.rundir import Journal, RunDir
from ml.train import metrics
from ml.train.checkpoint import write_files
from ml.train.control import POLL_SECONDS, Control
from ml.train.errors import Cancelled, TrainingFailed
from ml.train.export import as_json, replace_model
from ml.train.held_back import hold_back
from ml.train.prepare import (
    column_encoding,
    encode_classes,
    encode_numbers,
    load_data,
    target_of,
    task_of,
)
from ml.train.state import Progress

Result = TypeVar("Result")
SOURCE = "source"
"""A column of this name says where a row comes from: figures are told for each of its values."""
MOST_SOURCES = 20


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What is learned from what; rows are counted over the whole dataset."""

    kind: str
    """table, text or code."""
    columns: dict[str, np.ndarray]
    """The inputs: all features of a table, else the one column with texts."""
    categories: dict[str, list[str]]
    target_name: str
    targets: np.ndarray
    classes: list[Any] | None
    train_rows: np.ndarray
    validation_rows: np.ndarray
    sources: np.ndarray | None


def read_samples(config: FeaturesConfig, folder: Path, warn: Callable[[str], None]) -> Samples:
    """Raises TrainingFailed with data_error or spec_error; relative paths start at `folder`."""
    data = load_data(config.dataset, config.target, folder)
    if isinstance(data, Images):
        sentence = "recipe features learns from tables and texts; for images choose network."
        raise TrainingFailed("spec_error", sentence)
    target, target_name = target_of(data)
    task = config.task if config.task != "auto" else task_of(target)
    if config.algorithm in MISFITS[task]:
        sentence = f"algorithm {config.algorithm} does not fit a {task}, which the target asks for."
        raise TrainingFailed("spec_error", sentence)
    classes: list[Any] | None = None
    if task == "classification":
        targets, classes = encode_classes(target)
    else:
        targets = encode_numbers(target)
    train_rows, validation_rows = hold_back(
        targets,
        config.validation_split,
        config.seed,
        splits=data.splits,
        groups=data.groups,
        warn=warn,
    )
    kind, columns = _inputs(config, data)
    return Samples(
        kind=kind,
        columns=columns,
        categories=_categories(columns, train_rows, warn) if kind == "table" else {},
        target_name=target_name or "target",
        targets=targets,
        classes=classes,
        train_rows=train_rows,
        validation_rows=validation_rows,
        sources=_sources(data),
    )


def _inputs(config: FeaturesConfig, data: Table) -> tuple[str, dict[str, np.ndarray]]:
    try:
        kind, column = choose_input(config.input, config.text_column, data.features)
    except ValueError as error:
        raise TrainingFailed("spec_error", str(error)) from error
    if not data.features:
        raise TrainingFailed("data_error", "The dataset has no column besides the target.")
    return kind, dict(data.features) if column is None else {column: data.features[column]}


def _categories(
    columns: dict[str, np.ndarray], train_rows: np.ndarray, warn: Callable[[str], None]
) -> dict[str, list[str]]:
    """The texts of each column of text, with the checks and warnings of recipe network."""
    warnings: list[str] = []
    encodings = {
        name: column_encoding(name, [values], train_rows, warnings)
        for name, values in columns.items()
    }
    for warning in warnings:
        warn(warning)
    return {name: each["categories"] for name, each in encodings.items() if "categories" in each}


def _sources(data: Table) -> np.ndarray | None:
    values = data.features.get(SOURCE)
    if values is None or values.dtype.kind != "O":
        return None
    named = np.array([str(value) for value in values])
    return named if len(np.unique(named)) <= MOST_SOURCES else None


def evaluate(fitted: Fitted, samples: Samples) -> tuple[Figures, list[Figures]]:
    """Figures of the rows that were learned from, and of those held back by source."""
    train, validation = samples.train_rows, samples.validation_rows
    learned = measure("train", _answers(fitted, samples, train), samples.targets[train])
    if not len(validation):
        return learned, []
    sources = None if samples.sources is None else samples.sources[validation]
    answers = _answers(fitted, samples, validation)
    return learned, measure_sources(answers, samples.targets[validation], sources)


def _answers(fitted: Fitted, samples: Samples, rows: np.ndarray) -> np.ndarray:
    return answer(fitted, {name: values[rows] for name, values in samples.columns.items()})


class FeaturesTraining:
    """One attempt, with what the trainer asks of any training: progress, elapsed(), train()."""

    def __init__(self, run: RunDir, config: FeaturesConfig, journal: Journal) -> None:
        self.run = run
        self.config = config
        self.journal = journal
        self.control = Control(run)
        self.progress = Progress(micro_batch=1)
        self.began = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def train(self) -> dict[str, Any]:
        """Run to the end; the metrics of the exported model. Raises Cancelled, TrainingFailed."""
        samples = read_samples(self.config, self.run.path, self._warn)
        self._tell_start(samples)
        fitted = self._beside(lambda: self._fit(samples))
        learned, held_back = self._beside(lambda: evaluate(fitted, samples))
        record = self._record(learned, held_back)
        self.progress.history.append(record)
        self.progress.epoch = self.progress.step = 1
        replace_model(self.run, lambda folder: self._export(folder, fitted, samples, held_back))
        self.journal.write("step", step=1, epoch=1, loss=learned.loss)
        if held_back and held_back[0].confusion is not None:
            for type_, event in metrics.confusion_events(
                held_back[0].confusion, samples.classes or []
            ):
                self.journal.write(type_, epoch=1, **event)
        self.journal.write("epoch", **record)
        found = {**record, **record["extra"]}
        for name in ("epoch", "extra", "duration_seconds"):
            found.pop(name, None)
        return {name: value for name, value in found.items() if value is not None}

    def _record(self, learned: Figures, held_back: list[Figures]) -> dict[str, Any]:
        """What one epoch says of itself; accuracies by source stand in `extra`."""
        extra: dict[str, Any] = {"duration_seconds": round(self.elapsed(), 4)}
        for place, figures in enumerate(held_back):
            of = f"_{figures.of}" if place else ""
            extra |= {f"{name}{of}": value for name, value in figures.values.items()}
        validation = held_back[0] if held_back else None
        return {
            "epoch": 1,
            "loss": learned.loss,
            "accuracy": learned.values.get("accuracy"),
            "val_loss": validation.loss if validation else None,
            "val_accuracy": extra.pop("accuracy", None),
            "extra": extra,
        }

    def _tell_start(self, samples: Samples) -> None:
        self.journal.write(
            "started",
            resumed_from_epoch=0,
            resumed_from_step=0,
            total_epochs=1,
            total_steps=1,
            history=[],
        )
        what = "classification" if samples.classes else "regression"
        algorithm = choose_algorithm(self.config, samples.classes is not None)
        counts = f"{len(samples.train_rows)} rows to learn from, {len(samples.validation_rows)}"
        message = f"{what} of {samples.kind} with {algorithm}; {counts} held back for validation"
        self.journal.write("log", level="info", message=message)

    def _fit(self, samples: Samples) -> Fitted:
        rows = samples.train_rows
        columns = {name: values[rows] for name, values in samples.columns.items()}
        targets, classes = samples.targets[rows], samples.classes
        if samples.kind == "table":
            return fit_table(self.config, columns, samples.categories, targets, classes)
        ((name, texts),) = columns.items()
        known = [text or "" for text in texts]
        try:
            return fit_texts(self.config, samples.kind, name, known, targets, classes)
        except NoFeatures as error:
            raise TrainingFailed("data_error", str(error)) from error

    def _beside(self, work: Callable[[], Result]) -> Result:
        """Work in a thread, and look meanwhile whether it is still wanted.

        The thread cannot be stopped; it dies with the process.
        """
        results: list[Result] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001  (raised again below, by the caller)
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            if self.control.wanted() == "cancel":
                raise Cancelled
            thread.join(POLL_SECONDS)
        if errors:
            raise errors[0]
        return results[0]

    def _export(
        self, folder: Path, fitted: Fitted, samples: Samples, held_back: list[Figures]
    ) -> None:
        algorithm = choose_algorithm(self.config, samples.classes is not None)
        config = {
            "framework": "onnx",
            "recipe": "features",
            "task": "regression" if samples.classes is None else "classification",
            "algorithm": algorithm,
            "signature": fitted.signature(),
        }
        card = write_card(
            algorithm=algorithm,
            preprocess=fitted.preprocess,
            target=samples.target_name,
            train_rows=len(samples.train_rows),
            figures=held_back,
        )
        write_files(
            folder,
            {
                "model.onnx": fitted.onnx,
                "config.json": as_json(config),
                "preprocess.json": as_json(fitted.preprocess),
                "model.py": Path(model.__file__).read_bytes(),
                "README.md": card.encode(),
            },
        )

    def _warn(self, message: str) -> None:
        self.journal.write("warning", message=message)
