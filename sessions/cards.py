"""The first card of a model: what its recipe wrote, or what follows from how it was trained."""

from __future__ import annotations

from typing import Any

from ml.rundir import RunDir
from sessions.models import TrainingSession

README = "README.md"
MOST_CHARACTERS = 20_000
LEARNED = {
    "causal": "to go on with a text",
    "text2text": "to turn one text into another",
    "classify": "to tell texts apart",
}
FIGURES = {
    "val_loss": "validation loss",
    "perplexity": "perplexity on held-back samples",
    "bits_per_byte": "bits per byte of held-back texts",
    "val_accuracy": "tokens foretold rightly",
    "exact_match": "answers that match exactly",
    "macro_f1": "macro F1",
}


def write_card(session: TrainingSession, run: RunDir, metrics: dict[str, Any]) -> str:
    """Markdown, or nothing where nothing is to be said beside metrics and lineage."""
    path = run.model_path / README
    if path.exists():
        return path.read_text("utf-8", errors="replace")[:MOST_CHARACTERS]
    if session.config.get("from_scratch"):
        return _small_language_model(session, metrics)
    return ""


def _small_language_model(session: TrainingSession, metrics: dict[str, Any]) -> str:
    config, version = session.config, session.dataset_version
    size = f"{config['layers']} layers of width {config['hidden_size']}"
    figures = "\n".join(
        f"* {label}: {metrics[name]:.3g}"
        for name, label in FIGURES.items()
        if metrics.get(name) is not None
    )
    return (
        f"A small language model ({size}, at most {config['vocabulary_size']:,} tokens) that "
        f"learned {LEARNED[session.recipe]} from nothing but {version}.\n\n"
        f"## How good it is\n\n{figures}\n\n"
        "## What it can and cannot do\n\n"
        "What it writes looks like its training data and means little: it has read nothing else, "
        "knows no facts, and does not understand a task. It sees no more than "
        f"{config['max_length']} tokens at once. Give it the beginning of something like its "
        "training data, without blanks at the end. Use nothing of it unread.\n"
    )
