"""KServe's own REST client in a process of its own: python kserve_client.py FOLDER < what to ask.

`pip install kserve` would bring a web server, Kubernetes and older releases of what runs here, none
of which its client uses: FOLDER holds the package alone, and what is only imported is empty.
"""

import asyncio
import importlib.abc
import importlib.machinery
import json
import sys
import types
from typing import Any

import httpx

ONLY_IMPORTED = ("grpc", "pandas", "cloudevents", "fastapi", "starlette", "kserve.protocol.grpc")


class Empty(type):
    """A class for every name that is asked for, in it and in a module of it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Empty(name, (), {})


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if any(f"{name}.".startswith(f"{each}.") for each in ONLY_IMPORTED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module)["__getattr__"] = lambda name: getattr(Empty("module", (), {}), name)


async def ask(asked: dict[str, Any]) -> dict[str, Any]:
    from kserve.inference_client import InferenceRESTClient, RESTConfig
    from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput

    url, headers, model = asked["url"], asked["headers"], asked["model"]
    client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def infer(binary: bool) -> Any:
        import numpy as np

        rows = InferInput("x", [1, 4], "FP32")
        rows.set_data_from_numpy(np.array(asked["rows"], np.float32), binary_data=binary)
        wanted = RequestedOutput("y", {"binary_data": binary})
        request = InferRequest(
            model_name=model, infer_inputs=[rows], request_id="seven", request_outputs=[wanted]
        )
        answer = await client.infer(url, request, model_name=model, headers=dict(headers))
        return {
            "id": answer.id,
            "model": answer.model_name,
            "y": answer.outputs[0].as_numpy().tolist(),
        }

    try:
        await client.infer(url, {"inputs": []}, model_name=model, headers=dict(headers))
        refusal = ""
    except httpx.HTTPStatusError as error:
        refusal = str(error)
    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, model, headers=dict(headers)),
        "json": await infer(binary=False),
        "binary": await infer(binary=True),
        "refusal": refusal,
    }


def main() -> None:
    package = types.ModuleType("kserve")  # without its own __init__, which imports everything
    package.__path__ = [f"{sys.argv[1]}/kserve"]
    sys.modules["kserve"] = package
    sys.meta_path.insert(0, EmptyModules())
    json.dump(asyncio.run(ask(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
