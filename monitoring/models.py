"""Readings of the machine, and the heartbeat of the task clusters."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from jobs.models import QueueHold


class HostSample(models.Model):
    """One reading of the host; a field is null where it could not be taken (see `reasons`)."""

    host = models.CharField(max_length=255)
    timestamp = models.DateTimeField(default=timezone.now)
    cpu_percent = models.FloatField(null=True)
    cpu_per_core = models.JSONField(default=list)
    load_1m = models.FloatField(null=True)
    load_5m = models.FloatField(null=True)
    load_15m = models.FloatField(null=True)
    pressure_cpu_percent = models.FloatField(
        null=True, help_text="PSI: share of the last 10 s in which some task waited"
    )
    pressure_memory_percent = models.FloatField(null=True)
    pressure_io_percent = models.FloatField(null=True)
    memory_total_bytes = models.BigIntegerField(null=True)
    memory_used_bytes = models.BigIntegerField(null=True)
    memory_available_bytes = models.BigIntegerField(null=True)
    swap_used_bytes = models.BigIntegerField(null=True)
    swap_total_bytes = models.BigIntegerField(null=True)
    disk_total_bytes = models.BigIntegerField(null=True)
    disk_free_bytes = models.BigIntegerField(null=True)
    disk_read_bytes_per_second = models.FloatField(null=True)
    disk_write_bytes_per_second = models.FloatField(null=True)
    network_received_bytes_per_second = models.FloatField(null=True)
    network_sent_bytes_per_second = models.FloatField(null=True)
    gpu_count = models.PositiveIntegerField(default=0)
    reasons = models.JSONField(default=dict, help_text="field → why there is no reading")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["host", "timestamp"])]

    def __str__(self) -> str:
        return f"{self.host} {self.timestamp:%F %T}"


class GpuSample(models.Model):
    """One reading of one GPU, taken together with a HostSample."""

    host_sample = models.ForeignKey(HostSample, on_delete=models.CASCADE, related_name="gpus")
    index = models.PositiveIntegerField()
    uuid = models.CharField(max_length=64)
    parent_uuid = models.CharField(
        max_length=64, blank=True, default="", help_text="of the GPU that a MIG instance is part of"
    )
    name = models.CharField(max_length=128)
    vendor = models.CharField(max_length=16, blank=True, default="")
    driver = models.CharField(max_length=64, blank=True, default="")
    cuda_version = models.CharField(max_length=16, blank=True, default="")
    busy_percent = models.FloatField(null=True)
    memory_total_bytes = models.BigIntegerField(null=True)
    memory_used_bytes = models.BigIntegerField(null=True)
    memory_reserved_bytes = models.BigIntegerField(null=True, help_text="kept by the driver")
    memory_active_percent = models.FloatField(null=True, help_text="memory interface in use")
    temperature_celsius = models.FloatField(null=True)
    temperature_limit_celsius = models.FloatField(null=True, help_text="from here on it slows down")
    power_watts = models.FloatField(null=True)
    power_limit_watts = models.FloatField(null=True)
    clock_sm_mhz = models.FloatField(null=True)
    clock_memory_mhz = models.FloatField(null=True)
    fan_percent = models.FloatField(null=True)
    pcie_received_bytes_per_second = models.FloatField(null=True)
    pcie_sent_bytes_per_second = models.FloatField(null=True)
    sm_active_percent = models.FloatField(null=True)
    sm_occupancy_percent = models.FloatField(null=True)
    tensor_active_percent = models.FloatField(null=True)
    energy_joules = models.FloatField(null=True, help_text="counter since the driver was loaded")
    limits = models.JSONField(default=list, help_text="why the clock is limited, as words")
    details = models.JSONField(default=dict, help_text="what changes seldom: modes, errors, PCIe")
    reasons = models.JSONField(default=dict)

    class Meta:
        ordering = ["host_sample", "index", "id"]

    def __str__(self) -> str:
        return f"{self.name} {self.uuid}"


class HistoryBucket(models.Model):
    """Minimum, mean and maximum of one device's readings over `width` seconds.

    `device` is empty for the host, else the UUID of a GPU. No row: a gap.
    """

    host = models.CharField(max_length=255)
    device = models.CharField(max_length=64, blank=True, default="")
    width = models.PositiveIntegerField(help_text="seconds")
    start = models.BigIntegerField(help_text="Unix seconds, a multiple of the width")
    count = models.PositiveIntegerField(help_text="readings in it")
    values = models.JSONField(help_text="metric → [minimum, mean, maximum]")

    class Meta:
        ordering = ["host", "width", "start", "device"]
        constraints = [
            models.UniqueConstraint(
                fields=["host", "width", "start", "device"], name="one_bucket_per_device_and_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.device or self.host} {self.start}+{self.width}"


class ProcessTable(models.Model):
    """Who uses the machine, as it was seen last; replaced every few seconds."""

    host = models.CharField(max_length=255, primary_key=True)
    timestamp = models.DateTimeField(default=timezone.now)
    processes = models.JSONField(default=list)
    reasons = models.JSONField(default=dict)

    class Meta:
        ordering = ["host"]

    def __str__(self) -> str:
        return f"{self.host} {self.timestamp:%F %T}"


class GpuUse(models.Model):
    """What a GPU did for one session within an hour; without a session: for others, or nobody."""

    uuid = models.CharField(max_length=64, help_text="of the whole GPU")
    hour = models.DateTimeField(help_text="its begin")
    session = models.CharField(max_length=64, blank=True, default="")
    seconds = models.FloatField(default=0, help_text="how long it was held")
    joules = models.FloatField(null=True, help_text="null: the GPU counts no energy")

    class Meta:
        ordering = ["uuid", "hour", "session"]
        constraints = [
            models.UniqueConstraint(
                fields=["uuid", "hour", "session"], name="one_use_per_gpu_hour_and_session"
            )
        ]

    def __str__(self) -> str:
        return f"{self.uuid} {self.hour:%F %H}h {self.session or 'others'}"


class HardwareEvent(models.Model):
    """Something that happened to a GPU or its driver: an XID, an ECC error, lost, come back."""

    host = models.CharField(max_length=255)
    timestamp = models.DateTimeField(default=timezone.now)
    uuid = models.CharField(max_length=64, blank=True, default="", help_text="empty: the driver")
    kind = models.CharField(max_length=32, help_text="xid, ecc, lost, back")
    code = models.BigIntegerField(null=True, help_text="number of the XID")
    message = models.TextField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["host", "timestamp"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.uuid}: {self.message}"


class ClusterHeartbeat(models.Model):
    """When a task cluster last did something for us: the canary's footprint."""

    cluster = models.CharField(max_length=64, primary_key=True)
    host = models.CharField(max_length=255, blank=True, default="")
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["cluster"]

    def __str__(self) -> str:
        return f"{self.cluster} {self.seen_at:%F %T}"


class Severity(models.TextChoices):
    WARNING = "warning"
    CRITICAL = "critical"


class AlertRule(models.Model):
    """When somebody wants to know. Reaching `threshold` for `for_seconds` opens an alert;
    it closes only beyond `clear_threshold`, so that a value at the limit does not flicker."""

    class Metric(models.TextChoices):
        CPU = "cpu_percent", "CPU busy"
        MEMORY = "memory_percent", "Memory used"
        MEMORY_PRESSURE = "pressure_memory_percent", "Memory pressure"
        DISK = "disk_percent", "Disk used"
        SILENCE = "sampler_silent_seconds", "Sampler silent"
        GPU_TEMPERATURE = "gpu.temperature_celsius", "GPU temperature"
        GPU_MEMORY = "gpu.memory_percent", "VRAM used"
        GPU_HELD_BUSY = "gpu.held_busy_percent", "GPU busy while a session holds it"
        GPU_POWER = "gpu.power_percent", "GPU power, share of its limit"
        GPU_SLOWDOWN = "gpu.hardware_slowdown", "GPU slowed down by its hardware"
        GPU_ECC = "gpu.ecc_uncorrected", "GPU memory errors that could not be corrected"
        GPU_XID = "gpu.xid", "GPU errors reported by the driver (XID), last 10 min"
        GPU_LOST = "gpu.lost", "GPU that does not answer"

    class Comparison(models.TextChoices):
        ABOVE = "above", "at least"
        BELOW = "below", "less than"

    class Target(models.TextChoices):
        PAGE = "page", "these pages"
        WEBHOOK = "webhook", "these pages and a webhook"

    class Action(models.TextChoices):
        NONE = "", "nothing more"
        PAUSE_QUEUE = "pause_queue", "hold the queue until it is over"
        STOP_SESSION = "stop_session", "pause the session after a checkpoint"

    name = models.CharField(max_length=100, unique=True)
    metric = models.CharField(max_length=64, choices=Metric)
    comparison = models.CharField(max_length=8, choices=Comparison, default=Comparison.ABOVE)
    threshold = models.FloatField()
    clear_threshold = models.FloatField(
        null=True, blank=True, help_text="ends only when the value is back beyond this"
    )
    for_seconds = models.PositiveIntegerField(default=60)
    severity = models.CharField(max_length=16, choices=Severity, default=Severity.WARNING)
    target = models.CharField(max_length=16, choices=Target, default=Target.PAGE)
    webhook_url = models.CharField(max_length=2000, blank=True, default="")
    action = models.CharField(max_length=16, choices=Action, blank=True, default=Action.NONE)
    is_enabled = models.BooleanField(default=True)
    muted_until = models.DateTimeField(
        null=True, blank=True, help_text="until then no message, no action, no count"
    )

    class Meta:
        ordering = ["metric", "threshold", "name"]
        verbose_name = "alert rule"

    def __str__(self) -> str:
        return self.name

    def is_reached(self, value: float) -> bool:
        return self._is_beyond(value, self.threshold)

    def is_over(self, value: float) -> bool:
        limit = self.threshold if self.clear_threshold is None else self.clear_threshold
        return not self._is_beyond(value, limit)

    def _is_beyond(self, value: float, limit: float) -> bool:
        return value >= limit if self.comparison == self.Comparison.ABOVE else value < limit

    def is_muted(self, now: datetime) -> bool:
        return self.muted_until is not None and now < self.muted_until


class AlertQuerySet(models.QuerySet["Alert"]):
    def living(self) -> AlertQuerySet:
        return self.exclude(state=Alert.State.CLOSED)

    def shown(self) -> AlertQuerySet:
        """What has opened; one that still waits for its minutes is nobody's business."""
        return self.exclude(state=Alert.State.PENDING)

    def open(self) -> AlertQuerySet:
        return self.filter(state=Alert.State.OPEN)

    def calling(self, now: datetime | None = None) -> AlertQuerySet:
        """Open, and neither acknowledged nor muted: somebody should look."""
        muted = Q(rule__muted_until__gt=now or timezone.now())
        return self.open().filter(acknowledged_at=None).exclude(muted)


class Alert(models.Model):
    """One time that a rule was broken, by one device. A fact: it outlives its rule."""

    class State(models.TextChoices):
        PENDING = "pending"
        OPEN = "open"
        CLOSED = "closed"

    rule = models.ForeignKey(AlertRule, null=True, on_delete=models.SET_NULL, related_name="alerts")
    name = models.CharField(max_length=100)
    severity = models.CharField(max_length=16, choices=Severity)
    host = models.CharField(max_length=255)
    subject = models.CharField(
        max_length=64, blank=True, default="", help_text="UUID of the GPU; empty for the host"
    )
    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    value = models.FloatField(help_text="when it opened")
    message = models.TextField(blank=True, default="")
    since = models.DateTimeField(help_text="when the threshold was reached")
    opened_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True)
    hold = models.ForeignKey(QueueHold, null=True, on_delete=models.SET_NULL, related_name="+")
    updated_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "-opened_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "host", "subject"],
                condition=~Q(state="closed"),
                name="one_living_alert_per_rule_and_device",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class AlertDelivery(models.Model):
    """The outbox of the webhooks: a message until it has arrived."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    message_id = models.CharField(max_length=64, unique=True, help_text="the same at every try")
    rule = models.ForeignKey(
        AlertRule, null=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    url = models.CharField(max_length=2000)
    payload = models.JSONField()
    attempts = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    next_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "alert deliveries"
        indexes = [models.Index(fields=["status", "next_at"])]

    def __str__(self) -> str:
        return f"{self.message_id} {self.status}"
