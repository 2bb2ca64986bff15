"""Every hour, buckets of the rate limit and tokens that have had their time are forgotten."""

from django.db import migrations


def add(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.get_or_create(
        name="tidy accounts",
        defaults={"func": "accounts.tasks.tidy", "schedule_type": "H", "repeats": -1},
    )


def remove(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.filter(name="tidy accounts").delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_keys_audit_and_limits"),
        ("django_q", "0018_task_success_index"),
    ]
    operations = [migrations.RunPython(add, remove)]
