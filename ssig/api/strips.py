"""`strip`: one image with the maps of several methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssig.api.attribution import attribute, replica_of
from ssig.api.inputs import PREDICTED, Images, Targets, batch_of, network_of, place_of, settled, targets_of
from ssig.display import Figure, Panel, Row, limit_of, overlay, save_picture, show, size_for
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.registry import MethodSpec
from ssig.registry.choices import with_options
from ssig.types import Attribution, views

Method = str | MethodSpec | Callable[..., Tensor]

SHARED, OWN = "shared", "own"
_NOTES = {
    SHARED: "One scale for all maps of an image: each map is divided by its mean magnitude, so a strong colour means "
    "many times the mean of that map.",
    OWN: "Each map has a scale of its own, so colours compare within a map, not between maps.",
}


@dataclass(frozen=True, repr=False)
class Strip:
    """Images with the maps of several methods. A notebook shows it as pictures.

    Attributes:
        attributions: method, as it was named -> its attribution of all images.
        scale: ``shared`` or ``own``.
    """

    attributions: Mapping[str, Attribution]
    scale: str = SHARED

    def figure(self) -> Figure:
        """A row for each of the first 8 images: the image, then a map of each method."""
        first = next(iter(self.attributions.values()))
        rows = tuple(self._row(index) for index in range(min(len(first), views.MOST_SHOWN)))
        signs = frozenset(bool((one.map < 0).any()) for one in self.attributions.values())
        return Figure(rows, signs, _NOTES[self.scale])

    def _repr_html_(self) -> str:
        return self.figure().html()

    def __repr__(self) -> str:
        return f"<Strip of {len(next(iter(self.attributions.values())))} x {', '.join(self.attributions)}>"

    def show(self) -> None:
        """Shows the figure: below the cell of a notebook, else in a viewer of pictures."""
        show(self)

    def save(self, path: str | Path) -> Path:
        """Writes the figure as PNG.

        Raises:
            UsageError: the path does not end in ``.png``.
        """
        save_picture(self.figure(), Path(path))
        return Path(path)

    def _row(self, index: int) -> Row:
        maps = {name: views.array(one.map[index]) for name, one in self.attributions.items()}
        if self.scale == SHARED:
            maps = {name: values / (float(np.abs(values).mean()) or 1.0) for name, values in maps.items()}
        limit = limit_of(np.stack(list(maps.values()))) if self.scale == SHARED else None
        first = next(iter(self.attributions.values()))
        picture = views.photograph_of(first, index)
        name = "" if first.explained is None else first.explained.names[index]
        panels = [] if picture is None else [Panel(picture, name or "image")]
        for method, values in maps.items():
            signed = bool((values < 0).any())
            panels.append(Panel(overlay(values, picture, signed, size_for(values.shape), limit), method))
        return Row(tuple(panels))


def strip(
    model: Callable[[Tensor], Tensor] | Replica,
    images: Images,
    methods: Sequence[Method] = ("ssig", "ig", "smoothgrad", "grad-cam"),
    targets: Targets = PREDICTED,
    *,
    scale: str = SHARED,
    **arguments: Any,
) -> Strip:
    """Attributes images under several methods, and puts the maps side by side.

    Args:
        model, images, targets: as in `ssig.attribute`.
        methods: as `method` there; names may have options as on the command line (``ig:steps=64``).
        scale: ``shared``: each map is divided by its mean magnitude, and all maps of an image have one scale of
            colours; or ``own``: each map is scaled by itself.
        **arguments: further arguments of `ssig.attribute`, such as `seed`, the same for all methods.

    Raises:
        UsageError: no method, one method named twice, or an argument that is wrong.
    """
    if scale not in _NOTES:
        raise UsageError("scale", scale, _NOTES)
    given = [methods] if isinstance(methods, str) or not isinstance(methods, Sequence) else list(methods)
    names = [method if isinstance(method, str) else getattr(method, "name", str(method)) for method in given]
    if not names or len(set(names)) < len(names):
        raise UsageError("methods", names, "one or more methods, each once")
    network = network_of(model)
    batch = batch_of(images, network)
    wanted = targets_of(targets, len(batch), network)
    place = place_of(network, batch, arguments.get("device"))
    with replica_of(model, place) as replica:
        classes = settled(wanted, batch, replica.forward)
    attributions = {}
    for name, method in zip(names, given, strict=True):
        plain, options = with_options("methods", method) if isinstance(method, str) else (method, {})
        attributions[name] = attribute(model, batch, classes, plain, **{**arguments, **options})
    return Strip(attributions, scale)
