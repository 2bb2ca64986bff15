from pathlib import Path

from ml.hardware.amd import AmdReader
from ml.hardware.amd_processes import AmdProcesses

GIB = 1 << 30


def make_card(
    root: Path, name: str = "card0", vendor: str = "0x1002", bus: str = "0000:03:00.0"
) -> Path:
    """A card as the kernel shows it: the device is a link to its place on the bus."""
    place = root / "sys/devices" / name / bus
    device = root / "sys/class/drm" / name / "device"
    device.parent.mkdir(parents=True)
    device.symlink_to(place)
    sensors = place / "hwmon/hwmon3"
    sensors.mkdir(parents=True)
    for file, text in {
        "vendor": vendor,
        "device": "0x744c",
        "unique_id": "abc123",
        "gpu_busy_percent": "42",
        "mem_info_vram_total": str(24 * GIB),
        "mem_info_vram_used": str(2 * GIB),
        "mem_info_gtt_total": str(60 * GIB),
        "mem_info_gtt_used": str(1 * GIB),
        "mem_busy_percent": "17",
        "current_link_speed": "16.0 GT/s PCIe",
        "current_link_width": "16",
        "pp_dpm_sclk": "0: 500Mhz\n1: 2304Mhz *\n2: 2500Mhz\n",
    }.items():
        (device / file).write_text(text + "\n")
    (sensors / "temp1_input").write_text("51000\n")
    (sensors / "temp2_input").write_text("63000\n")
    (sensors / "power1_average").write_text("85000000\n")
    (sensors / "power1_cap").write_text("303000000\n")
    return device


def test_it_reads_a_card_from_sysfs(tmp_path: Path) -> None:
    make_card(tmp_path)
    [gpu] = AmdReader(tmp_path).read()
    assert (gpu.uuid, gpu.name, gpu.driver) == ("abc123", "AMD GPU 0x744c", "amdgpu")
    assert gpu.busy_percent == 42
    assert gpu.memory_total_bytes == 24 * GIB
    assert gpu.memory_used_bytes == 2 * GIB
    assert gpu.temperature_celsius == 51
    assert gpu.power_watts == 85
    assert gpu.power_limit_watts == 303
    assert gpu.clock_sm_mhz == 2304
    assert gpu.memory_active_percent == 17
    assert gpu.details == {
        "temperature_junction_celsius": 63,
        "pcie_generation": 4,
        "pcie_width": 16,
    }
    assert "energy" in gpu.reasons["energy_joules"]


def test_only_an_apu_counts_the_memory_of_the_host(tmp_path: Path) -> None:
    device = make_card(tmp_path)
    (device / "hwmon/hwmon3/in1_input").write_text("900\n")
    [gpu] = AmdReader(tmp_path).read()
    assert gpu.memory_total_bytes == 84 * GIB
    assert gpu.memory_used_bytes == 3 * GIB


def test_a_missing_file_is_null_with_its_name(tmp_path: Path) -> None:
    device = make_card(tmp_path)
    (device / "gpu_busy_percent").unlink()
    (device / "pp_dpm_sclk").write_text("0: 500Mhz\n")
    [gpu] = AmdReader(tmp_path).read()
    assert gpu.busy_percent is None
    assert gpu.reasons["busy_percent"] == "gpu_busy_percent: No such file or directory"
    assert gpu.reasons["clock_sm_mhz"] == "pp_dpm_sclk: no level is marked as active"
    assert gpu.temperature_celsius == 51


def test_cards_of_other_makers_and_connectors_are_left_out(tmp_path: Path) -> None:
    make_card(tmp_path, "card0", vendor="0x8086")
    make_card(tmp_path, "card10")
    make_card(tmp_path, "card2")
    (tmp_path / "sys/class/drm/card2-HDMI-A-1").mkdir()
    reader = AmdReader(tmp_path)
    assert reader.count() == 2
    assert [gpu.index for gpu in reader.read(first_index=1)] == [1, 2]


def test_a_machine_without_sysfs_has_none(tmp_path: Path) -> None:
    assert AmdReader(tmp_path / "nowhere").read() == []


def test_the_name_comes_from_the_list_of_libdrm(tmp_path: Path) -> None:
    device = make_card(tmp_path)
    (device / "revision").write_text("0xc8\n")
    names = tmp_path / "usr/share/libdrm/amdgpu.ids"
    names.parent.mkdir(parents=True)
    names.write_text("# ids\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n")
    [gpu] = AmdReader(tmp_path).read()
    assert gpu.name == "AMD Radeon RX 7900 XTX"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_process(root: Path, pid: int, client: int, busy: int, vram_kib: int) -> None:
    folder = root / "proc" / str(pid)
    for part in ("fd", "fdinfo"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    number = str(10 + client)
    (folder / "fd" / number).unlink(missing_ok=True)
    (folder / "fd" / number).symlink_to("/dev/dri/renderD128")
    (folder / "fdinfo" / number).write_text(
        f"pos:\t0\ndrm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t{client}\n"
        f"drm-memory-vram:\t{vram_kib} KiB\ndrm-engine-gfx:\t{busy} ns\n"
        f"drm-engine-compute:\t{busy} ns\n"
    )


def test_processes_are_found_by_their_open_devices(tmp_path: Path) -> None:
    make_card(tmp_path)
    clock = Clock()
    make_process(tmp_path, 100, client=1, busy=0, vram_kib=2048)
    make_process(tmp_path, 100, client=2, busy=0, vram_kib=1024)
    make_process(tmp_path, 101, client=2, busy=0, vram_kib=1024)  # the same client, inherited
    reader = AmdProcesses(AmdReader(tmp_path), tmp_path, clock)
    assert sorted(one.pid for one in reader.read()) in ([100], [100, 101])
    (tmp_path / "proc/101/fd/12").unlink()
    clock.now += 1
    make_process(tmp_path, 100, client=1, busy=250_000_000, vram_kib=2048)
    [process] = reader.read()
    assert (process.pid, process.gpu_uuid) == (100, "abc123")
    assert process.memory_bytes == 3 << 20
    assert process.sm_percent == 50.0


def test_compute_that_goes_past_drm_is_found_in_the_accounts_of_rocm(tmp_path: Path) -> None:
    make_card(tmp_path)
    node = tmp_path / "sys/class/kfd/kfd/topology/nodes/1"
    node.mkdir(parents=True)
    (node / "gpu_id").write_text("51234\n")
    (node / "properties").write_text(f"simd_count 384\nlocation_id {3 << 8}\ndomain 0\n")
    accounts = tmp_path / "sys/class/kfd/kfd/proc/200"
    accounts.mkdir(parents=True)
    (accounts / "vram_51234").write_text(str(5 * GIB))
    [process] = AmdProcesses(AmdReader(tmp_path), tmp_path).read()
    assert (process.pid, process.gpu_uuid, process.memory_bytes) == (200, "abc123", 5 * GIB)
    assert process.sm_percent is None
    assert "ROCm" in process.reasons["gpu_sm_percent"]


def test_a_machine_without_amd_looks_at_no_process(tmp_path: Path) -> None:
    make_process(tmp_path, 100, client=1, busy=0, vram_kib=2048)
    assert AmdProcesses(AmdReader(tmp_path), tmp_path).read() == []
