"""A web server and an inference manager as `serve` starts them, with small models in memory."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import ROOT, Stack, run_django, serving_web
from tests.waiting import wait_until

MAKE = """
import json, pathlib, sys
from django.conf import settings
from django.contrib.auth.models import User
from accounts.services import create_key
from inference.services import Wish, load_model
from tests import factories
from tests.inference.conftest import register_onnx
from tests.ml.serve.models import write_words
from tests.inference.conftest import register

admin = User.objects.get(username="admin")
register_onnx("small")
register_onnx("large", sizes=(4, 2048, 2048, 2048, 3))
register_onnx("resting")  # nobody ever loads it
register_onnx("guest")  # comes and goes
register(write_words(settings.MODELS_DIR / "words" / "v1").parent, name="words", framework="onnx")
for name in ("small", "large", "words"):
    load_model(name, admin, Wish())
viewer = factories.user("viewer", role="viewer")
keys = {
    "viewer": create_key(user=viewer, name="viewer", role="viewer")[1],
    "elsewhere": create_key(user=admin, name="e", role="admin", scopes=["datasets"])[1],
    "far": create_key(user=admin, name="f", role="admin", allowed_networks=["203.0.113.0/24"])[1],
}
print(json.dumps(keys))
"""

LOADED = ("small", "large", "words")


@dataclass
class Served:
    """`keys` by name; `stack.key` is an admin's."""

    stack: Stack
    keys: dict[str, str]

    @property
    def url(self) -> str:
        return self.stack.url

    def client(self, key: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.stack.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def django(self, code: str) -> Any:
        return run_django(code, self.stack.env)

    def loaded(self) -> dict[str, dict[str, Any]]:
        with self.client() as client:
            rows = client.get("/api/v1/models/loaded").json()["results"]
        return {row["name"]: row for row in rows}

    def wait_until_ready(self, *names: str) -> None:
        def are_ready() -> bool:
            loaded = self.loaded()
            return all(loaded.get(name, {}).get("state") == "ready" for name in names)

        wait_until(are_ready, self.loaded)


@contextmanager
def serving_models(
    var_dir: Path, make: str = MAKE, ready: Sequence[str] = LOADED, **more: str
) -> Iterator[Served]:
    with serving_web(var_dir, **more) as stack:
        command = [sys.executable, "manage.py", "run_inference"]
        manager = subprocess.Popen(command, cwd=ROOT, env=stack.env)
        try:
            served = Served(stack, run_django(make, stack.env))
            served.wait_until_ready(*ready)
            yield served
        finally:
            manager.terminate()
            manager.wait(20)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, friends = tmp_path_factory.mktemp("plane"), "https://friend.example"
    with serving_models(
        folder,
        RATE_LIMIT_ENABLED="1",
        RATE_LIMIT_REQUESTS="1000000",
        MAX_INFERENCE_REQUESTS="300",
        MAX_INFERENCE_SIZE=str(2**21),
        CORS_ORIGINS=friends,
    ) as running:
        yield running
