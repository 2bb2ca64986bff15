"""Requests as OpenAI's clients send them. What is not offered is refused by its name."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inference.text_serializers import LONGEST_PROMPT, MOST_TEXTS, TextsField
from models_registry.serializers import ChangeSerializer

MOST_CHOICES = 16
MOST_MESSAGES = 1000
ROLES = ("system", "developer", "user", "assistant")


@extend_schema_field({})
class NotOfferedField(serializers.Field[Any, Any, Any, Any]):
    """A parameter that may be sent as long as it asks for nothing."""

    def __init__(self, *neutral: Any) -> None:
        super().__init__(
            required=False,
            allow_null=True,
            write_only=True,
            help_text=f"not offered; may be null{''.join(f' or {each}' for each in neutral)}",
        )
        self._neutral = neutral

    def to_internal_value(self, data: Any) -> Any:
        if not any(type(data) is type(each) and data == each for each in self._neutral):
            raise serializers.ValidationError(
                "is not offered here; leave it out", code="unsupported"
            )
        return data


class ContentField(TextsField):
    """A text, or parts of type text, which are joined."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, list) and all(
            isinstance(part, dict) and part.get("type") == "text" for part in data
        ):
            data = [part.get("text") for part in data]
        return "".join(super().to_internal_value(data))


class MessageSerializer(ChangeSerializer):
    role = serializers.CharField(max_length=20, help_text=", ".join(ROLES))
    content = ContentField()
    name = NotOfferedField()
    tool_calls = NotOfferedField()
    refusal = NotOfferedField()
    audio = NotOfferedField()
    function_call = NotOfferedField()
    annotations = NotOfferedField([])

    def validate_role(self, role: str) -> str:
        if role not in ROLES:
            raise serializers.ValidationError(f"must be one of {', '.join(ROLES)}", code="invalid")
        return role


class StreamOptionsSerializer(ChangeSerializer):
    include_usage = serializers.BooleanField(default=False)
    include_obfuscation = NotOfferedField(False)


class _Written(ChangeSerializer):
    model = serializers.CharField(max_length=200)
    n = serializers.IntegerField(min_value=1, max_value=MOST_CHOICES, default=1, allow_null=True)
    temperature = serializers.FloatField(min_value=0, max_value=2, default=1.0, allow_null=True)
    top_p = serializers.FloatField(min_value=0, max_value=1, default=1.0, allow_null=True)
    top_k = serializers.IntegerField(
        min_value=0, max_value=10**6, default=0, allow_null=True, help_text="ours; 0: all"
    )
    seed = serializers.IntegerField(min_value=0, max_value=2**63 - 1, default=None, allow_null=True)
    stop = TextsField(default=None, allow_null=True)
    stream = serializers.BooleanField(default=False, allow_null=True)
    stream_options = StreamOptionsSerializer(default=None, allow_null=True)
    user = serializers.CharField(required=False, help_text="whoever is behind it; not used")
    frequency_penalty = NotOfferedField(0, 0.0)
    presence_penalty = NotOfferedField(0, 0.0)
    logit_bias = NotOfferedField({})

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["stream_options"] is not None and not attrs["stream"]:
            raise serializers.ValidationError({"stream_options": "is for `stream: true` only"})
        return attrs


class CompletionSerializer(_Written):
    prompt = TextsField()
    max_tokens = serializers.IntegerField(min_value=1, default=16, allow_null=True)
    echo = serializers.BooleanField(default=False, allow_null=True)
    best_of = NotOfferedField(1)
    logprobs = NotOfferedField()
    suffix = NotOfferedField()

    def validate_prompt(self, prompts: list[str]) -> list[str]:
        if not 0 < len(prompts) <= MOST_TEXTS or any(len(p) > LONGEST_PROMPT for p in prompts):
            raise serializers.ValidationError(
                f"must be 1 to {MOST_TEXTS} texts of up to {LONGEST_PROMPT:,} characters"
            )
        return prompts

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["stream"] and len(attrs["prompt"]) > 1:
            raise serializers.ValidationError({"prompt": "one at a time with `stream: true`"})
        return super().validate(attrs)


class ChatSerializer(_Written):
    messages = serializers.ListField(
        child=MessageSerializer(), min_length=1, max_length=MOST_MESSAGES
    )
    max_completion_tokens = serializers.IntegerField(min_value=1, default=None, allow_null=True)
    max_tokens = serializers.IntegerField(
        min_value=1, default=None, allow_null=True, help_text="the older name"
    )
    logprobs = NotOfferedField(False)
    top_logprobs = NotOfferedField(0)
    response_format = NotOfferedField({"type": "text"})
    tools = NotOfferedField([])
    tool_choice = NotOfferedField("none")
    parallel_tool_calls = NotOfferedField(True, False)
    functions = NotOfferedField([])
    function_call = NotOfferedField("none")
    modalities = NotOfferedField(["text"])
    store = NotOfferedField(False)
    metadata = NotOfferedField({})
    service_tier = NotOfferedField("auto", "default")


class EmbeddingsSerializer(ChangeSerializer):
    model = serializers.CharField(max_length=200)
    input = TextsField()
    encoding_format = serializers.ChoiceField(["float", "base64"], default="float")
    dimensions = NotOfferedField()
    user = serializers.CharField(required=False, help_text="whoever is behind it; not used")

    def validate_input(self, texts: list[str]) -> list[str]:
        if not 0 < len(texts) <= MOST_TEXTS:
            raise serializers.ValidationError(f"must be 1 to {MOST_TEXTS} texts")
        return texts
