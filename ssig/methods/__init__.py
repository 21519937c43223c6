"""The methods, one file each; importing this package fills `ssig.registry.METHODS` in the order of the listing."""

from ssig.methods import (  # noqa: I001
    ssig,
    ssig_signed,
    ssig_frequency,
    ssig_shapley,
    ssig_path,
    ig,
    smoothgrad,
    gradient,
)

__all__ = ["gradient", "ig", "smoothgrad", "ssig", "ssig_frequency", "ssig_path", "ssig_shapley", "ssig_signed"]
