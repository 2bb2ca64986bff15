"""The models that every server is given: a tiny perceptron, and a network of ResNet-18's size with
random weights. `python -m benchmarks.serving.models FOLDER` writes both.

A process of its own: repeated exports in one process silently freeze axes.
"""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

MODELS = {"mlp": (16,), "resnet": (3, 64, 64)}
"""Name → shape of one row of the input `x`, FP32; the output is `y`."""


def write_models(folder: Path) -> None:
    """folder/mlp/model.onnx, folder/resnet/model.onnx; once."""
    if not all((folder / name / "model.onnx").is_file() for name in MODELS):
        command = [sys.executable, "-m", "benchmarks.serving.models", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _export(folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    for name, made in (("mlp", _perceptron()), ("resnet", _resnet())):
        path = folder / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            made.eval(),
            (torch.randn(2, *MODELS[name]),),
            path,
            dynamo=False,  # the other exporter wants onnxscript
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "rows"}, "y": {0: "rows"}},
        )


def _perceptron() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))


def _resnet() -> Any:
    """ResNet-18 (He et al., 2015) without its batch norms, which an export folds away."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int) -> None:
            super().__init__()
            stride = 2 if before != after else 1
            self.first = nn.Conv2d(before, after, 3, stride, 1)
            self.second = nn.Conv2d(after, after, 3, 1, 1)
            self.short = nn.Conv2d(before, after, 1, stride) if stride == 2 else nn.Identity()

        def forward(self, x: Any) -> Any:
            inner = self.second(nn.functional.relu(self.first(x)))
            return nn.functional.relu(inner + self.short(x))

    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [Block(*pair) for pair in pairwise(widths)]
    stem = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)
    )


if __name__ == "__main__":
    _export(Path(sys.argv[1]))
