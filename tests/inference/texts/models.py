"""Random language models in folders of the registry."""

import json
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer

from ml.train.recipes.causal import CHAT_TEMPLATE
from tests.ml.serve.models import write_features
from tests.ml.train.language import make_base

POSITIONS = 128
KINDS = (("code-generator", "causal"), ("turner", "text2text"))
"""`turner` is asked by one test alone, which has it loaded."""


def make_models(root: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each, and its task."""
    for name, task in KINDS:
        yield make_base(root / name / "v1", task, POSITIONS), task
    chat = make_base(root / "chatter" / "v1", "causal", POSITIONS)
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(chat)
    yield chat, "causal"
    yield write_features(root / "code-security" / "v1", "code"), "classification"
    yield make_base(root / "moods" / "v1", "classify", POSITIONS), "classify"
    encoder = make_base(root / "encoder" / "v1", "classify", POSITIONS)
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, "architectures": ["RobertaModel"]}))
    yield encoder, "embed"
