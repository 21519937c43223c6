"""Suppression integrated gradients and its rivals: attribution of images by integrated gradients, in pure torch."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ssig.api import attribute
from ssig.classes import IntegratedGradients, SuppressionIG
from ssig.errors import ModelError, SsigError, UsageError
from ssig.registry import METHODS, METRICS, MethodSpec, MetricSpec
from ssig.types import Attribution

if TYPE_CHECKING:
    from ssig.models import Model, load_model

try:
    __version__ = version("ssig")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def list_methods() -> list[MethodSpec]:
    """Every method, in the order of the listings."""
    import ssig.methods  # noqa: F401

    return list(METHODS)


def list_metrics() -> list[MetricSpec]:
    """Every metric, in the order of the listings."""
    import ssig.metrics  # noqa: F401

    return list(METRICS)


def __getattr__(name: str) -> Any:
    # timm and torchvision take seconds to import, and only loading a network needs them.
    if name in ("Model", "load_model"):
        import ssig.models

        return getattr(ssig.models, name)
    raise AttributeError(f"module 'ssig' has no attribute {name!r}")


__all__ = [
    "Attribution",
    "IntegratedGradients",
    "MethodSpec",
    "MetricSpec",
    "Model",
    "ModelError",
    "SsigError",
    "SuppressionIG",
    "UsageError",
    "attribute",
    "list_methods",
    "list_metrics",
    "load_model",
]
