"""Networks by name: loading, preprocessing, and the way to a worker."""

from ssig.models.geometry import Box, Geometry, mask_to_input, to_input
from ssig.models.hashing import hash_state
from ssig.models.loading import ModelState, ModelWarning, export, load_model, resolve, restore
from ssig.models.model import PREPARATION_REVISION, Model

__all__ = [
    "PREPARATION_REVISION",
    "Box",
    "Geometry",
    "Model",
    "ModelState",
    "ModelWarning",
    "export",
    "hash_state",
    "load_model",
    "mask_to_input",
    "resolve",
    "restore",
    "to_input",
]
