"""The rules that every machine begins with, and the clock of what a sampler cannot notice."""

from django.db import migrations

# name, metric, threshold, clear threshold, seconds, severity
ABOVE = [
    ("GPU hot", "gpu.temperature_celsius", 85, 82, 60, "warning"),
    ("GPU too hot", "gpu.temperature_celsius", 92, 89, 60, "critical"),
    ("GPU slowed down by its hardware", "gpu.hardware_slowdown", 1, None, 60, "warning"),
    ("VRAM nearly full", "gpu.memory_percent", 97, 95, 300, "warning"),
    ("GPU memory errors", "gpu.ecc_uncorrected", 1, None, 0, "critical"),
    ("GPU error (XID)", "gpu.xid", 1, None, 0, "critical"),
    ("GPU lost", "gpu.lost", 1, None, 5, "critical"),
    ("Disk nearly full", "disk_percent", 90, 88, 60, "warning"),
    ("Disk full", "disk_percent", 97, 95, 60, "critical"),
    ("Memory nearly full", "memory_percent", 95, 92, 120, "critical"),
    ("Memory pressure", "pressure_memory_percent", 10, 5, 120, "warning"),
    ("Sampler silent", "sampler_silent_seconds", 30, None, 0, "critical"),
]
BELOW = [("GPU held but idle", "gpu.held_busy_percent", 5, 10, 900, "warning")]


def add(apps, schema_editor):
    rules = apps.get_model("monitoring", "AlertRule").objects
    for comparison, rows in (("above", ABOVE), ("below", BELOW)):
        for name, metric, threshold, clear, seconds, severity in rows:
            rules.get_or_create(
                name=name,
                defaults={
                    "metric": metric,
                    "comparison": comparison,
                    "threshold": threshold,
                    "clear_threshold": clear,
                    "for_seconds": seconds,
                    "severity": severity,
                },
            )
    apps.get_model("django_q", "Schedule").objects.get_or_create(
        name="alerts",
        defaults={
            "func": "monitoring.tasks.watch_alerts",
            "schedule_type": "I",
            "minutes": 1,
            "repeats": -1,
        },
    )


def remove(apps, schema_editor):
    names = [row[0] for row in (*ABOVE, *BELOW)]
    apps.get_model("monitoring", "AlertRule").objects.filter(name__in=names).delete()
    apps.get_model("django_q", "Schedule").objects.filter(name="alerts").delete()


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0003_alerts"), ("django_q", "0018_task_success_index")]
    operations = [migrations.RunPython(add, remove)]
