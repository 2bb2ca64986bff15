"""What answers in a worker: a batcher around a runtime, or an engine that writes text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ml.serve.batcher import Batcher, Limits
from ml.serve.errors import LoadRefused
from ml.serve.files import verify_files
from ml.serve.runtimes import Options, Runtime, find_language_task, open_runtime
from ml.serve.spec import Spec
from ml.serve.warmup import warm_up

if TYPE_CHECKING:  # torch comes with it
    from ml.serve.generation import Generation
    from ml.serve.language import Language

Engine: TypeAlias = "Batcher | Generation"
Report = Callable[[dict[str, Any]], None]

WRITING = ("causal", "text2text")


async def open_engine(spec: Spec, report: Report) -> Engine:
    """Ready to answer. Raises LoadRefused."""
    try:
        if find_language_task(spec.folder) in WRITING:
            return await _open_generation(spec, report)
        return await _open_batcher(spec, report)
    except MemoryError as error:
        raise LoadRefused("The model needs more memory than it may have.") from error


async def _open_batcher(spec: Spec, report: Report) -> Batcher:
    def open_it() -> tuple[Runtime, bool]:
        runtime: Runtime = _load(open_runtime, spec, report)
        return runtime, warm_up(runtime)

    runtime, is_batchable = await asyncio.get_running_loop().run_in_executor(None, open_it)
    limits, most = Limits(**spec.limits), runtime.signature.most_rows
    if most is not None:
        limits = replace(limits, batch_rows=min(limits.batch_rows, most))
    return Batcher(runtime, is_batchable=is_batchable, limits=limits)


async def _open_generation(spec: Spec, report: Report) -> Generation:
    def open_it() -> Language:
        from ml.serve.language import Language

        opened: Language = _load(Language, spec, report)
        return opened

    language = await asyncio.get_running_loop().run_in_executor(None, open_it)
    from ml.serve import generation

    engine = generation.Generation(language, generation.Limits(**spec.limits))
    await engine.warm_up()
    return engine


def _load(opener: Callable[[Path, Options], Any], spec: Spec, report: Report) -> Any:
    if spec.files is not None:
        report({"event": "stage", "stage": "verify"})
        verify_files(spec.folder, spec.files)
    report({"event": "stage", "stage": "load"})
    options = Options(
        device=spec.device, threads=spec.threads, optimization_level=spec.optimization_level
    )
    opened = opener(spec.folder, options)
    report({"event": "stage", "stage": "warm_up"})
    return opened
