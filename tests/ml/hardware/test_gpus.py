import subprocess
import sys
from pathlib import Path

import pytest

from ml.hardware import GpuReader, count_gpus, gpus
from ml.hardware.amd import AmdReader
from ml.hardware.nvidia import NvidiaReader
from tests.ml.hardware.nvml_double import NvmlDouble, divided, no_driver, one_card
from tests.ml.hardware.test_amd import make_card


def machine(tmp_path: Path, nvml: NvmlDouble) -> GpuReader:
    return GpuReader(NvidiaReader(nvml), AmdReader(tmp_path))


def test_cards_of_both_makers_share_one_numbering(tmp_path: Path) -> None:
    make_card(tmp_path)
    found, reason = machine(tmp_path, one_card()).read()
    assert [(gpu.index, gpu.driver) for gpu in found] == [(0, "580.65"), (1, "amdgpu")]
    assert reason is None


def test_instances_of_a_divided_gpu_take_no_number(tmp_path: Path) -> None:
    make_card(tmp_path)
    found, _ = machine(tmp_path, divided()).read()
    assert [(gpu.index, gpu.vendor) for gpu in found] == [
        (0, "nvidia"),
        (0, "nvidia"),
        (0, "nvidia"),
        (1, "amd"),
    ]


def test_a_machine_without_a_gpu_says_why(tmp_path: Path) -> None:
    found, reason = machine(tmp_path, no_driver()).read()
    assert found == []
    assert reason == "No NVIDIA driver found – running on CPU."


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 1), ("", 0), ("-1", 0), ("0", 1), ("0,1,2", 1), ("GPU-1234", 1)]
)
def test_only_the_visible_gpus_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int
) -> None:
    monkeypatch.setattr(gpus, "_reader", lambda: machine(tmp_path, one_card()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_reading_the_hardware_imports_no_heavy_library() -> None:
    code = (
        "import sys, ml.hardware as h; h.count_gpus();"
        "print([m for m in ('torch', 'numpy', 'django', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
