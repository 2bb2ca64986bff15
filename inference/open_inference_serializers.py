"""The Open Inference Protocol in the OpenAPI document; its bodies may carry binary data, so none
of these validates anything."""

from typing import Any

from rest_framework import serializers

DATA = "nested or flat; left out where it comes as binary data"


class TensorSpecSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    datatype = serializers.CharField(help_text="BOOL, UINT8 … INT64, FP16, FP32, FP64, BYTES")
    shape = serializers.ListField(child=serializers.IntegerField(), help_text="-1: any size")


class InferenceTensorSerializer(TensorSpecSerializer):
    shape = serializers.ListField(child=serializers.IntegerField())
    parameters = serializers.DictField(required=False, help_text="`binary_data_size`")
    data = serializers.JSONField(required=False, help_text=DATA)  # type: ignore[assignment]


class OutputSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    parameters = serializers.DictField(required=False, help_text="`binary_data`")


class InferSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(required=False)
    model_name = serializers.CharField(required=False, help_text="as in the address")
    parameters = serializers.DictField(
        required=False, help_text="`binary_data_output`; `timeout` in microseconds"
    )
    inputs = InferenceTensorSerializer(many=True)
    outputs = OutputSerializer(many=True, required=False)


class InferredSerializer(serializers.Serializer[Any]):
    model_name = serializers.CharField()
    model_version = serializers.CharField()
    id = serializers.CharField(required=False)
    outputs = InferenceTensorSerializer(many=True)


class ProtocolServerSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField()
    extensions = serializers.ListField(child=serializers.CharField())


class ModelMetadataSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    versions = serializers.ListField(child=serializers.CharField(), help_text="in memory")
    platform = serializers.CharField()
    inputs = TensorSpecSerializer(many=True)
    outputs = TensorSpecSerializer(many=True)


class ModelReadySerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ready = serializers.BooleanField()


class IndexSerializer(serializers.Serializer[Any]):
    ready = serializers.BooleanField(required=False, help_text="only those that answer now")


class IndexEntrySerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    version = serializers.CharField()
    state = serializers.CharField(help_text="READY, LOADING, UNLOADING or UNAVAILABLE")
    reason = serializers.CharField()


class RepositorySerializer(serializers.Serializer[Any]):
    parameters = serializers.DictField(required=False)
