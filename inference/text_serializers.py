"""Requests for text and for verdicts, and their answers, as JSON."""

from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from inference.serializers import LONGEST_TIMEOUT_SECONDS
from models_registry.serializers import ChangeSerializer

LONGEST_PROMPT = 400_000
LEAST_TEMPERATURE = 0.1
MOST_TEXTS = 256
WHICH = "`digits`, `digits@3` or `digits@champion`"


class TemperatureField(serializers.FloatField):
    """0 is greedy; below 0.1 nothing else is of use."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=2, **options)

    def to_internal_value(self, data: Any) -> float:
        value = super().to_internal_value(data)
        if 0 < value < LEAST_TEMPERATURE:
            raise serializers.ValidationError(
                f"must be 0 (always the likeliest token), or from {LEAST_TEMPERATURE} to 2",
                code="min_value",
            )
        return value


@extend_schema_field(
    {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)
class TextsField(serializers.Field[Any, Any, Any, Any]):
    """A text, or a list of texts."""

    def to_internal_value(self, data: Any) -> list[str]:
        texts = [data] if isinstance(data, str) else data
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise serializers.ValidationError("must be a text, or a list of texts")
        return texts

    def to_representation(self, value: Any) -> Any:
        return value


class _Asked(ChangeSerializer):
    model = serializers.CharField(max_length=200, default=None, allow_null=True, help_text=WHICH)
    task = serializers.CharField(
        max_length=64,
        default=None,
        allow_null=True,
        help_text="where no model is named: the one with this alias",
    )
    timeout_seconds = serializers.FloatField(
        min_value=0.001, max_value=LONGEST_TIMEOUT_SECONDS, default=120
    )


class GenerateSerializer(_Asked):
    prompt = serializers.CharField(max_length=LONGEST_PROMPT, trim_whitespace=False)
    max_length = serializers.IntegerField(
        min_value=1, max_value=512, default=100, help_text="new tokens of each text"
    )
    temperature = TemperatureField(default=0.7, help_text="0: always the likeliest; else 0.1 to 2")
    top_p = serializers.FloatField(min_value=0, max_value=1, default=0.95)
    top_k = serializers.IntegerField(min_value=0, max_value=10**6, default=0, help_text="0: all")
    num_return_sequences = serializers.IntegerField(min_value=1, max_value=10, default=1)
    seed = serializers.IntegerField(
        min_value=0, max_value=2**63 - 1, default=None, allow_null=True,
        help_text="the same seed gives the same text",
    )  # fmt: skip
    stop = TextsField(default=None, allow_null=True, help_text="texts end before any of these")
    stream = serializers.BooleanField(
        default=False,
        help_text="server-sent events: `piece` {index, text}, then `done` with the whole answer,"
        " or `error`",
    )


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class GeneratedSerializer(serializers.Serializer[Any]):
    generated_code = serializers.ListField(
        child=serializers.CharField(), help_text="each begins with the prompt"
    )
    completions = serializers.ListField(
        child=serializers.CharField(), help_text="what the model wrote, alone"
    )
    finish_reasons = serializers.ListField(
        child=serializers.CharField(),
        help_text="stop: it came to its end; length: max_length, or the model's context, was full",
    )
    prompt = serializers.CharField()
    inference_time_ms = serializers.FloatField()
    model_name = serializers.CharField()
    version = serializers.IntegerField()
    device = serializers.CharField()
    usage = UsageSerializer()


class CodeField(serializers.CharField):
    """Whatever a file holds: nothing, or NULs, which are kept nowhere."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, allow_blank=True, **options)
        self.validators = [
            each
            for each in self.validators
            if not isinstance(each, ProhibitNullCharactersValidator)
        ]


class ClassifySerializer(_Asked):
    code = CodeField(max_length=LONGEST_PROMPT, help_text="or any text")


class CodePartSerializer(serializers.Serializer[Any]):
    first_line = serializers.IntegerField()
    last_line = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field of that name
    score = serializers.FloatField(help_text="how vulnerable it is, 0 to 1")


class CodeFindingSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    rule = serializers.CharField(help_text="of Bandit, as B608")
    cwe = serializers.CharField()
    severity = serializers.CharField(help_text="low, medium or high")
    sentence = serializers.CharField()


class VerdictSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]  # a field of that name
    confidence = serializers.FloatField()
    all_scores = serializers.DictField(child=serializers.FloatField(), help_text="sum to 1")
    code = serializers.CharField()
    inference_time_ms = serializers.FloatField()
    model_name = serializers.CharField()
    version = serializers.IntegerField()
    parts = CodePartSerializer(many=True, help_text="task security: functions; the worst decides")
    findings = CodeFindingSerializer(many=True, help_text="task security: what rules say of lines")
    notes = serializers.ListField(child=serializers.CharField())


class EmbedSerializer(_Asked):
    input = TextsField(help_text="a text, or a list of texts")

    def validate_input(self, texts: list[str]) -> list[str]:
        if not 0 < len(texts) <= MOST_TEXTS:
            raise serializers.ValidationError(f"must be 1 to {MOST_TEXTS} texts")
        return texts


class EmbeddedSerializer(serializers.Serializer[Any]):
    embeddings = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField()), help_text="one for each text"
    )
    dimensions = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    inference_time_ms = serializers.FloatField()
    model_name = serializers.CharField()
    version = serializers.IntegerField()
