import json
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client, RequestFactory
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from inference.models import LoadedModel
from inference.models import State as LoadState
from jobs.models import State
from monitoring.metering import forget_counts, name_route
from tests import factories
from tests.monitoring.rows import GIB, gpu_sample, host_sample
from tests.servers import ROOT, environment
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.django_db

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def signed_in(client: Client) -> Client:
    client.force_login(factories.user("looker", role="viewer"))
    return client


def scrape(client: Client) -> str:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    return response.content.decode()


def read(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def test_it_tells_sessions_queue_losses_and_the_machine(signed_in: Client) -> None:
    running = factories.session(state=State.RUNNING, summary={"latest": {"loss": 0.25}})
    factories.session(state=State.QUEUED)
    factories.session(state=State.COMPLETED, summary={"latest": {"loss": 0.1}})
    gpu_sample(host_sample(), energy_joules=5.5, memory_reserved_bytes=1)
    samples = read(scrape(signed_in))
    assert value(samples, "training_sessions", state="running") == 1
    assert value(samples, "training_sessions", state="paused") == 0
    assert value(samples, "training_loss", session=running.pk) == 0.25
    assert sum(name == "training_loss" for name, _ in samples) == 1
    assert value(samples, "queue_depth", cluster="gpu") == 1
    assert value(samples, "queue_depth", cluster="default") == 0
    assert value(samples, "cpu_usage_percent") == 12.5
    assert value(samples, "ram_usage_bytes") == 4 * GIB
    assert value(samples, "gpu_busy_ratio", gpu="0") == 0.37
    assert value(samples, "gpu_memory_available_bytes", gpu="0") == 77_000_000_000 - 1
    assert value(samples, "gpu_energy_joules_total", gpu="0") == 5.5
    assert value(samples, "gpu_temperature_celsius", gpu="0") is None


def test_it_tells_models_in_memory(signed_in: Client) -> None:
    version = factories.model_version(name="one")
    LoadedModel.objects.create(version=version, state=LoadState.READY, memory_bytes=7)
    samples = read(scrape(signed_in))
    assert value(samples, "models_loaded") == 1
    assert value(samples, "model_memory_bytes", model_name="one@1") == 7


def test_instances_of_a_divided_gpu_have_labels_of_their_own(signed_in: Client) -> None:
    sample = host_sample()
    gpu_sample(sample)
    gpu_sample(sample, uuid="MIG-1", parent_uuid="GPU-1234", details={"mig_index": 1})
    samples = read(scrape(signed_in))
    assert value(samples, "gpu_memory_used_bytes", gpu="0:1") == 3_000_000_000


def test_old_readings_are_left_out(signed_in: Client) -> None:
    gpu_sample(host_sample(timestamp=timezone.now() - timedelta(minutes=1)))
    samples = read(scrape(signed_in))
    assert value(samples, "cpu_usage_percent") is None
    assert value(samples, "gpu_busy_ratio", gpu="0") is None
    assert 60 <= (value(samples, "sampler_age_seconds") or 0) < 90


# Not the addresses below it, which another test of this process may have counted.
ONE_SESSION = re.compile(r"/api/v1/sessions/\{\w+\}/?")


def test_requests_are_counted_by_their_pattern(signed_in: Client) -> None:
    before = read(scrape(signed_in))
    signed_in.get("/api/v1/sessions/nobody-has-this")
    after = read(scrape(signed_in))
    route = next(
        dict(found)["route"]
        for name, found in after
        if name == "http_requests_total" and ONE_SESSION.fullmatch(dict(found)["route"])
    )
    assert "nobody" not in scrape(signed_in)
    labels = {"method": "GET", "route": route, "status": "404"}
    counts = [value(one, "http_requests_total", **labels) or 0 for one in (before, after)]
    assert counts[1] - counts[0] == 1
    assert value(after, "errors_total", error_type="not_found", endpoint=route)
    del labels["status"]
    assert value(after, "http_request_duration_seconds_count", **labels)


def test_what_has_no_pattern_shares_one_label() -> None:
    request = RequestFactory().get("/somewhere/else")
    request.resolver_match = None
    assert name_route(request) == "unmatched"
    request = RequestFactory().get("/static/css/app.css")
    request.resolver_match = None
    assert name_route(request) == "static"


COUNT = """
import django; django.setup()
from django.test import Client
client = Client(HTTP_HOST="localhost")
for _ in range(3): client.get("/health/live")
"""
SHOW = """
import django; django.setup()
from monitoring.prometheus import RequestCollector
print([s.value for m in RequestCollector().collect() for s in m.samples
       if s.name == "http_requests_total" and s.labels["route"] == "/health/live/"])
"""


def test_several_processes_count_together(tmp_path: Path) -> None:
    env = environment(tmp_path)

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        return done.stdout.strip()

    together = [subprocess.Popen([sys.executable, "-c", COUNT], cwd=ROOT, env=env) for _ in "ab"]
    assert [process.wait(PATIENCE_SECONDS) for process in together] == [0, 0]
    assert json.loads(run(SHOW)) == [6.0]


def test_a_new_server_begins_to_count_anew(tmp_path: Path, settings: Any) -> None:
    settings.METRICS_DIR = tmp_path
    (tmp_path / "counter_1.db").write_bytes(b"x")
    forget_counts()
    assert list(tmp_path.glob("*.db")) == []


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (prometheus)")
def test_promtool_finds_nothing_to_complain_of(signed_in: Client) -> None:
    factories.session(state=State.RUNNING, summary={"latest": {"loss": 0.25}})
    gpu_sample(host_sample(), temperature_celsius=41, power_watts=70, energy_joules=5)
    signed_in.get("/api/v1/sessions/nobody-has-this")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(signed_in), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_people_of_document_000_get_three_numbers_as_json(signed_in: Client) -> None:
    factories.session(state=State.RUNNING)
    factories.session(state=State.QUEUED)
    factories.session(state=State.COMPLETED)
    gpu_sample(host_sample())
    response = signed_in.get("/metrics", HTTP_ACCEPT="application/json")
    assert response.json() == {
        "active_jobs": 2,
        "completed_jobs": 1,
        "gpu_memory_allocated_gb": 3.0,
    }


def test_without_a_gpu_its_memory_is_null(signed_in: Client) -> None:
    host_sample()
    body = signed_in.get("/metrics", HTTP_ACCEPT="application/json").json()
    assert body["gpu_memory_allocated_gb"] is None


def test_prometheus_itself_gets_text(signed_in: Client) -> None:
    accept = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
        "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    response = signed_in.get("/metrics", HTTP_ACCEPT=accept)
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")


def test_it_needs_a_key_unless_the_setting_opens_it(client: Client, settings: Any) -> None:
    assert client.get("/metrics").status_code == 401
    settings.ALLOW_ANONYMOUS = ["metrics"]
    assert client.get("/metrics").status_code == 200
    assert client.get("/api/v1/system/info").status_code == 401


def test_it_costs_few_queries(signed_in: Client, django_assert_max_num_queries: Any) -> None:
    gpu_sample(host_sample())
    for _ in range(5):
        factories.session(state=State.RUNNING)
    with django_assert_max_num_queries(10):
        scrape(signed_in)


def test_no_secret_is_a_metric(signed_in: Client) -> None:
    assert django_settings.SECRET_KEY not in scrape(signed_in)
