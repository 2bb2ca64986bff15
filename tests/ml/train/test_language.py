"""The recipes that teach language models: what they learn, tell, leave behind and refuse."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from ml.config import CausalConfig, ClassifyConfig, parse_config
from ml.data.importer import import_dataset
from ml.exits import EXIT_CODES
from ml.formats.brought import Trust, take_model
from ml.rundir import RunDir, read_json
from ml.train.recipes.causal import CausalTask
from ml.train.recipes.classify import ClassifyTask
from ml.train.recipes.tokens import IGNORED
from tests.ml.train.language import (
    AUTO,
    SCRATCH,
    make_base,
    make_language_run,
    make_rows,
    rows_for,
)
from tests.ml.train.runs import events, train

# peft asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
RECIPES = ("text2text", "causal", "classify")


def losses(run: RunDir) -> list[float]:
    return [event["loss"] for event in events(run, type="epoch")]


def warnings(run: RunDir) -> str:
    return "\n".join(event["message"] for event in events(run, type="warning"))


def failure(run: RunDir) -> str:
    assert train(run) == EXIT_CODES["spec_error"]
    return str((run.read_result(1) or {})["error"]["message"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns_from_scratch_and_leaves_a_folder_that_loads_anywhere(
    tmp_path: Path, recipe: str
) -> None:
    dataset = make_rows(tmp_path / "data", rows_for(recipe))
    run = make_language_run(tmp_path / "run", recipe, dataset, epochs=4, **SCRATCH)
    assert train(run) == 0
    assert losses(run)[-1] < losses(run)[0]
    model = AUTO[recipe].from_pretrained(run.model_path)
    tokenizer = AutoTokenizer.from_pretrained(run.model_path)
    assert len(tokenizer) <= model.get_input_embeddings().num_embeddings
    preprocess = read_json(run.model_path / "preprocess.json") or {}
    assert (preprocess["framework"], preprocess["task"]) == ("transformers", recipe)
    for file in run.model_path.rglob("*.json"):
        assert str(tmp_path) not in file.read_text(), f"{file.name} names a path of this machine"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_base_model_goes_on_learning(tmp_path: Path, recipe: str) -> None:
    dataset = make_rows(tmp_path / "data", rows_for(recipe))
    base = {"path": str(make_base(tmp_path / "base", recipe)), "name": "small", "version": 2}
    run = make_language_run(tmp_path / "run", recipe, dataset, base_model=base, epochs=3)
    assert train(run) == 0
    assert losses(run)[-1] < losses(run)[0]
    assert "from small@2" in events(run, type="log")[0]["message"]
    assert AUTO[recipe].from_pretrained(run.model_path)


def test_answers_are_measured_and_shown_after_each_epoch(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", [{"question": "a", "answer": "b b"}] * 20)
    fields: dict[str, Any] = {"epochs": 30, "learning_rate": 0.02, "generate_samples": 3}
    run = make_language_run(tmp_path / "run", "text2text", dataset, **SCRATCH, **fields)
    assert train(run) == 0
    samples = events(run, type="sample")
    assert len(samples) == 30
    assert samples[-1]["samples"] == [{"prompt": "a", "generated": "b b", "expected": "b b"}] * 3
    metrics = (run.read_result(1) or {})["metrics"]
    assert (metrics["exact_match"], metrics["val_accuracy"]) == (1, 1)


def test_a_text_is_gone_on_with_and_its_perplexity_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "upload").write_text("the cat sat on the mat\n" * 20)
    import_dataset(folder, "upload", "txt")
    run = make_language_run(tmp_path / "run", "causal", folder, **SCRATCH)
    assert train(run) == 0
    [*_, last] = events(run, type="epoch")
    assert last["extra"]["perplexity"] == pytest.approx(np.exp(last["val_loss"]))
    assert "exact_match" not in last["extra"]
    sample = events(run, type="sample")[-1]["samples"][0]
    assert "the cat sat on the mat".startswith(sample["prompt"])


def test_classes_have_their_confusion_and_weights(tmp_path: Path) -> None:
    rows = [{"code": f"x {n}", "label": "rare" if n % 5 == 0 else "usual"} for n in range(40)]
    dataset = make_rows(tmp_path / "data", rows)
    found = {}
    for weights in ("none", "balanced"):
        fields = {**SCRATCH, "class_weights": weights}
        run = make_language_run(tmp_path / weights, "classify", dataset, **fields)
        assert train(run) == 0
        found[weights] = losses(run)
        assert events(run, type="evaluated")[-1]["classes"] == ["rare", "usual"]
    assert found["none"] != found["balanced"]
    config = read_json(run.model_path / "config.json") or {}
    assert config["id2label"] == {"0": "rare", "1": "usual"}


def test_smoothed_labels_change_what_is_learned_and_not_how_it_is_measured(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("classify"))
    losses, measured = set(), set()
    for share in (0.0, 0.4):
        given = {"recipe": "classify", "dataset": {"path": str(dataset)}, **SCRATCH}
        config = parse_config({**given, "label_smoothing": share, "dropout": 0})
        assert isinstance(config, ClassifyConfig)
        torch.manual_seed(3)
        task = ClassifyTask(config, tmp_path, torch.device("cpu"), lambda message: None)
        loss, _ = task.loss(task.batch(task.train_rows))
        losses.add(round(loss.item(), 6))
        measured.add(task.evaluate(8, lambda: None).val_loss)
    assert (len(losses), len(measured)) == (2, 1)


@pytest.mark.parametrize("recipe", RECIPES)
def test_patience_ends_every_recipe(tmp_path: Path, recipe: str) -> None:
    dataset = make_rows(tmp_path / "data", rows_for(recipe, 16))
    fields = {**SCRATCH, "epochs": 60, "early_stopping_patience": 1, "learning_rate": 0.3}
    run = make_language_run(tmp_path / "run", recipe, dataset, optimizer="sgd", **fields)
    assert train(run) == 0
    result = run.read_result(1) or {}
    assert result["epochs"] == result["metrics"]["best_epoch"] + 1 < 60


def lora_run(tmp_path: Path, **fields: Any) -> RunDir:
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    base = {"path": str(make_base(tmp_path / "base", "causal")), "name": "small"}
    run = make_language_run(
        tmp_path / "run", "causal", dataset, base_model=base, lora_rank=4, **fields
    )
    assert train(run) == 0
    assert losses(run)[-1] < losses(run)[0]
    return run


def ready(model: Any) -> Any:
    return model.eval()


def logits_of(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=torch.tensor([[5, 9, 7]])).logits
    return found


def test_lora_trains_little_and_is_merged_in_the_end(tmp_path: Path) -> None:
    run = lora_run(tmp_path)
    kept = load_file(run.complete_checkpoints()[-1] / "model.safetensors")
    assert all("lora_" in name for name in kept)
    base = ready(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))
    merged = ready(AutoModelForCausalLM.from_pretrained(run.model_path))
    before = logits_of(base)
    adapted = ready(PeftModel.from_pretrained(base, run.model_path / "adapter"))
    assert torch.allclose(logits_of(merged), logits_of(adapted), atol=1e-5)
    assert not torch.allclose(before, logits_of(merged), atol=1e-3)


@pytest.mark.parametrize("recipe", ["text2text", "classify"])
@pytest.mark.parametrize("merge", [True, False])
def test_lora_fits_every_recipe(tmp_path: Path, recipe: str, merge: bool) -> None:
    dataset = make_rows(tmp_path / "data", rows_for(recipe))
    base = {"path": str(make_base(tmp_path / "base", recipe)), "name": "small"}
    fields: dict[str, Any] = {"base_model": base, "lora_rank": 4, "gradient_checkpointing": True}
    more = {} if merge else {"lora_merge": False}
    run = make_language_run(tmp_path / "run", recipe, dataset, epochs=4, **fields, **more)
    assert train(run) == 0
    assert losses(run)[-1] < losses(run)[0]
    if merge:
        assert AUTO[recipe].from_pretrained(run.model_path)
    else:
        labels = {"num_labels": 2} if recipe == "classify" else {}
        whole = AUTO[recipe].from_pretrained(tmp_path / "base", **labels)
        assert PeftModel.from_pretrained(whole, run.model_path)


def test_lora_without_merging_leaves_the_adapter_alone(tmp_path: Path) -> None:
    run = lora_run(tmp_path, lora_merge=False, lora_targets=["v_proj"])
    assert not (run.model_path / "model.safetensors").exists()
    config = read_json(run.model_path / "adapter_config.json") or {}
    assert (config["base_model_name_or_path"], config["target_modules"]) == ("small", ["v_proj"])
    base = ready(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))
    before = logits_of(base)
    adapted = ready(PeftModel.from_pretrained(base, run.model_path))
    assert not torch.allclose(before, logits_of(adapted), atol=1e-3)


@pytest.mark.parametrize("merge", [True, False])
def test_what_lora_leaves_can_be_brought_again(tmp_path: Path, merge: bool) -> None:
    """The base is named as this server or the hub calls it, never by a path of this machine."""
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    base = {"path": str(make_base(tmp_path / "base", "causal")), "name": "small", "version": 2}
    more = {} if merge else {"lora_merge": False}
    run = make_language_run(
        tmp_path / "run", "causal", dataset, base_model=base, lora_rank=4, epochs=1, **more
    )
    assert train(run) == 0
    for file in run.model_path.rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file.name
    brought = tmp_path / "brought"
    brought.mkdir()
    shutil.make_archive(str(brought / "0"), "zip", run.model_path)
    (brought / "0.zip").rename(brought / "0")

    def load(folder: Path) -> Any:
        if merge:
            return ready(AutoModelForCausalLM.from_pretrained(folder))
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        return ready(PeftModel.from_pretrained(whole, folder))

    found = take_model(brought, [{"stored": "0", "name": "m.zip"}], Trust(is_locked=True))
    assert found["task"] == "causal"
    architecture = "LlamaForCausalLM" if merge else "adapter of small@2"
    assert found["facts"]["architecture"] == architecture
    assert torch.equal(logits_of(load(brought / "model")), logits_of(load(run.model_path)))


def test_gradient_checkpointing_learns_the_same(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    found = []
    for wish in (False, True):
        fields = {**SCRATCH, "gradient_checkpointing": wish}
        run = make_language_run(tmp_path / str(wish), "causal", dataset, **fields)
        assert train(run) == 0
        found.append(losses(run))
    assert found[0] == pytest.approx(found[1], rel=1e-5)  # the same dropout, another rounding


def test_parts_of_a_step_add_up_to_the_whole_token_by_token(tmp_path: Path) -> None:
    rows = [{"text": "a " * (1 + number % 9)} for number in range(40)]
    dataset = make_rows(tmp_path / "data", rows)
    sizes = ({"batch_size": 8}, {"batch_size": 2, "gradient_accumulation": 4})
    found = []
    for number, fields in enumerate(sizes):
        made = {**SCRATCH, **fields, "optimizer": "sgd"}
        run = make_language_run(tmp_path / str(number), "causal", dataset, **made)
        assert train(run) == 0
        found.append(losses(run))
    assert found[0] == pytest.approx(found[1], rel=0.02)  # dropout draws other numbers


def test_what_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [{"input": "a b c d e f " * (9 if n < 3 else 1), "output": "g"} for n in range(20)]
    dataset = make_rows(tmp_path / "data", rows)
    run = make_language_run(tmp_path / "run", "text2text", dataset, epochs=1, **SCRATCH)
    assert train(run) == 0
    cut = "3 of 20 inputs are longer than 24 tokens and cut: 96 of 304 tokens (31.6%) are lost."
    assert cut in warnings(run)


def test_a_model_with_fewer_positions_shortens_the_samples(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("causal"))
    base = {"path": str(make_base(tmp_path / "base", "causal", positions=16))}
    run = make_language_run(
        tmp_path / "run", "causal", dataset, base_model=base, max_length=512, epochs=1
    )
    assert train(run) == 0
    assert "max_length 512 is more than the model takes; 16 is used." in warnings(run)


def test_positions_that_begin_after_the_padding_are_counted_so(tmp_path: Path) -> None:
    """RoBERTa's first position has the number after its padding token's."""
    rows = [{"text": "a b c d e f g h " * 9, "label": "xy"[n % 2]} for n in range(8)]
    dataset = make_rows(tmp_path / "data", rows)
    base = make_base(tmp_path / "base", "classify", positions=16)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    run = make_language_run(
        tmp_path / "run", "classify", dataset, base_model={"path": str(base)}, max_length=512
    )
    assert train(run) == 0
    assert "max_length 512 is more than the model takes; 16 is used." in warnings(run)


def causal_task(tmp_path: Path, rows: list[dict[str, Any]], **fields: Any) -> CausalTask:
    dataset = make_rows(tmp_path / "data", rows)
    given = {"recipe": "causal", "dataset": {"path": str(dataset)}, **SCRATCH, **fields}
    config = parse_config(given)
    assert isinstance(config, CausalConfig)
    return CausalTask(config, tmp_path, torch.device("cpu"), lambda message: None)


def learned(task: CausalTask, row: int) -> str:
    """The text of the tokens that count."""
    return task.read([label for label in task.labels[row] if label != IGNORED])


def test_of_a_chat_only_the_assistant_is_learned(tmp_path: Path) -> None:
    turns = [("system", "be kind"), ("user", "hi"), ("assistant", "hello"), ("user", "bye")]
    chat = [{"role": role, "content": content} for role, content in turns]
    chat.append({"role": "assistant", "content": "farewell"})
    task = causal_task(tmp_path, [{"messages": chat}] * 4)
    assert learned(task, 0).split() == ["hello", "farewell"]
    assert "user: hi" in task.read(task.inputs[0].tolist())
    asked, prompt, expected = task.question(0)
    assert prompt.endswith("user: hi\nassistant: ")
    assert (expected.strip(), task.read(asked)) == ("hello", prompt)


WRITES = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
FORGETS = (  # as Qwen3 and DeepSeek do: what was thought is kept of the last answer only
    "{% for m in messages %}{{ m.role }}: "
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TURNS = [("user", "hi"), ("assistant", "<think>um</think>hello"), ("user", "bye")]
TURNS += [("assistant", "<think>so</think>farewell")]
CHAT = [{"role": role, "content": content} for role, content in TURNS]


def chat_run(tmp_path: Path, template: str) -> RunDir:
    base = make_base(tmp_path / "base", "causal", positions=128)
    (base / "chat_template.jinja").write_text(template)
    rows = [{"messages": CHAT, "split": "validation" if n == 3 else "train"} for n in range(8)]
    dataset = make_rows(tmp_path / "data", rows)
    fields: dict[str, Any] = {"base_model": {"path": str(base)}, "max_length": 128, "epochs": 1}
    return make_language_run(tmp_path / "run", "causal", dataset, **fields)


def test_a_template_that_rewrites_earlier_turns_makes_each_answer_a_sample(tmp_path: Path) -> None:
    run = chat_run(tmp_path, FORGETS)
    config = parse_config(read_json(run.config_path) or {})
    assert isinstance(config, CausalConfig)
    told: list[str] = []
    task = CausalTask(config, run.path, torch.device("cpu"), told.append)
    assert "rewrites what was said before" in told[-1]
    assert task.read(task.inputs[0].tolist()) == "user: hi\nassistant: <think>um</think>hello\n"
    asked = "user: hi\nassistant: hello\nuser: bye\nassistant: "
    assert task.question(1)[1] == asked
    assert task.read(task.inputs[1].tolist()) == f"{asked}<think>so</think>farewell\n"
    assert learned(task, 0) == "<think>um</think>hello\n"
    assert learned(task, 1) == "<think>so</think>farewell\n"
    assert task.validation_rows.tolist() == [6, 7]  # both answers of the fourth chat
    assert sorted([*task.train_rows, 6, 7]) == list(range(16))


def test_a_template_that_asks_otherwise_than_it_writes_is_refused(tmp_path: Path) -> None:
    opened = WRITES + "{% if add_generation_prompt %}assistant: <answer>{% endif %}"
    assert "answers cannot be told from questions" in failure(chat_run(tmp_path, opened))


def test_of_prompt_and_completion_only_the_completion_is_learned(tmp_path: Path) -> None:
    task = causal_task(tmp_path, [{"instruction": "say", "input": "b", "output": "c"}] * 4)
    assert learned(task, 0) == "c"
    assert task.read(task.inputs[0].tolist()) == "say\nbc"
    assert task.inputs[0][-1] == task.tokenizer.eos_token_id == task.labels[0][-1]


def test_a_long_prompt_loses_its_beginning_not_its_answer(tmp_path: Path) -> None:
    rows = [{"prompt": "xyz " * 30 + "end", "completion": "done"}] * 4
    task = causal_task(tmp_path, rows, max_length=12)
    assert learned(task, 0) == "done"
    assert task.read(task.inputs[0].tolist()).endswith("enddone")
    assert len(task.inputs[0]) == 12


def test_rows_without_a_text_are_left_out_and_numbers_are_read_as_written(tmp_path: Path) -> None:
    rows = [{"input": f"{n}", "output": n if n else None} for n in range(12)]
    dataset = make_rows(tmp_path / "data", rows)
    run = make_language_run(tmp_path / "run", "text2text", dataset, epochs=1, **SCRATCH)
    assert train(run) == 0
    assert "1 of 12 rows lack a text or a target" in warnings(run)
    answers = {sample["expected"] for sample in events(run, type="sample")[0]["samples"]}
    assert answers <= {str(n) for n in range(12)}


@pytest.mark.parametrize(
    ("row", "recipe", "words"),
    [
        ({"x": "a", "y": "b"}, "text2text", "input_column and target must name the columns"),
        ({"x": "a", "label": "b"}, "classify", "text_column must name the column"),
        ({"x": 1, "y": 2}, "causal", "there are x, y"),
    ],
)
def test_columns_that_nobody_can_guess_are_asked_for(
    tmp_path: Path, row: dict[str, Any], recipe: str, words: str
) -> None:
    dataset = make_rows(tmp_path / "data", [row] * 4)
    assert words in failure(make_language_run(tmp_path / "run", recipe, dataset, **SCRATCH))


def test_named_columns_are_used(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", [{"x": "a", "y": "b", "input": "c"}] * 10)
    fields = {**SCRATCH, "input_column": "x", "target": "y"}
    run = make_language_run(tmp_path / "run", "text2text", dataset, **fields)
    assert train(run) == 0
    preprocess = read_json(run.model_path / "preprocess.json") or {}
    assert preprocess["columns"] == {"prompt": "x", "answer": "y"}


def test_a_base_model_that_is_nowhere_says_how_to_bring_it(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("text2text"))
    name = "Salesforce/codet5-small"
    message = failure(make_language_run(tmp_path / "run", "text2text", dataset, base_model=name))
    assert f"base_model '{name}' is no model on this server" in message
    assert "register it here under that name" in message


def test_a_base_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("text2text"))
    base = {"path": str(make_base(tmp_path / "base", "causal")), "name": "small"}
    run = make_language_run(tmp_path / "run", "text2text", dataset, base_model=base)
    assert failure(run).startswith("base_model 'small' cannot be used: ")


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("text2text"))
    base = make_base(tmp_path / "base", "text2text")
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    run = make_language_run(
        tmp_path / "run", "text2text", dataset, base_model={"path": str(base), "name": "old"}
    )
    assert failure(run).startswith("base_model 'old' cannot be used: ")


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    dataset = make_rows(tmp_path / "data", rows_for("text2text"))
    base = make_base(tmp_path / "base", "text2text")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSeq2SeqLM": "evil.Model", "AutoConfig": "evil.Config"}
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    run = make_language_run(
        tmp_path / "run", "text2text", dataset, base_model={"path": str(base)}, epochs=1
    )
    train(run)
    assert not (tmp_path / "touched").exists()


def test_codet5_small_in_small_is_fine_tuned(tmp_path: Path) -> None:
    """The published configuration (arXiv 2109.00859), but for the width and the vocabulary."""
    base = make_base(tmp_path / "base", "text2text")
    config = json.loads((base / "config.json").read_text())
    config |= {"feed_forward_proj": "relu", "n_positions": 512, "tie_word_embeddings": True}
    (base / "config.json").write_text(json.dumps(config))
    dataset = make_rows(tmp_path / "data", rows_for("text2text"))
    run = make_language_run(
        tmp_path / "run", "text2text", dataset, base_model={"path": str(base)}, prefix="Fix: "
    )
    assert train(run) == 0
    shutil.rmtree(base)
    model = AutoModelForSeq2SeqLM.from_pretrained(run.model_path)
    assert model.config.tie_word_embeddings
    assert (read_json(run.model_path / "preprocess.json") or {})["prefix"] == "Fix: "
