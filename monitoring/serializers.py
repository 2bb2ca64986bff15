"""The answers of health and system, for the API document."""

from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers


def _null(
    kind: type[serializers.Field[Any, Any, Any, Any]],
) -> serializers.Field[Any, Any, Any, Any]:
    return kind(allow_null=True)


class ServicesSerializer(serializers.Serializer[Any]):
    """Each is `ok`, `silent`, `unreachable` or `unknown`."""

    database = serializers.CharField()
    queue = serializers.CharField()
    gpu_workers = serializers.CharField()
    sampler = serializers.CharField()
    inference = serializers.CharField()
    api = serializers.CharField()


class LockSerializer(serializers.Serializer[Any]):
    """What holds the processes that open files and models of strangers."""

    landlock = serializers.IntegerField(help_text="version of the kernel's; 0: none")
    seccomp = serializers.BooleanField()


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["healthy", "degraded", "unhealthy"])
    version = serializers.CharField()
    timestamp = serializers.DateTimeField()
    uptime_seconds = serializers.FloatField()
    services = ServicesSerializer()
    lock = LockSerializer()
    gpu_available = serializers.BooleanField()
    gpu_name = _null(serializers.CharField)
    cuda_version = _null(serializers.CharField)
    memory_allocated_gb = _null(serializers.FloatField)
    memory_used_mb = _null(serializers.FloatField)
    memory_available_mb = _null(serializers.FloatField)
    cpu_usage_percent = _null(serializers.FloatField)
    active_sessions = _null(serializers.IntegerField)
    active_jobs = _null(serializers.IntegerField)
    models_loaded = _null(serializers.IntegerField)


class ReadinessSerializer(serializers.Serializer[Any]):
    ready = serializers.BooleanField()
    services = serializers.DictField(child=serializers.CharField())
    models_replaced = serializers.ListField(
        child=serializers.CharField(), help_text="whose worker died; another one is on its way"
    )


class GpuSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    uuid = serializers.CharField()
    parent_uuid = serializers.CharField(help_text="of the GPU that a MIG instance is part of")
    name = serializers.CharField()
    vendor = serializers.CharField()
    driver = serializers.CharField()
    cuda_version = serializers.CharField()
    busy_percent = _null(serializers.FloatField)
    memory_total_bytes = _null(serializers.IntegerField)
    memory_used_bytes = _null(serializers.IntegerField)
    memory_reserved_bytes = _null(serializers.IntegerField)
    memory_active_percent = _null(serializers.FloatField)
    temperature_celsius = _null(serializers.FloatField)
    temperature_limit_celsius = _null(serializers.FloatField)
    power_watts = _null(serializers.FloatField)
    power_limit_watts = _null(serializers.FloatField)
    clock_sm_mhz = _null(serializers.FloatField)
    clock_memory_mhz = _null(serializers.FloatField)
    fan_percent = _null(serializers.FloatField)
    pcie_received_bytes_per_second = _null(serializers.FloatField)
    pcie_sent_bytes_per_second = _null(serializers.FloatField)
    sm_active_percent = _null(serializers.FloatField)
    sm_occupancy_percent = _null(serializers.FloatField)
    tensor_active_percent = _null(serializers.FloatField)
    energy_joules = _null(serializers.FloatField)
    limits = inline_serializer(
        "ClockLimit",
        {
            "code": serializers.CharField(),
            "text": serializers.CharField(),
            "level": serializers.ChoiceField(choices=["note", "warning"]),
        },
        many=True,
    )
    details = serializers.DictField(help_text="modes, error counts, PCIe link, firmware")
    reasons = serializers.DictField(child=serializers.CharField())


class GpusSerializer(serializers.Serializer[Any]):
    results = GpuSerializer(many=True)
    reason = serializers.CharField(allow_null=True, help_text="why there is none")


class ProcessSerializer(serializers.Serializer[Any]):
    pid = serializers.IntegerField()
    user = _null(serializers.CharField)
    command = _null(serializers.CharField)
    kind = serializers.CharField(help_text="training, server or outside")
    session = _null(serializers.CharField)
    owner = _null(serializers.CharField)
    gpu_uuid = _null(serializers.CharField)
    gpu_memory_bytes = _null(serializers.IntegerField)
    gpu_sm_percent = _null(serializers.FloatField)
    cpu_percent = serializers.FloatField(allow_null=True, help_text="of one core")
    memory_bytes = _null(serializers.IntegerField)
    started_at = _null(serializers.DateTimeField)
    reasons = serializers.DictField(child=serializers.CharField())


class GpuUseSerializer(serializers.Serializer[Any]):
    session = _null(serializers.CharField)
    owner = _null(serializers.CharField)
    held_seconds = serializers.FloatField()
    energy_kwh = serializers.FloatField(allow_null=True, help_text="null: the GPU counts none")


class GpuDaySerializer(serializers.Serializer[Any]):
    date = serializers.DateField(help_text="UTC")
    energy_kwh = serializers.FloatField()


class GpuUsesSerializer(serializers.Serializer[Any]):
    start = serializers.DateTimeField(help_text="it is kept by the hour")
    end = serializers.DateTimeField()
    results = GpuUseSerializer(many=True, help_text="session null: others, or idle")
    days = GpuDaySerializer(many=True)


class ProcessesSerializer(serializers.Serializer[Any]):
    timestamp = _null(serializers.DateTimeField)
    results = ProcessSerializer(many=True)
    reasons = serializers.DictField(child=serializers.CharField())


def _numbers() -> serializers.ListField:
    return serializers.ListField(child=serializers.FloatField(allow_null=True))


class HistorySerializer(serializers.Serializer[Any]):
    range = _null(serializers.CharField)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    bucket_seconds = serializers.IntegerField()
    series = serializers.DictField(
        child=inline_serializer(
            "HistorySeries",
            {
                "timestamps": serializers.ListField(
                    child=serializers.FloatField(), help_text="Unix seconds, begin of each bucket"
                ),
                "mean": _numbers(),
                "min": _numbers(),
                "max": _numbers(),
            },
        )
    )


class MetricsSerializer(serializers.Serializer[Any]):
    active_jobs = serializers.IntegerField()
    completed_jobs = serializers.IntegerField()
    gpu_memory_allocated_gb = _null(serializers.FloatField)


class ConfigSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    recipes = serializers.DictField()
    limits = serializers.DictField()
    settings = serializers.DictField(allow_null=True, help_text="only for admins; no secrets")


class SystemInfoSerializer(serializers.Serializer[Any]):
    host = serializers.CharField()
    timestamp = _null(serializers.DateTimeField)
    age_seconds = _null(serializers.FloatField)
    is_stale = serializers.BooleanField()
    cpu = inline_serializer(
        "Cpu",
        {
            "percent": _null(serializers.FloatField),
            "per_core": serializers.ListField(child=serializers.FloatField()),
            "count": _null(serializers.IntegerField),
            "load_1m": _null(serializers.FloatField),
            "load_5m": _null(serializers.FloatField),
            "load_15m": _null(serializers.FloatField),
        },
    )
    pressure = inline_serializer(
        "Pressure",
        {
            "cpu_percent": _null(serializers.FloatField),
            "memory_percent": _null(serializers.FloatField),
            "io_percent": _null(serializers.FloatField),
        },
    )
    memory = inline_serializer(
        "Memory",
        {
            "total_bytes": _null(serializers.IntegerField),
            "used_bytes": _null(serializers.IntegerField),
            "available_bytes": _null(serializers.IntegerField),
            "percent": _null(serializers.FloatField),
            "swap_used_bytes": _null(serializers.IntegerField),
            "swap_total_bytes": _null(serializers.IntegerField),
        },
    )
    disk = inline_serializer(
        "Disk",
        {
            "total_bytes": _null(serializers.IntegerField),
            "free_bytes": _null(serializers.IntegerField),
            "percent": _null(serializers.FloatField),
            "read_bytes_per_second": _null(serializers.FloatField),
            "write_bytes_per_second": _null(serializers.FloatField),
        },
    )
    network = inline_serializer(
        "Network",
        {
            "received_bytes_per_second": _null(serializers.FloatField),
            "sent_bytes_per_second": _null(serializers.FloatField),
        },
    )
    gpus = GpuSerializer(many=True)
    gpu_reason = serializers.CharField(
        allow_null=True, help_text="why there is no GPU; null where there is one"
    )
    reasons = serializers.DictField(
        child=serializers.CharField(), help_text="why a reading is null, by group"
    )
