"""The language models that every server is given: a classifier of DistilBERT's size and a GPT-2 of
5 M weights, both random, with a tokenizer learned from Python's own library. The GPT-2 is asked for
texts of one length as WRITER, and of many lengths as MIXED.

`python -m benchmarks.serving.text_models FOLDER` writes them, and what they answer by themselves.
"""

import ast
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

CLASSIFIER, WRITER, MIXED = "classifier", "writer", "writer-mixed"
TEXTS = (CLASSIFIER, WRITER, MIXED)
NEW_TOKENS = {WRITER: [64], MIXED: [8, 48, 24, 64, 40, 16, 56, 32]}
"""Of one text after the other, and again."""
ASKED = {CLASSIFIER: 64, WRITER: 16, MIXED: 16}
"""So many different texts, one after the other."""
ANSWERS = "asked.json"
CLASSES = ["calm", "loud", "other"]
POSITIONS = 512
PAD = "<pad>"


def write_text_models(folder: Path) -> None:
    """folder/classifier, …: Hugging Face folders; and in each what is asked with the answers,
    `asked.json`. Once."""
    if not all((folder / name / ANSWERS).is_file() for name in TEXTS):
        command = [sys.executable, "-m", "benchmarks.serving.text_models", str(folder)]
        subprocess.run(command, check=True)


def read_answers(folder: Path, name: str) -> dict[str, Any]:
    """What is asked → answer. A classifier: a text → the share of each class. A writer: a JSON list
    of a text and how many tokens → what comes next."""
    found: dict[str, Any] = json.loads((folder / name / ANSWERS).read_bytes())
    return found


def _write(folder: Path) -> None:
    import torch
    from transformers import (
        DistilBertConfig,
        DistilBertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
    )

    torch.manual_seed(0)
    names = dict(enumerate(CLASSES))
    classifier = DistilBertConfig(id2label=names, label2id={name: n for n, name in names.items()})
    tokenizer = _learn_tokenizer(classifier.vocab_size, "right")
    _save(folder / CLASSIFIER, DistilBertForSequenceClassification(classifier), tokenizer)
    tokenizer = _learn_tokenizer(4096, "left")
    # No text ends by itself, so that all servers write the same number of tokens.
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    writer = GPT2Config(
        vocab_size=4096, n_positions=POSITIONS, n_embd=256, n_layer=5, n_head=4, **ends
    )
    model = GPT2LMHeadModel(writer)
    for name in NEW_TOKENS:
        _save(folder / name, model, tokenizer)


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    import torch

    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    answers: dict[str, Any] = {}
    with torch.inference_mode():
        lengths = cycle(NEW_TOKENS.get(folder.name, [0]))
        for text, tokens in zip(islice(_sentences(), ASKED[folder.name]), lengths, strict=False):
            encoded = tokenizer(text, return_tensors="pt")
            if folder.name == CLASSIFIER:
                answers[text] = model(**encoded).logits[0].softmax(0).tolist()
            else:
                made = model.generate(**encoded, max_new_tokens=tokens, do_sample=False)
                written = tokenizer.decode(made[0, encoded["input_ids"].shape[1] :])
                answers[json.dumps([text, tokens])] = written
    (folder / ANSWERS).write_text(json.dumps(answers))


def _learn_tokenizer(size: int, side: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train([str(path) for path in _library()], trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        pad_token=PAD,
        model_max_length=POSITIONS,
        padding_side=side,
        model_input_names=["input_ids", "attention_mask"],
    )


def _library() -> list[Path]:
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def _sentences() -> Iterator[str]:
    """Descriptions of functions, of 3 to 60 words, each once."""
    seen = set()
    for path in _library():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and (told := ast.get_docstring(node)):
                text = " ".join(told.split())
                if 3 <= len(text.split()) <= 60 and text not in seen:
                    seen.add(text)
                    yield text


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
