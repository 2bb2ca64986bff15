from pathlib import Path

import pytest

from jobs.models import State
from ml.hardware import GpuReading
from monitoring.energy import ON_CPU, EnergyMeter, add_energy, explain_missing
from tests import factories
from tests.ml.hardware.nvml_double import GIB, no_driver, one_card
from tests.monitoring.test_processes import Reader, reading
from tests.monitoring.test_sampler import make_sampler

pytestmark = pytest.mark.django_db


def gpu(joules: float | None, uuid: str = "GPU-1", parent: str = "") -> GpuReading:
    return GpuReading(index=0, uuid=uuid, name="one", parent_uuid=parent, energy_joules=joules)


def test_the_first_count_is_only_a_beginning() -> None:
    meter = EnergyMeter()
    assert meter.measure([gpu(1000)], {"GPU-1": {"a": 50.0}}) == {"GPU-1": {"a": 0}}
    assert meter.measure([gpu(1250)], {"GPU-1": {"a": 50.0}}) == {"GPU-1": {"a": 250}}


def test_sessions_share_a_gpu_by_how_busy_they_keep_it() -> None:
    meter = EnergyMeter()
    meter.measure([gpu(0)], {})
    shares = {"GPU-1": {"a": 60.0, "b": 20.0, "": 20.0}}
    assert meter.measure([gpu(100)], shares) == {"GPU-1": {"a": 60, "b": 20, "": 20}}


def test_idle_holders_share_alike() -> None:
    meter = EnergyMeter()
    meter.measure([gpu(0)], {})
    assert meter.measure([gpu(100)], {"GPU-1": {"a": 0.0, "b": 0.0}}) == {
        "GPU-1": {"a": 50, "b": 50}
    }


def test_a_counter_that_began_anew_costs_nothing() -> None:
    meter = EnergyMeter()
    meter.measure([gpu(5000)], {})
    assert meter.measure([gpu(10)], {"GPU-1": {"a": 1.0}}) == {"GPU-1": {"a": 0}}
    assert meter.measure([gpu(30)], {"GPU-1": {"a": 1.0}}) == {"GPU-1": {"a": 20}}


def test_a_session_on_an_instance_gets_the_energy_of_its_part_of_the_gpu() -> None:
    meter = EnergyMeter()
    gpus = [gpu(0), gpu(None, "MIG-a", "GPU-1"), gpu(None, "MIG-b", "GPU-1")]
    meter.measure(gpus, {})
    gpus[0].energy_joules = 100
    holders = {"MIG-a": {"a": 0.0}, "MIG-b": {"b": 0.0}}
    assert meter.measure(gpus, holders) == {"GPU-1": {"a": 50, "b": 50}}


def test_an_idle_gpu_is_nobodys_and_one_without_a_counter_is_not_known() -> None:
    meter = EnergyMeter()
    meter.measure([gpu(0), gpu(None, "GPU-2")], {})
    shares = {"GPU-2": {"a": 1.0}}
    assert meter.measure([gpu(9), gpu(None, "GPU-2")], shares) == {
        "GPU-1": {"": 9},
        "GPU-2": {"a": None},
    }


def test_energy_adds_up_in_the_session_and_clears_the_reason() -> None:
    session = factories.session(state=State.RUNNING, energy_reason=ON_CPU)
    add_energy({"GPU-1": {session.pk: 10.0, "": 7.0}, "GPU-2": {session.pk: 0.5}})
    add_energy({"GPU-1": {session.pk: 2.0}, "GPU-2": {session.pk: None}})
    session.refresh_from_db()
    assert (session.energy_joules, session.energy_reason) == (12.5, "")


def test_a_session_without_energy_says_why() -> None:
    session = factories.session(state=State.RUNNING)
    explain_missing({session.pk}, {}, [gpu(0)], None)
    session.refresh_from_db()
    assert (session.energy_joules, session.energy_reason) == (None, ON_CPU)
    no_gpu = "No NVIDIA driver found – running on CPU."
    explain_missing({session.pk}, {}, [], no_gpu)
    session.refresh_from_db()
    assert session.energy_reason == no_gpu


def test_a_gpu_that_counts_no_energy_is_the_reason() -> None:
    session = factories.session(state=State.RUNNING)
    silent = gpu(None)
    silent.reasons["energy_joules"] = "This GPU does not report it."
    explain_missing({session.pk}, {"GPU-1": {session.pk: 1.0}}, [silent], None)
    session.refresh_from_db()
    assert session.energy_reason == "This GPU does not report it."


def test_the_sampler_charges_the_session_whose_process_holds_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = factories.session(state=State.RUNNING)
    nvml = one_card()
    nvml.cards[0].processes = {900: GIB}
    sampler = make_sampler(tmp_path, nvml)
    monkeypatch.setattr(sampler._processes, "_reader", Reader(reading(900, run=session.pk)))
    sampler.tick()
    nvml.cards[0].millijoules += 350_000
    sampler.tick()
    session.refresh_from_db()
    assert session.energy_joules == pytest.approx(350)


def test_without_a_gpu_the_sampler_leaves_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = factories.session(state=State.RUNNING)
    sampler = make_sampler(tmp_path, no_driver())
    monkeypatch.setattr(sampler._processes, "_reader", Reader(reading(900, run=session.pk)))
    sampler.tick()
    session.refresh_from_db()
    assert session.energy_joules is None
    assert session.energy_reason == "No NVIDIA driver found – running on CPU."
