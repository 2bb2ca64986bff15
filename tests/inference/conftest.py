"""A manager that the test itself ticks; its workers are real processes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings as live_settings
from pytest_django import Settings

from inference.client import connect
from inference.manager import Manager
from inference.models import LoadedModel
from inference.services import find_ready
from mlserver.lib.single import only_one
from models_registry.models import ModelVersion
from tests import factories
from tests.ml.serve.models import list_files, write_onnx
from tests.waiting import PATIENCE_SECONDS


class Ticking(Manager):
    def until(self, condition: Callable[[], Any]) -> None:
        """Tick until the condition holds."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < ends_at, list(LoadedModel.objects.values())
            self.tick()
            time.sleep(0.02)

    def until_state(self, loaded: LoadedModel, *states: str) -> LoadedModel:
        def is_there() -> bool:
            loaded.refresh_from_db()
            return loaded.state in states

        self.until(is_there)
        return loaded

    def until_gone(self, loaded: LoadedModel) -> None:
        self.until(lambda: not LoadedModel.objects.filter(pk=loaded.pk).exists())


@pytest.fixture
def manager(db: None, settings: Settings, tmp_path: Path) -> Iterator[Ticking]:
    settings.SOCKETS_DIR = tmp_path / "run"
    settings.VAR_DIR = tmp_path
    with only_one(tmp_path / "inference.pid"):
        made = Ticking()
        made.begin()
        try:
            yield made
        finally:
            made.stop()


def ask(name: str, inputs: Any, **header: Any) -> dict[str, Any]:
    """The outputs of a model in memory, asked over its worker's socket."""
    return asyncio.run(_ask(find_ready(name), orjson.dumps(inputs), header))


async def _ask(loaded: LoadedModel, body: bytes, header: dict[str, Any]) -> dict[str, Any]:
    worker = await connect(live_settings.SOCKETS_DIR / loaded.socket)
    try:
        _, answer = await worker.predict(body, timeout_seconds=30, **header)
    finally:
        worker.close()
    outputs: dict[str, Any] = orjson.loads(answer)
    return outputs


def register(folder: Path, **values: Any) -> ModelVersion:
    """A version whose files lie in `folder`, under MODELS_DIR."""
    files = list_files(folder)
    return factories.model_version(
        files=files,
        size_bytes=sum(file["size_bytes"] for file in files),
        file_path=str(folder.relative_to(live_settings.MODELS_DIR)),
        **values,
    )


def register_onnx(name: str, **values: Any) -> ModelVersion:
    folder = live_settings.MODELS_DIR / name / f"v{time.monotonic_ns()}"
    write_onnx(folder, **values)
    return register(folder, name=name, framework="onnx")
