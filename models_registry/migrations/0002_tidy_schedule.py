"""Once a day: empty the trash of what is too old, clear away what killed copies left."""

from django.db import migrations


def add(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.get_or_create(
        name="models-tidy",
        defaults={"func": "models_registry.tasks.tidy", "schedule_type": "D", "repeats": -1},
    )


def remove(apps, schema_editor):
    apps.get_model("django_q", "Schedule").objects.filter(name="models-tidy").delete()


class Migration(migrations.Migration):
    dependencies = [("models_registry", "0001_initial"), ("django_q", "0018_task_success_index")]
    operations = [migrations.RunPython(add, remove)]
