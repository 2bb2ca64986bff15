"""Texts that are written together are the texts that plain `generate` writes one by one."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ml.serve.errors import (
    ContextLengthExceeded,
    DeadlineMissed,
    InvalidInput,
    LoadRefused,
    QueueFull,
)
from ml.serve.generation import Generation, Limits, Text, Wish
from ml.serve.language import Language
from ml.serve.runtimes import Options
from ml.serve.wishes import read_wish
from tests.ml.train.language import make_base

LONG = 60.0
POSITIONS = 64
PROMPTS = [f"{'add ' * (1 + number % 4)}{number} {number * 7}:" for number in range(16)]
Scene = Callable[[Generation], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module", params=["causal", "text2text"])
def language(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Language:
    folder = make_base(tmp_path_factory.mktemp("language") / "m", request.param, POSITIONS)
    return Language(folder, Options())


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return Language(make_base(tmp_path_factory.mktemp("d") / "m", "causal", POSITIONS), Options())


def play(language: Language, scene: Scene, **limits: int) -> None:
    async def run() -> None:
        engine = Generation(language, Limits(**limits))
        await engine.warm_up()
        try:
            await scene(engine)
        finally:
            await engine.drain()
            engine.close()

    asyncio.run(run())


def wish(engine: Generation, prompt: Any = "add 1 2:", **options: Any) -> Wish:
    return read_wish(options, orjson.dumps(prompt), engine)


def plain(language: Language, wished: Wish) -> str:
    """What transformers itself writes, alone."""
    ids = torch.tensor([wished.prompt])
    output = language.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=wished.most,
        do_sample=False,
        num_beams=1,
    )[0]
    new = output[len(wished.prompt) :] if language.task == "causal" else output[1:]
    text: str = language.tokenizer.decode(new, skip_special_tokens=True)
    return text


def test_greedy_is_what_plain_generate_writes_however_many_are_written(language: Language) -> None:
    async def scene(engine: Generation) -> None:
        wishes = [
            wish(engine, prompt, temperature=0, max_tokens=4 + number % 4 * 9)
            for number, prompt in enumerate(PROMPTS)
        ]
        asked = [engine.submit(each, LONG) for each in wishes[:5]]
        while not engine.stats.steps:  # the rest comes while these are being written
            await asyncio.sleep(0)
        asked += [engine.submit(each, LONG) for each in wishes[5:]]
        texts = await asyncio.gather(*asked)
        assert [text.texts for text in texts] == [[plain(language, each)] for each in wishes]
        assert engine.stats.largest_batch_rows > 4
        assert [text.prompt_tokens for text in texts] == [len(each.prompt) for each in wishes]
        assert all(text.completion_tokens <= w.most for text, w in zip(texts, wishes, strict=True))

    play(language, scene)


TOKENS = {"vocab_size": 300, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def remake(folder: Path, kind: str, **sizes: Any) -> Path:
    """Another architecture with the tokenizer of a folder."""
    make_base(folder, "causal", POSITIONS)
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **TOKENS, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    return folder


def test_a_window_of_attention_stays_where_it_is_beside_longer_texts(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 6}
    language = Language(remake(tmp_path / "m", "mistral", **sizes), Options())

    async def scene(engine: Generation) -> None:
        wishes = [wish(engine, prompt, temperature=0, max_tokens=12) for prompt in PROMPTS]
        texts = await asyncio.gather(*(engine.submit(each, LONG) for each in wishes))
        assert [text.texts for text in texts] == [[plain(language, each)] for each in wishes]

    play(language, scene)


def test_a_recurrent_model_is_refused(tmp_path: Path) -> None:
    folder = remake(tmp_path / "m", "mamba", hidden_size=16, num_hidden_layers=1)
    with pytest.raises(LoadRefused, match="recurrent"):
        play(Language(folder, Options()), no_scene)


async def no_scene(engine: Generation) -> None:
    raise AssertionError("it must not get so far")


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_company(language: Language) -> None:
    async def scene(engine: Generation) -> None:
        options = {"temperature": 1.5, "top_p": 0.9, "top_k": 50, "max_tokens": 12, "count": 3}
        alone = await engine.submit(wish(engine, seed=7, **options), LONG)
        company = [engine.submit(wish(engine, p, seed=1, **options), LONG) for p in PROMPTS[:6]]
        again = await engine.submit(wish(engine, seed=7, **options), LONG)
        other = await engine.submit(wish(engine, seed=8, **options), LONG)
        await asyncio.gather(*company)
        assert alone.texts == again.texts != other.texts
        assert len(set(alone.texts)) == 3

    play(language, scene)


def test_the_pieces_are_the_text(language: Language) -> None:
    async def scene(engine: Generation) -> None:
        pieces: dict[int, str] = {0: "", 1: ""}

        def tell(number: int, piece: str) -> None:
            pieces[number] += piece

        made = await engine.submit(wish(engine, count=2, seed=3, max_tokens=40), LONG, tell)
        assert [pieces[0], pieces[1]] == made.texts
        assert made.endings == ["length", "length"]
        assert 0 < made.first_token_seconds < made.seconds

    play(language, scene)


def test_a_stop_string_ends_the_text_before_it(decoder: Language) -> None:
    async def scene(engine: Generation) -> None:
        options = {"seed": 3, "max_tokens": 40, "temperature": 2.0}
        whole = (await engine.submit(wish(engine, **options), LONG)).texts[0]
        stop = whole[len(whole) // 2 :][:3]
        told: list[str] = []
        made = await engine.submit(
            wish(engine, stop=[stop, "never"], **options), LONG, lambda _, piece: told.append(piece)
        )
        assert made.texts == [whole[: whole.index(stop)]] == ["".join(told)]
        assert made.endings == ["stop"]

    play(decoder, scene)


def test_who_goes_away_is_not_written_on(decoder: Language) -> None:
    async def scene(engine: Generation) -> None:
        leaving = [engine.submit(wish(engine, temperature=0), LONG) for _ in range(8)]
        staying = engine.submit(wish(engine, temperature=0, max_tokens=20), LONG)
        while not engine.stats.steps:
            await asyncio.sleep(0)
        for future in leaving:
            future.cancel()
        text = await staying
        assert text.texts == [plain(decoder, wish(engine, max_tokens=20))]
        await engine.drain()
        assert engine.stats.cancelled == 8
        assert engine.stats.requests == 1

    play(decoder, scene)


def test_rows_wait_until_what_all_remember_has_room(decoder: Language) -> None:
    async def scene(engine: Generation) -> None:
        engine.room = engine.context = 48
        options = {"temperature": 0, "max_tokens": 8}
        wishes = [wish(engine, prompt[-5:], **options) for prompt in PROMPTS]
        texts = await asyncio.gather(*(engine.submit(each, LONG) for each in wishes))
        assert [text.texts for text in texts] == [[plain(decoder, each)] for each in wishes]
        assert 1 < engine.stats.largest_batch_rows <= 48 // 9

    play(decoder, scene)


def test_a_full_queue_refuses_at_once(decoder: Language) -> None:
    async def scene(engine: Generation) -> None:
        first = [engine.submit(wish(engine), LONG) for _ in range(2)]
        with pytest.raises(QueueFull, match="2 requests wait"):
            engine.submit(wish(engine), LONG)
        await asyncio.gather(*first)

    play(decoder, scene, queue=2)


def test_a_deadline_ends_the_writing(decoder: Language) -> None:
    async def scene(engine: Generation) -> None:
        with pytest.raises(DeadlineMissed):
            await engine.submit(wish(engine), 1e-6)
        await engine.drain()
        assert engine.stats.expired == 1

    play(decoder, scene)


def test_a_step_that_fails_is_told_and_others_go_on(
    decoder: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(engine: Generation) -> None:
        def fail(tokens: Any) -> None:
            monkeypatch.undo()
            raise RuntimeError("no memory\nmore")

        monkeypatch.setattr(engine._rows, "step", fail)
        failed = engine.submit(wish(engine), LONG)
        while not engine.stats.steps:
            await asyncio.sleep(0)
        joining = engine.submit(wish(engine, temperature=0, max_tokens=9), LONG)
        with pytest.raises(Exception, match="could not go on: no memory"):
            await failed
        text: Text = await joining
        assert text.texts == [plain(decoder, wish(engine, max_tokens=9))]

    play(decoder, scene)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"count": 33}, "count"),
        ({"seed": -1}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"prompt": ""}, None),
        ({"prompt": [{"role": "user", "content": "x"}]}, "messages"),
        ({"prompt": 7}, "prompt"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    decoder: Language, options: dict[str, Any], field: str | None
) -> None:
    async def scene(engine: Generation) -> None:
        if field is None:  # of nothing the beginning is written
            assert wish(engine, **options).prompt == [decoder.tokenizer.bos_token_id]
            return
        with pytest.raises(InvalidInput) as caught:
            wish(engine, **options)
        assert caught.value.field == field

    play(decoder, scene)


def test_a_prompt_is_never_cut(language: Language) -> None:
    async def scene(engine: Generation) -> None:
        with pytest.raises(ContextLengthExceeded, match=f"at most {POSITIONS - 1}"):
            wish(engine, "long " * 100)

    play(language, scene)


def test_more_tokens_than_there_was_room_for(
    decoder: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.serve.rows.MORE_TOKENS", 3)

    async def scene(engine: Generation) -> None:
        wishes = [wish(engine, prompt, temperature=0, max_tokens=20) for prompt in PROMPTS]
        texts = await asyncio.gather(*(engine.submit(each, LONG) for each in wishes))
        assert [text.texts for text in texts] == [[plain(decoder, each)] for each in wishes]

    play(decoder, scene)
