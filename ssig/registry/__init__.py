"""The registries of methods and metrics, and the sources of entries from outside ssig."""

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
