"""The methods, one file each; importing this package fills `ssig.registry.METHODS` in the order of the listing."""

from ssig.methods import (  # noqa: I001
    ssig,
    ssig_signed,
    ssig_frequency,
    ssig_shapley,
    ssig_path,
    ig,
    guided_ig,
    blur_ig,
    smoothgrad,
    gradient,
)

__all__ = [
    "blur_ig",
    "gradient",
    "guided_ig",
    "ig",
    "smoothgrad",
    "ssig",
    "ssig_frequency",
    "ssig_path",
    "ssig_shapley",
    "ssig_signed",
]
