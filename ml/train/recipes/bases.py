"""Where a language model begins: a base model's folder, or nothing at all.

Only safetensors and JSON are read, never pickles, and never code that comes with a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from ml.config import ModelReference, TextConfig
from ml.train.errors import TrainingFailed

# Weights as safetensors, configuration, and every form in which tokenizers are published.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
PAD, END, BEGIN = "<pad>", "</s>", "<s>"
FRAMES = {"text2text": f"$A {END}", "causal": f"{BEGIN} $A", "classify": f"{BEGIN} $A {END}"}
"""What a tokenizer made here puts around a text, by recipe; causal learns its end by itself."""


def find_base(config: TextConfig, folder: Path) -> Path | None:
    """The folder of the base model, fetched from the hub if need be; None: from scratch."""
    base = config.base_model
    if base is None:
        return None
    if isinstance(base, ModelReference):
        found = folder / base.path
        if not (found / "config.json").is_file():
            raise _refused(base_name(config), f"there is no config.json in {found}")
        return found
    try:
        return Path(snapshot_download(base, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TrainingFailed(
            "spec_error",
            f"base_model {base!r} is no model on this server, and the Hugging Face hub did not "
            f"give it ({_first_line(error)}). Download its folder where there is a network and "
            "register it here under that name, or choose a model from the list of models.",
        ) from error


def base_name(config: TextConfig) -> str | None:
    """How people call the base model; never a path of this machine."""
    base = config.base_model
    if isinstance(base, ModelReference):
        version = f"@{base.version}" if base.version else ""
        return f"{base.name}{version}" if base.name else Path(base.path).name
    return base


def load_tokenizer(config: TextConfig, base: Path) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            base, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # it is a stranger's folder: whatever is wrong with it
        raise _refused(base_name(config), f"its tokenizer: {_first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise _refused(base_name(config), "its tokenizer has neither a padding nor an end token")
    return tokenizer


def load_model(
    config: TextConfig, base: Path, auto_class: Any, dtype: torch.dtype, **more: Any
) -> Any:
    try:
        return auto_class.from_pretrained(
            base,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=dtype,
            **more,
        )
    except Exception as error:  # as above
        raise _refused(base_name(config), _first_line(error)) from error


def learn_tokenizer(config: TextConfig, texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): the same for the same texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=[PAD, END, BEGIN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    specials = [(token, tokenizer.token_to_id(token)) for token in (END, BEGIN)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=FRAMES[config.recipe], special_tokens=specials
    )
    return wrap_tokenizer(config, tokenizer)


def wrap_tokenizer(config: TextConfig, tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """As transformers takes it."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        bos_token=BEGIN,
        model_max_length=config.max_length,
    )


def new_config(config: TextConfig, tokenizer: Any, longest: int) -> Any:
    """T5 (text2text), Llama (causal) or RoBERTa (classify), in the sizes that were asked for.

    Llama counts positions by their distance (Su et al. 2021): on packed texts, which begin
    anywhere, 1,000 small steps brought it to 4.2 nats a token and GPT-2 to 4.6.
    """
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    width, layers, heads = config.hidden_size, config.layers, config.heads
    if config.recipe == "text2text":
        sizes = {"d_model": width, "d_ff": 4 * width, "d_kv": width // heads}
        sizes |= {"num_layers": layers, "num_decoder_layers": layers, "num_heads": heads}
        start = {"decoder_start_token_id": tokenizer.pad_token_id, "dropout_rate": config.dropout}
        return AutoConfig.for_model("t5", **tokens, **sizes, **start)
    if config.recipe == "causal":
        inner = max(16, width * 8 // 3 // 16 * 16)  # three matrices as large as GPT-2's two
        sizes = {"hidden_size": width, "intermediate_size": inner}
        sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads}
        more = {"max_position_embeddings": longest, "tie_word_embeddings": True}
        return AutoConfig.for_model(
            "llama", **tokens, **sizes, **more, attention_dropout=config.dropout
        )
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    sizes |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    places = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), config.dropout)
    positions = longest + tokenizer.pad_token_id + 1
    return AutoConfig.for_model(
        "roberta", **tokens, **sizes, **places, max_position_embeddings=positions
    )


def _refused(name: str | None, why: str) -> TrainingFailed:
    return TrainingFailed("spec_error", f"base_model {name!r} cannot be used: {why}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
