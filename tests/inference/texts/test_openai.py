"""The real `openai` package against this server."""

import asyncio
import base64
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.inference.plane.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("texts")]

HELLO: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "add 1 2"}]},
]


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    with OpenAI(base_url=f"{served.url}/v1", api_key=served.stack.key, max_retries=0) as made:
        yield made


def test_models_are_listed(client: OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    assert {"code-generator", "turner", "chatter", "encoder"} <= listed
    assert "moods" not in listed
    assert client.models.retrieve("code_generator").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_a_text_is_completed_whole_and_streamed(client: OpenAI) -> None:
    asked: Any = {"model": "code_generator", "prompt": "add 1 2: ", "temperature": 0}
    whole = client.completions.create(**asked, max_tokens=10, echo=True)
    assert whole.choices[0].text.startswith("add 1 2: ")
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 10
    chunks = list(
        client.completions.create(
            **asked, max_tokens=10, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert f"add 1 2: {text}" == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    several = client.completions.create(**{**asked, "prompt": ["a", "b"]}, n=2, max_tokens=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == several.choices[1].text


def test_a_chat_is_answered_whole_and_streamed(client: OpenAI) -> None:
    asked: Any = {"model": "chatter", "messages": HELLO, "temperature": 0, "n": 2}
    whole = client.chat.completions.create(**asked, max_completion_tokens=8)
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[1].message.content == whole.choices[0].message.content
    texts = ["", ""]
    roles: list[str | None] = []
    for chunk in client.chat.completions.create(**asked, max_tokens=8, stream=True):
        for choice in chunk.choices:
            roles.append(choice.delta.role)
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert [role for role in roles if role] == ["assistant", "assistant"]


def test_a_model_that_was_not_taught_to_chat_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template") as caught:
        client.chat.completions.create(model="code_generator", messages=HELLO)
    assert caught.value.param == "messages"


def test_texts_are_embedded(client: OpenAI) -> None:
    packed = client.embeddings.create(model="encoder", input=["calm", "loud"])  # as base64
    plain = client.embeddings.create(model="encoder", input="loud", encoding_format="float")
    assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens > plain.usage.prompt_tokens
    raw = httpx.post(
        f"{client.base_url}embeddings",
        json={"model": "encoder", "input": "loud", "encoding_format": "base64"},
        headers={"Authorization": f"Bearer {client.api_key}"},
        timeout=60,
    )
    assert len(base64.b64decode(raw.json()["data"][0]["embedding"])) == 16 * 4


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"prompt": "long " * 300}, "prompt", "context_length_exceeded"),
        ({"logprobs": 3}, "logprobs", "invalid_request"),
        ({"presence_penalty": 1.0}, "presence_penalty", "invalid_request"),
        ({"temperature": 3}, "temperature", "invalid_request"),
        ({"extra_body": {"beams": 2}}, "beams", "invalid_request"),
    ],
)
def test_refusals_are_bad_requests_that_name_the_parameter(
    client: OpenAI, asked: dict[str, Any], param: str, code: str
) -> None:
    made: Any = {"model": "code_generator", "prompt": "add", **asked}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(**made, stream=stream)
        assert (caught.value.param, caught.value.code) == (param, code)
        assert caught.value.request_id
        assert caught.value.body["type"] == "invalid_request_error"  # type: ignore[index]


def test_keys_and_models_that_are_not_known(served: Served, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="nobody", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="mls_wrong").models.list()
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="mls_wrong").completions.create(model="a", prompt="a")


def test_many_ask_at_once(served: Served) -> None:
    async def scene() -> None:
        url, key = f"{served.url}/v1", served.stack.key
        async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            asked = [
                client.completions.create(
                    model="code_generator", prompt=f"add {n}", max_tokens=20 + n, temperature=0
                )
                for n in range(16)
            ]
            answers = await asyncio.gather(*asked)
        counts = [answer.usage.completion_tokens for answer in answers if answer.usage]
        assert counts == [20 + n for n in range(16)]

    asyncio.run(scene())
