"""What a session produced, over the trash and back."""

from pathlib import Path

from django.contrib.auth.models import User
from pytest_django import DjangoCaptureOnCommitCallbacks

from jobs.models import State
from models_registry import removal
from tests import factories
from tests.models_registry.folders import register


def test_a_model_that_comes_back_is_again_what_its_session_produced(
    owner: User,
    tmp_path: Path,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    session = factories.session(state=State.COMPLETED)
    version = register(tmp_path / "model", owner, session=session.pk)
    session.refresh_from_db()
    assert session.produced == version
    with django_capture_on_commit_callbacks(execute=True):
        removal.delete_model(version.model, owner)
    session.refresh_from_db()
    assert session.produced is None

    removal.restore_model("digits", owner, new_name="again")
    session.refresh_from_db()
    assert str(session.produced) == "again@1"
