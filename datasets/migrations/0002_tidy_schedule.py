"""Once a day: empty the trash of what is too old, clear away what killed uploads left."""

from django.db import migrations


def add(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.get_or_create(
        name="datasets-tidy",
        defaults={"func": "datasets.tasks.tidy", "schedule_type": "D", "repeats": -1},
    )


def remove(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.filter(name="datasets-tidy").delete()


class Migration(migrations.Migration):
    dependencies = [("datasets", "0001_initial"), ("django_q", "0018_task_success_index")]
    operations = [migrations.RunPython(add, remove)]
