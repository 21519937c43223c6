"""Suppression integrated gradients and its rivals: attribution of images by integrated gradients, in pure torch.

Names are imported at first use, because importing torch, timm and torchvision takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssig.errors import ModelError, SsigError, UsageError, nearest

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.run.reader import Run
    from ssig.api import Measured, Strip, attribute, measure, strip
    from ssig.captum import IntegratedGradients, SuppressionIG
    from ssig.models import Model, load_model
    from ssig.registry import METHODS as METHODS
    from ssig.registry import METRICS as METRICS
    from ssig.registry import MethodSpec, MetricSpec
    from ssig.types import Attribution

# What other libraries call it -> its name here.
_ELSEWHERE = {"evaluate": "measure", "explain": "attribute", "metrics": "list_metrics", "methods": "list_methods"}
_HOMES = {
    "Measured": "ssig.api",
    "Strip": "ssig.api",
    "attribute": "ssig.api",
    "measure": "ssig.api",
    "strip": "ssig.api",
    "IntegratedGradients": "ssig.captum",
    "SuppressionIG": "ssig.captum",
    "Model": "ssig.models",
    "load_model": "ssig.models",
    "METHODS": "ssig.registry",
    "METRICS": "ssig.registry",
    "MethodSpec": "ssig.registry",
    "MetricSpec": "ssig.registry",
    "Attribution": "ssig.types",
}


def list_methods() -> "list[MethodSpec]":
    """Every method, in the order of the listings."""
    from ssig.registry import METHODS

    return list(METHODS)


def list_metrics() -> "list[MetricSpec]":
    """Every metric, in the order of the listings."""
    from ssig.registry import METRICS

    return list(METRICS)


def open_run(path: "str | Path") -> "Run":
    """The results of a run: see `pipeline.run.reader.Run`.

    Args:
        path: the run's folder, or its `s3://` or `gs://` URL.

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
        ImportError: a package that reads runs is not installed, or is hidden by a file of the same name.
    """
    from ssig.__main__ import hidden

    if (problem := hidden()) is not None:
        raise ImportError(problem)
    try:
        from pipeline.run.reader import open_run as opened
    except ModuleNotFoundError as error:
        raise ImportError(
            f"ssig.open_run needs {error.name}, which is not installed: type pip install '.[run]' in the source "
            "folder of ssig"
        ) from error
    return opened(path)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes a tenth of the start of a command

    try:
        return version("ssig")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = globals()[name] = _version()
        return value
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    similar = nearest(name, __all__)
    suggestion = _ELSEWHERE.get(name, similar[0] if similar else None)
    hint = f"; did you mean ssig.{suggestion}?" if suggestion else ""
    raise AttributeError(f"module 'ssig' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Attribution",
    "IntegratedGradients",
    "Measured",
    "MethodSpec",
    "MetricSpec",
    "Model",
    "ModelError",
    "SsigError",
    "Strip",
    "SuppressionIG",
    "UsageError",
    "attribute",
    "list_methods",
    "list_metrics",
    "load_model",
    "measure",
    "open_run",
    "strip",
]
