"""A web server and an inference manager, with language models that are loaded when asked for."""

from collections.abc import Iterator

import pytest

from tests.inference.plane.conftest import Served, serving_models

MAKE = """
import json
from django.conf import settings
from accounts.services import create_key
from tests import factories
from tests.inference.conftest import register
from tests.inference.texts.models import make_models

for folder, task in make_models(settings.MODELS_DIR):
    register(folder, name=folder.parent.name, framework="transformers", task=task)
viewer = factories.user("viewer", role="viewer")
print(json.dumps({"viewer": create_key(user=viewer, name="viewer", role="viewer")[1]}))
"""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving_models(tmp_path_factory.mktemp("texts"), make=MAKE, ready=()) as running:
        yield running
