"""The registries of methods and metrics, and where entries that are not ssig's own come from."""

from ssig.registry.entries import FAMILIES, METHODS, METRICS, MethodSpec, MetricSpec, Registry, preset_values
from ssig.registry.sources import FileSource, PluginSource, Source

__all__ = [
    "FAMILIES",
    "METHODS",
    "METRICS",
    "FileSource",
    "MethodSpec",
    "MetricSpec",
    "PluginSource",
    "Registry",
    "Source",
    "preset_values",
]
