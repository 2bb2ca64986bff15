"""A server with something on every page: one of each state, a dataset with files, a model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.utils import timezone

from datasets.models import DatasetVersion
from datasets.services import import_upload
from jobs.models import LogLine, State
from ml.config import parse_config
from models_registry.models import ModelVersion
from monitoring.models import ClusterHeartbeat, GpuSample, HostSample
from sessions.models import EpochMetric, MetricPoint, TrainingSession
from tests import factories

GIB = 2**30
CSV = "height,width,label\n" + "".join(f"{i / 7:.3f},{i % 5},{'ab'[i % 2]}\n" for i in range(150))


@dataclass(frozen=True)
class Scene:
    dataset: DatasetVersion
    running: TrainingSession
    queued: TrainingSession
    completed: TrainingSession
    failed: TrainingSession
    model: ModelVersion

    @property
    def paths(self) -> list[str]:
        """Every page there is."""
        return [
            "/",
            "/sessions/",
            "/sessions/new/",
            f"/sessions/new/?dataset={self.dataset}&epochs=3",
            f"/sessions/new/?from={self.completed.pk}&dataset={self.dataset}&epochs=4",
            f"/compare/?ids={self.completed.pk},{self.running.pk}",
            f"/sessions/{self.running.pk}/",
            f"/sessions/{self.queued.pk}/",
            f"/sessions/{self.failed.pk}/",
            "/datasets/",
            f"/datasets/{self.dataset.dataset.name}/",
            "/models/",
            f"/models/{self.model.model.name}/",
            "/models/loaded/",
            "/playground/",
        ]


def build_scene(owner: User) -> Scene:
    sample_host()
    dataset = import_upload(
        owner=owner, name="flowers", upload=SimpleUploadedFile("flowers.csv", CSV.encode())
    )
    completed = train(owner, dataset, State.COMPLETED, epochs=3, name="flowers-net")
    model = factories.model_version(
        name="flowers-net",
        owner=owner,
        files=[{"path": "model.safetensors", "size_bytes": 148_000, "sha256": "ef" * 32}],
        metrics={"val_loss": 0.16, "val_accuracy": 0.972},
        lineage={"session": completed.pk, "dataset": str(dataset)},
        source_session=completed.pk,
    )
    completed.produced = model
    completed.save()
    columns = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in ("height", "width")]
    factories.loaded_model(
        version=model,
        owner=owner,
        memory_bytes=172_000_000,
        load_seconds=1.9,
        signature={"inputs": columns, "outputs": []},
    )
    return Scene(
        dataset=dataset,
        running=train(owner, dataset, State.RUNNING, epochs=4, name="wide"),
        queued=train(owner, dataset, State.QUEUED, epochs=0, name="next"),
        completed=completed,
        failed=train(
            owner,
            dataset,
            State.FAILED,
            epochs=1,
            error="Loss became NaN at step 9. Try a smaller learning_rate.",
            error_code="diverged",
        ),
        model=model,
    )


def train(
    owner: User, dataset: DatasetVersion, state: str, *, epochs: int, **values: object
) -> TrainingSession:
    """A session as it looks after so many of ten epochs."""
    now = timezone.now()
    total = epochs if state == State.COMPLETED else 10
    session = factories.session(
        owner=owner,
        state=state,
        dataset_version=dataset,
        attempt=min(epochs, 1),
        progress=100 * epochs / total,
        started_at=now - timedelta(minutes=3) if epochs else None,
        finished_at=now if state in (State.COMPLETED, State.FAILED) else None,
        # Long enough that no watchdog takes it for abandoned.
        lease_until=now + timedelta(hours=1),
        config=parse_config({"dataset": str(dataset), "epochs": total}).to_dict(),
        current_epoch=epochs,
        total_epochs=total,
        current_step=epochs * 4,
        total_steps=total * 4,
        **values,
    )
    for epoch in range(1, epochs + 1):
        add_epoch(session, epoch)
    LogLine.objects.create(job=session.job, message="Made for a test.")
    LogLine.objects.create(job=session.job, level="warning", message="Mind the gap.")
    return session


@transaction.atomic
def add_epoch(session: TrainingSession, epoch: int) -> None:
    values = {"loss": 2 / epoch, "val_loss": 2.2 / epoch, "accuracy": 0.5, "val_accuracy": 0.4}
    EpochMetric.objects.create(session=session, epoch=epoch, extra={}, **values)
    for step in range(4 * epoch - 3, 4 * epoch + 1):
        for key, value in (("loss", 8 / step), ("learning_rate", 0.001)):
            MetricPoint.objects.create(session=session, key=key, step=step, value=value)
    session.summary = {
        "latest": {"epoch": epoch, **values},
        "confusion": {"epoch": epoch, "classes": ["a", "b"], "confusion": [[9, 1], [2, 8]]},
        "environment": {"device": "cpu", "device_name": "a CPU"},
    }
    session.save()


@transaction.atomic  # as the sampler does: the feed tells a reading once, with its GPUs
def sample_host(*, cpu_percent: float = 29.1, gpu: bool = False) -> HostSample:
    for cluster in ("default", "gpu"):
        ClusterHeartbeat.objects.update_or_create(cluster=cluster)
    sample = HostSample.objects.create(
        host="testbox",
        cpu_percent=cpu_percent,
        cpu_per_core=[20.0, 40.0],
        load_1m=0.7,
        memory_total_bytes=16 * GIB,
        memory_used_bytes=5 * GIB,
        memory_available_bytes=11 * GIB,
        disk_total_bytes=100 * GIB,
        disk_free_bytes=60 * GIB,
        disk_read_bytes_per_second=1e6,
        disk_write_bytes_per_second=2e6,
        gpu_count=int(gpu),
        reasons={} if gpu else {"gpus": "No NVIDIA driver found – running on CPU"},
    )
    if gpu:
        GpuSample.objects.create(
            host_sample=sample,
            index=0,
            uuid="GPU-1",
            name="NVIDIA H100 80GB",
            busy_percent=96,
            memory_total_bytes=80 * GIB,
            memory_used_bytes=61 * GIB,
            temperature_celsius=75,
            power_watts=684,
            power_limit_watts=700,
            reasons={"clock_sm_mhz": "not supported by this driver"},
        )
    return sample
