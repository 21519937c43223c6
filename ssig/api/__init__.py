"""What `ssig` offers in Python without a pipeline: attribution, metrics of any map, and methods side by side."""

from ssig.api.attribution import Key, attribute
from ssig.api.measuring import Measured, measure
from ssig.api.strips import Strip, strip

__all__ = ["Key", "Measured", "Strip", "attribute", "measure", "strip"]
