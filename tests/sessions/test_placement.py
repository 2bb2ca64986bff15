import pytest

from jobs.models import State
from ml import hardware
from sessions.placement import place
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "count_gpus", lambda: 2)


def test_two_sessions_get_a_gpu_each() -> None:
    first, second = (
        factories.session(state=State.RUNNING, config={"device": "auto"}) for _ in range(2)
    )
    assert place(first) == {"CUDA_VISIBLE_DEVICES": "0"}
    assert place(second) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_session_that_ended_holds_nothing() -> None:
    factories.session(state=State.COMPLETED, summary={"gpus": ["0"]})
    session = factories.session(state=State.RUNNING, config={"device": "auto"})
    assert place(session) == {"CUDA_VISIBLE_DEVICES": "0"}


def test_a_device_that_was_named_is_left_alone() -> None:
    assert place(factories.session(config={"device": "cuda:1"})) == {}


def test_where_there_is_one_gpu_there_is_nothing_to_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert place(factories.session(config={"device": "auto"})) == {}


def test_several_processes_get_a_gpu_each_and_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "count_gpus", lambda: 3)
    config = {"device": "auto", "num_processes": 2}
    session = factories.session(state=State.RUNNING, config=config)
    assert place(session) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    other = factories.session(state=State.RUNNING, config={"device": "auto"})
    assert place(other) == {"CUDA_VISIBLE_DEVICES": "2"}
