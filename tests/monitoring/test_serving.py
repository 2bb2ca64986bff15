import socket
import threading
from typing import Any

import pytest

from monitoring import serving
from monitoring.serving import CannotServe, Plan, check_port, end_trainings, make_services


def environment_of(name: str, **plan: Any) -> dict[str, str]:
    services = make_services(Plan(**{"host": "127.0.0.1", "port": 8000, **plan}))
    return dict(next(service.environment for service in services if service.name == name))


def test_it_starts_the_web_both_clusters_the_sampler_and_inference() -> None:
    services = make_services(Plan(host="127.0.0.1", port=8000))
    assert [service.name for service in services] == [
        "web",
        "queue",
        "gpu-queue",
        "sampler",
        "inference",
    ]
    assert environment_of("gpu-queue") == {"Q_CLUSTER_NAME": "gpu"}


def test_open_to_the_network_all_names_of_this_machine_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "gpubox.example")
    allowed = environment_of("web", host="0.0.0.0")["ALLOWED_HOSTS"].split(",")
    assert allowed[0] == "gpubox.example"
    assert socket.gethostname() in allowed
    assert "127.0.0.1" in allowed


def test_closed_to_the_network_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLOWED_HOSTS", raising=False)
    assert environment_of("web")["ALLOWED_HOSTS"] == ""


@pytest.mark.parametrize(
    ("host", "url", "probe"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", "127.0.0.1"),
        ("::1", "http://[::1]:80", "::1"),
        ("0.0.0.0", f"http://{socket.gethostname()}:80", "127.0.0.1"),
        ("::", f"http://{socket.gethostname()}:80", "::1"),
    ],
)
def test_the_address_can_be_clicked_and_probed(host: str, url: str, probe: str) -> None:
    plan = Plan(host=host, port=80)
    assert (plan.url, plan.probe_address) == (url, (probe, 80))


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=f"Port {port} is already in use; choose another"):
            check_port(Plan(host="127.0.0.1", port=port))
    check_port(Plan(host="127.0.0.1", port=port))


def test_an_address_that_is_not_ours_is_a_sentence() -> None:
    with pytest.raises(CannotServe, match=r"Cannot listen on 192\.0\.2\.1"):
        check_port(Plan(host="192.0.2.1", port=8000))


def test_trainings_that_cannot_be_ended_in_time_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(serving, "TRAININGS_SECONDS", 0.05)
    monkeypatch.setattr(serving, "shutdown_running", lambda grace: [str(stuck.wait(20))])
    assert "next start takes care" in end_trainings()
    stuck.set()


def test_it_says_how_many_trainings_went_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "shutdown_running", lambda grace: ["train_1", "train_2"])
    assert end_trainings() == "Trainings put back into the queue: 2."


def test_a_failure_while_ending_trainings_is_logged_and_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(grace: float) -> list[str]:
        raise RuntimeError("the database is away")

    monkeypatch.setattr(serving, "shutdown_running", broken)
    assert "next start takes care" in end_trainings()
    assert "the database is away" in caplog.text
