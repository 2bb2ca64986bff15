"""What training and serving ask of transformers alike; importing this makes it quiet."""

from __future__ import annotations

import logging
from typing import Any

import transformers

COUNTS_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "longformer")
"""Kinds of models whose first position is numbered after the padding token."""

transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def count_positions(model: Any, tokenizer: Any) -> int | None:
    """Tokens that the model takes at once; None: relative positions, as T5's, know no end."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    if model.config.model_type in COUNTS_FROM_PADDING:
        positions -= tokenizer.pad_token_id + 1
    most: int = tokenizer.model_max_length
    return min(positions, most)
