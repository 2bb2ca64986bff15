"""The door of document 000: `training/start`, `training/status/{id}`, `training/jobs`.

Its words and bodies on the outside; sessions, services and states of this server behind it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.models import User
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from datasets.models import DatasetVersion
from datasets.services import DatasetNotFound, find_version, register_path
from mlserver.api.paging import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_SKIP,
    read_whole_number,
    refuse_unknown,
)
from mlserver.lib.errors import FieldError, Invalid, Malformed, NotFound
from mlserver.lib.files import find_inside
from mlserver.lib.suggestions import hint
from sessions.bases import find_base
from sessions.door_serializers import (
    TrainingJobsSerializer,
    TrainingListQuerySerializer,
    TrainingRequestSerializer,
    TrainingStartedSerializer,
    TrainingStatusSerializer,
    describe_start,
    describe_status,
)
from sessions.models import TrainingSession
from sessions.services import check_config, start_session

ARCHITECTURES = {"network": "auto", "auto": "auto", "mlp": "mlp", "cnn": "cnn"}
TASKS = ("auto", "classification", "regression")
# What a language model learns, as `task_type`, to the recipe.
RECIPES = {
    "text2text": "text2text",
    "causal": "causal",
    "classify": "classify",
    "classification": "classify",
}
# What document 000 calls the fields of a training configuration.
NAMES = {
    "dataset": "dataset_path",
    "epochs": "num_epochs",
    "architecture": "model_name",
    "base_model": "model_name",
    "recipe": "task_type",
    "task": "task_type",
    "name": "output_dir",
}
PASSED = {"num_epochs": "epochs", "batch_size": "batch_size", "learning_rate": "learning_rate"}
SESSIONS = TrainingSession.objects.select_related("job")

START_EXAMPLE = OpenApiExample(
    "a table",
    value={"dataset_path": "iris", "model_name": "network", "num_epochs": 20, "batch_size": 16},
    request_only=True,
)


class TrainingStartView(APIView):
    @extend_schema(
        summary="Start a training (document 000)",
        request=TrainingRequestSerializer,
        responses=TrainingStartedSerializer,
        examples=[START_EXAMPLE],
    )
    def post(self, request: Request) -> Response:
        """`dataset_path` is the name of a dataset, or a file in the datasets directory."""
        asked = read_request(request.data)
        return Response(describe_start(start_training(cast(User, request.user), asked)))


class TrainingStatusView(APIView):
    @extend_schema(
        summary="How a training is doing (document 000)", responses=TrainingStatusSerializer
    )
    def get(self, request: Request, job_id: str) -> Response:
        session = SESSIONS.filter(pk=job_id).first()
        if session is None:
            raise NotFound(f"Training job not found: {job_id[:100]}.", code="job_not_found")
        return Response(describe_status(session))


class TrainingJobsView(APIView):
    @extend_schema(
        summary="All trainings, the newest first (document 000)",
        parameters=[TrainingListQuerySerializer],
        responses=TrainingJobsSerializer,
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request, ("skip", "limit"))
        skip = read_whole_number(request, "skip", 0, 0, MAX_SKIP)
        limit = read_whole_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        newest = SESSIONS.order_by("-job__created_at", "-pk")[skip : skip + limit]
        jobs = [describe_start(session) for session in newest]
        return Response(TrainingJobsSerializer({"jobs": jobs, "total": SESSIONS.count()}).data)


def read_request(data: Any) -> dict[str, Any]:
    """The body, every field known and of its type; ranges are checked by `ml.config` alone."""
    if not isinstance(data, dict):
        raise Malformed('The body must be a JSON object, like {"dataset_path": "iris"}.')
    serializer = TrainingRequestSerializer(data=data)
    errors = [
        _unknown(name, list(serializer.fields)) for name in data if name not in serializer.fields
    ]
    if errors:
        raise Invalid(f"{errors[0].message}.", errors=errors)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def start_training(owner: User, asked: dict[str, Any]) -> TrainingSession:
    """What document 000 asks for as a session; refusals name the fields as it does."""
    config = {PASSED[name]: value for name, value in asked.items() if name in PASSED}
    name = read_output_dir(asked.get("output_dir", ""))
    try:
        config |= read_recipe(asked.get("model_name", "network"), asked.get("task_type", "auto"))
        check_config({**config, "dataset": asked["dataset_path"]})  # before a file is registered
        config["dataset"] = str(find_dataset(owner, asked["dataset_path"]))
        return start_session(owner=owner, config=config, name=name)
    except Invalid as error:
        raise _in_their_words(error) from None


def read_recipe(model_name: str, task_type: str) -> dict[str, Any]:
    """What is trained. The recipe follows from the model; `task_type` may say it."""
    if model_name in ARCHITECTURES:
        return {"architecture": ARCHITECTURES[model_name], "task": _read_task(task_type, TASKS)}
    said = _read_task(task_type, ("auto", *RECIPES))
    recipe = RECIPES[said] if said != "auto" else _recipe_of(model_name)
    return {"recipe": recipe, "base_model": model_name}


def _recipe_of(model_name: str) -> str:
    version = find_base(model_name)
    if version is None:
        return "text2text"  # what document 000 trains, from a model that nobody has seen here yet
    if version.task not in RECIPES:
        raise _refused(
            "task_type",
            f"must say what {version} is to learn: one of {', '.join(RECIPES)}",
            "auto",
            code="required",
        )
    return RECIPES[version.task]


def _read_task(task_type: str, known: tuple[str, ...]) -> str:
    if task_type in known:
        return task_type
    sentence = f"must be one of {', '.join(known)}; got {task_type[:100]!r}"
    raise _refused("task_type", sentence, task_type, code="invalid_choice")


def read_output_dir(path: str) -> str:
    """The name of the model: the last part. Empty, or the models directory itself: no name."""
    pure = PurePosixPath(path)
    if pure.is_absolute():
        if not pure.is_relative_to(settings.MODELS_DIR):
            raise _refused("output_dir", f"lies outside the models directory: {path[:200]!r}", path)
        pure = pure.relative_to(settings.MODELS_DIR)
    if ".." in pure.parts:
        raise _refused("output_dir", f"may not contain '..', got {path[:200]!r}", path)
    return "" if pure == PurePosixPath("models") else pure.name


def find_dataset(owner: User, path: str) -> DatasetVersion:
    """A registered name, also as `name@2`; else a file, registered when nobody has done so."""
    for reference in (path, path.removeprefix("data/")):
        try:
            return find_version(reference)
        except DatasetNotFound:
            continue
    root = settings.DATASETS_DIR
    source = find_inside(root, path) or find_inside(root, path.removeprefix("data/"))
    if source is None:
        message = f"{path[:200]!r} is neither a dataset nor a file in the datasets directory"
        raise DatasetNotFound(
            f"Dataset not found: {message}.",
            errors=[FieldError(field="dataset_path", message=message, value=path[:200])],
        )
    return _find_same(source) or register_path(owner=owner, path=str(source))[0]


def _find_same(source: Path) -> DatasetVersion | None:
    """The file may have been registered by somebody else, whose dataset one may use, not change."""
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    same = DatasetVersion.objects.select_related("dataset").filter(sha256=digest)
    return same.order_by("-created_at").first()


def _in_their_words(error: Invalid) -> Invalid:
    fields = [_renamed(each, NAMES.get(each.field, each.field)) for each in error.errors]
    sentence = "; ".join(each.message for each in fields) or error.detail
    return Invalid(sentence, code=error.code, errors=fields)


def _renamed(error: FieldError, name: str) -> FieldError:
    """Messages of a configuration begin with the name of the field."""
    rest = error.message.removeprefix(error.field)
    message = name + rest if rest != error.message else error.message
    return replace(error, field=name, message=message)


def _refused(field: str, message: str, value: str, code: str = "invalid") -> Invalid:
    shown = FieldError(field=field, message=f"{field} {message}", code=code, value=value[:200])
    return Invalid(f"{shown.message}.", code=code, errors=[shown])


def _unknown(name: str, known: list[str]) -> FieldError:
    message = f"unknown field '{name[:100]}'{hint(name, known)}"
    return FieldError(field=name[:100], message=message, code="unknown_field")
