"""Networks by name: loading, preprocessing, and transfer to a worker.

Names are imported at first use, so that modules of this package that do not need torch do not import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssig.models.geometry import Box, Geometry, mask_to_input, to_input
    from ssig.models.hashing import hash_state
    from ssig.models.loading import ModelState, ModelWarning, export, load_model, resolve, restore
    from ssig.models.model import PREPARATION_REVISION, Model

_HOMES = {
    **dict.fromkeys(("Box", "Geometry", "mask_to_input", "to_input"), "geometry"),
    "hash_state": "hashing",
    **dict.fromkeys(("ModelState", "ModelWarning", "export", "load_model", "resolve", "restore"), "loading"),
    **dict.fromkeys(("PREPARATION_REVISION", "Model"), "model"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
