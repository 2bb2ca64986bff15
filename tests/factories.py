"""The smallest valid row of each kind; override by keyword."""

from typing import Any

from django.contrib.auth.models import Group, User

from datasets.models import Dataset, DatasetVersion
from inference.models import LoadedModel, State
from jobs.models import Job
from models_registry.models import ModelVersion, RegisteredModel
from sessions.models import TrainingSession

_next = iter(range(1, 10**9))


def user(username: str = "", *, role: str = "operator", password: str = "correct horse") -> User:
    """A role is membership in the group of that name; an admin is also staff and superuser."""
    person = User.objects.create_user(username or f"person{next(_next)}", password=password)
    if role == "admin":
        person.is_staff = person.is_superuser = True
        person.save()
    else:
        person.groups.add(Group.objects.get_or_create(name=role)[0])
    return person


def job(**values: Any) -> Job:
    return Job.objects.create(**{"id": f"train_test_{next(_next)}", "kind": "train", **values})


def dataset_version(**values: Any) -> DatasetVersion:
    name = values.pop("name", f"table{next(_next)}")
    owner = values.pop("owner", None)
    dataset, _ = Dataset.objects.get_or_create(name=name, defaults={"owner": owner})
    return DatasetVersion.objects.create(
        **{
            "dataset": dataset,
            "number": dataset.versions.count() + 1,
            "format": "csv",
            "kind": "table",
            "sample_count": 3,
            "dimensions": [3, 2],
            "size_bytes": 20,
            "schema": {
                "columns": [
                    {"name": "x", "type": "number"},
                    {"name": "label", "type": "string"},
                ],
                "target": "label",
                "classes": ["a", "b"],
            },
            "sha256": "0" * 64,
            "file_path": f"{name}/v1",
            **values,
        }
    )


def session(**values: Any) -> TrainingSession:
    job_values = {
        key: values.pop(key)
        for key in list(values)
        if key not in {field.name for field in TrainingSession._meta.get_fields()} or key == "job"
    }
    row = job_values.pop("job", None) or job(**job_values)
    return TrainingSession.objects.create(
        **{
            "job": row,
            "recipe": "network",
            "total_epochs": 3,
            "dataset_version": values.pop("dataset_version", None) or dataset_version(),
            **values,
        }
    )


def model_version(**values: Any) -> ModelVersion:
    name = values.pop("name", f"model{next(_next)}")
    owner = values.pop("owner", None)
    model, _ = RegisteredModel.objects.get_or_create(name=name, defaults={"owner": owner})
    number = model.versions.count() + 1
    return ModelVersion.objects.create(
        **{
            "model": model,
            "number": number,
            "framework": "pytorch",
            "task": "classification",
            "size_bytes": 10,
            "file_path": f"{name}/v{number}",
            **values,
        }
    )


def loaded_model(**values: Any) -> LoadedModel:
    """Ready, unless said otherwise."""
    if "version" not in values:
        values["version"] = model_version()
    return LoadedModel.objects.create(**{"state": State.READY, "device": "cpu", **values})


def base_model(**values: Any) -> ModelVersion:
    """A row that looks like a Hugging Face folder; there are no files behind it."""
    names = ("config.json", "model.safetensors", "tokenizer.json")
    files = [{"path": name, "size_bytes": 1, "sha256": "0" * 64} for name in names]
    return model_version(
        **{"framework": "transformers", "task": "causal", "files": files, **values}
    )
