"""Networks by name: loading, preprocessing, and the way to a worker."""

from ssig.models.geometry import Box, Geometry, mask_to_input, to_input
from ssig.models.loading import ModelState, export, load_model, resolve, restore
from ssig.models.model import PREPARATION_REVISION, Model, hash_state

__all__ = [
    "PREPARATION_REVISION",
    "Box",
    "Geometry",
    "Model",
    "ModelState",
    "export",
    "hash_state",
    "load_model",
    "mask_to_input",
    "resolve",
    "restore",
    "to_input",
]
