import time
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from ml.hardware.nvidia import NvidiaReader
from ml.hardware.readings import LIMITS, DriverEvent, Tier
from tests.ml.hardware.nvml_double import (
    GIB,
    LOST,
    NOT_SUPPORTED,
    Card,
    NvmlDouble,
    divided,
    no_driver,
    old_driver,
    one_card,
    two_cards,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_reads_everything_a_card_says() -> None:
    [gpu] = NvidiaReader(one_card()).read()
    assert (gpu.uuid, gpu.name, gpu.driver) == ("GPU-1234", "NVIDIA H100 80GB HBM3", "580.65")
    assert (gpu.vendor, gpu.cuda_version) == ("nvidia", "12.4")
    assert gpu.busy_percent == 37
    assert gpu.memory_used_bytes == 3 * GIB
    assert gpu.memory_reserved_bytes == GIB // 2
    assert (gpu.temperature_celsius, gpu.temperature_limit_celsius) == (41, 87)
    assert (gpu.power_watts, gpu.power_limit_watts) == (71.5, 700)
    assert (gpu.clock_sm_mhz, gpu.clock_memory_mhz) == (1980, 2619)
    assert gpu.energy_joules == 123.456
    assert gpu.limits == []


def test_what_changes_seldom_is_in_the_details() -> None:
    [gpu] = NvidiaReader(one_card()).read()
    assert gpu.details == {
        "performance_state": "P0",
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "ecc_corrected": 7,
        "ecc_uncorrected": 0,
        "ecc_mode": True,
        "remapped_rows": {"corrected": 1, "uncorrected": 0, "pending": True, "failed": False},
        "mig_mode": False,
        "persistence_mode": True,
        "compute_mode": "default",
        "vbios": "96.00.74.00.01",
    }


def test_reasons_of_a_slower_clock_are_words() -> None:
    machine = one_card()
    machine.cards[0].event_reasons = 0x4 | 0x40
    [gpu] = NvidiaReader(machine).read()
    assert gpu.limits == ["sw_power_cap", "hw_thermal"]
    assert [LIMITS[word].level for word in gpu.limits] == ["note", "warning"]


def test_a_fast_look_asks_only_what_moves_and_keeps_the_rest() -> None:
    machine = one_card()
    reader = NvidiaReader(machine)
    reader.read()
    machine.calls.clear()
    machine.cards[0].busy = 80
    [gpu] = reader.read(Tier.FAST)
    assert gpu.busy_percent == 80
    assert gpu.power_limit_watts == 700
    assert gpu.details["ecc_corrected"] == 7
    assert sorted(machine.calls) == [
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetUtilizationRates",
    ]


def test_gpm_and_pcie_need_two_looks() -> None:
    machine, clock = one_card(), Clock()
    reader = NvidiaReader(machine, clock)
    [first] = reader.read()
    assert first.sm_active_percent is None
    assert "two readings" in first.reasons["sm_active_percent"]
    assert "two readings" in first.reasons["pcie_sent_bytes_per_second"]
    assert "memory_active_percent" not in first.reasons  # another call tells that
    clock.now += 5
    machine.cards[0].pcie_bytes += 1_000_000
    [second] = reader.read(Tier.MEDIUM)
    assert second.sm_active_percent == second.tensor_active_percent == 42.5
    assert second.pcie_sent_bytes_per_second == second.pcie_received_bytes_per_second == 200_000
    assert "sm_active_percent" not in second.reasons


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (12, "No NVIDIA driver found – running on CPU."),
        (9, "The NVIDIA driver is not loaded."),
        (18, "The NVIDIA driver was updated; reboot needed."),
        (15, "The GPU fell off the bus; reboot the machine."),
        (16, "The GPU needs a reset (nvidia-smi --gpu-reset)."),
        (4, "No permission to read the NVIDIA driver."),
    ],
)
def test_without_a_driver_there_is_no_gpu_but_a_sentence(code: int, sentence: str) -> None:
    machine = no_driver()
    machine.broken["nvmlInit"] = code
    reader = NvidiaReader(machine)
    assert reader.read() == []
    assert reader.reason == sentence
    assert reader.processes() == ([], {})


def test_a_missing_driver_is_looked_for_again_only_once_a_minute() -> None:
    machine, clock = one_card(), Clock()
    machine.broken["nvmlInit"] = 12
    reader = NvidiaReader(machine, clock)
    reader.read()
    reader.read()
    assert machine.calls.count("nvmlInit") == 1
    clock.now += 61
    machine.broken.clear()
    assert len(reader.read()) == 1
    assert reader.reason is None
    assert [event.kind for event in reader.events()] == ["back"]


def test_a_reading_that_the_card_does_not_know_is_null_with_a_reason_and_not_asked_again() -> None:
    machine = one_card()
    machine.cards[0].broken["nvmlDeviceGetPowerUsage"] = NOT_SUPPORTED
    reader = NvidiaReader(machine)
    for _ in range(2):
        [gpu] = reader.read()
        assert gpu.power_watts is None
        assert gpu.reasons["power_watts"] == "This GPU does not report it."
        assert gpu.busy_percent == 37
    assert machine.calls.count("nvmlDeviceGetPowerUsage") == 1


def test_one_refusal_says_nothing_of_another_card() -> None:
    machine = two_cards()
    machine.cards[0].broken["nvmlDeviceGetPowerUsage"] = NOT_SUPPORTED
    reader = NvidiaReader(machine)
    for _ in range(2):
        assert [gpu.power_watts for gpu in reader.read()] == [None, 71.5]


def test_a_passing_failure_is_asked_again() -> None:
    machine = one_card()
    machine.cards[0].broken["nvmlDeviceGetTemperature"] = 999
    reader = NvidiaReader(machine)
    [gpu] = reader.read()
    assert gpu.temperature_celsius is None
    machine.cards[0].broken.clear()
    [gpu] = reader.read(Tier.FAST)
    assert gpu.temperature_celsius == 41


def test_an_old_driver_without_half_of_the_calls_tells_the_other_half() -> None:
    machine = old_driver()
    machine.cards[0].processes = {77: GIB}
    reader = NvidiaReader(machine)
    [gpu] = reader.read()
    assert gpu.busy_percent == 37
    assert gpu.memory_used_bytes == 3 * GIB  # by the first version of the call
    assert gpu.memory_reserved_bytes is None
    too_old = "The NVIDIA driver is too old to report it."
    assert gpu.reasons["limits"] == gpu.reasons["remapped_rows"] == too_old
    assert gpu.reasons["sm_active_percent"] == too_old
    [process], _ = reader.processes()  # by the second version
    assert (process.pid, process.memory_bytes) == (77, GIB)


def test_bindings_without_a_call_are_a_reason_and_no_crash() -> None:
    machine = one_card()

    class Old:
        def __getattr__(self, name: str) -> Any:
            if name == "nvmlDeviceGetCurrentClocksEventReasons":
                raise AttributeError(name)
            return getattr(machine, name)

    [gpu] = NvidiaReader(Old()).read()
    assert "update it" in gpu.reasons["limits"]
    assert gpu.busy_percent == 37


def test_unified_memory_is_null_with_a_reason() -> None:
    machine = NvmlDouble(Card("GPU-1", total=0, used=0))
    [gpu] = NvidiaReader(machine).read()
    assert gpu.memory_total_bytes is None
    assert gpu.reasons["memory_total_bytes"] == "This GPU shares the memory of the host."


def test_a_card_that_falls_off_the_bus_keeps_its_name_and_comes_back() -> None:
    machine = two_cards()
    reader = NvidiaReader(machine)
    reader.read()
    machine.cards[0].broken["*"] = LOST
    lost, well = reader.read(Tier.FAST)
    assert (lost.uuid, lost.name) == ("GPU-1111", "NVIDIA H100 80GB HBM3")
    assert "fell off the bus" in lost.reasons["gpu"]
    assert lost.busy_percent is None
    assert well.busy_percent == 90
    reader.read()  # also when the cards are counted again
    machine.cards[0].broken.clear()
    assert [gpu.busy_percent for gpu in reader.read()] == [37, 90]
    assert [(event.kind, event.uuid) for event in reader.events()] == [
        ("lost", "GPU-1111"),
        ("back", "GPU-1111"),
    ]


def test_a_card_that_was_lost_before_the_first_look_stays_in_the_list() -> None:
    machine = two_cards()
    machine.cards[0].broken["nvmlDeviceGetHandleByIndex"] = LOST
    lost, well = NvidiaReader(machine).read()
    assert (lost.index, lost.name, lost.uuid) == (0, "GPU 0", "")
    assert "fell off the bus" in lost.reasons["gpu"]
    assert well.index == 1


def test_a_divided_gpu_has_its_instances_under_it() -> None:
    whole, first, second = NvidiaReader(divided()).read()
    assert whole.busy_percent is None
    assert whole.reasons["busy_percent"] == "Not reported while the GPU is divided (MIG)."
    assert whole.details["mig_mode"] is True
    assert whole.power_watts == 71.5
    assert first.parent_uuid == second.parent_uuid == "GPU-1234"
    assert (first.uuid, first.details) == ("MIG-aaaa", {"mig_index": 0})
    assert (first.memory_used_bytes, first.memory_total_bytes) == (2 * GIB, 10 * GIB)
    assert "see the whole GPU" in first.reasons["power_watts"]


def test_a_gpu_that_is_divided_and_made_whole_again_is_seen_within_a_minute() -> None:
    machine = divided()
    parts, machine.cards[0].instances = machine.cards[0].instances, []
    reader = NvidiaReader(machine)
    assert len(reader.read()) == 1
    machine.cards[0].instances = parts
    assert len(reader.read()) == 3
    machine.cards[0].instances = []
    [whole] = reader.read()
    assert whole.busy_percent == 37


def test_processes_come_with_memory_and_load() -> None:
    machine = one_card()
    machine.cards[0].processes = {10: 5 * GIB, 11: GIB}
    machine.cards[0].loads = [(100, 10, 20), (200, 10, 60)]
    reader = NvidiaReader(machine)
    reader.read()
    found, reasons = reader.processes()
    assert reasons == {}
    assert [(one.pid, one.memory_bytes, one.sm_percent) for one in found] == [
        (10, 5 * GIB, 60.0),
        (11, GIB, 0.0),
    ]


def test_the_load_is_asked_since_the_last_sample_so_that_no_old_one_is_shown() -> None:
    machine = one_card()
    machine.cards[0].processes = {10: GIB}
    machine.cards[0].loads = [(100, 10, 60)]
    reader = NvidiaReader(machine)
    reader.read()
    reader.processes()
    [process], _ = reader.processes()
    assert machine.asked_since == [0, 100]
    assert process.sm_percent == 0.0


def test_a_driver_that_does_not_tell_memory_and_load_says_so() -> None:
    machine = divided()
    machine.cards[0].instances[1].processes = {10: None}
    reader = NvidiaReader(machine)
    reader.read()
    [process], _ = reader.processes()
    assert (process.gpu_uuid, process.memory_bytes, process.sm_percent) == ("MIG-bbbb", None, None)
    assert set(process.reasons) == {"gpu_memory_bytes", "gpu_sm_percent"}


def test_processes_that_may_not_be_seen_are_a_reason_and_spoil_no_other_card() -> None:
    machine = two_cards()
    machine.cards[0].broken["nvmlDeviceGetComputeRunningProcesses"] = 4
    machine.cards[1].processes = {12: GIB}
    reader = NvidiaReader(machine)
    reader.read()
    found, reasons = reader.processes()
    assert [one.pid for one in found] == [12]
    assert "No permission" in reasons["gpu_processes.GPU-1111"]


def test_a_driver_that_went_away_is_opened_again() -> None:
    machine, clock = one_card(), Clock()
    reader = NvidiaReader(machine, clock)
    reader.read()
    machine.broken["nvmlDeviceGetUtilizationRates"] = 1
    assert reader.read(Tier.FAST) == []
    assert reader.reason == "The NVIDIA driver went away."
    machine.broken.clear()
    clock.now += 61
    assert [gpu.busy_percent for gpu in reader.read(Tier.FAST)] == [37]
    assert machine.calls.count("nvmlInit") == 2
    assert [event.kind for event in reader.events()] == ["lost", "back"]


def collect(reader: NvidiaReader, count: int) -> list[DriverEvent]:
    deadline = time.monotonic() + 10
    found: list[DriverEvent] = []
    while len(found) < count and time.monotonic() < deadline:
        found += reader.events()
        time.sleep(0.01)
    return found


def test_what_the_gpus_report_by_themselves_arrives_with_its_meaning() -> None:
    machine = two_cards()
    reader = NvidiaReader(machine, watches_events=True)
    reader.read()
    machine.happen(machine.cards[1], pynvml.nvmlEventTypeXidCriticalError, 79)
    machine.happen(machine.cards[0], pynvml.nvmlEventTypeDoubleBitEccError)
    xid, ecc = collect(reader, 2)
    reader.close()
    assert (xid.kind, xid.uuid, xid.code) == ("xid", "GPU-2222", 79)
    assert "fell off the bus" in xid.message
    assert (ecc.kind, ecc.uuid, ecc.code) == ("ecc", "GPU-1111", None)


def test_a_machine_that_reports_no_events_is_read_all_the_same() -> None:
    machine = one_card()
    machine.broken["nvmlDeviceGetSupportedEventTypes"] = NOT_SUPPORTED
    reader = NvidiaReader(machine, watches_events=True)
    assert len(reader.read()) == 1
    assert reader.events() == []
    reader.close()


def test_every_call_is_told_with_its_time_and_its_failure() -> None:
    machine = one_card()
    machine.cards[0].broken["nvmlDeviceGetFanSpeed"] = NOT_SUPPORTED
    told: list[SimpleNamespace] = []

    def observe(name: str, seconds: float, problem: str) -> None:
        told.append(SimpleNamespace(name=name, seconds=seconds, problem=problem))

    NvidiaReader(machine, observe=observe).read()
    by_name = {one.name: one for one in told}
    assert by_name["nvmlDeviceGetFanSpeed"].problem == "This GPU does not report it."
    assert by_name["nvmlDeviceGetPowerUsage"].problem == ""
    assert all(one.seconds >= 0 for one in told)
