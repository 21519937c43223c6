"""XRAI: a map that is constant on regions, which grow by the segments of the highest mean attribution.

    repeat  s = argmax of the mean of A over the new pixels of a segment, of those with 50 new pixels or more;
            the new pixels of s get that mean
    at last pixels that no segment covered get their mean

Source: Kapishnikov, Bolukbasi, Viégas, Terry, *XRAI: Better Attributions Through Regions* (2019). The segments are
those of PAIR's implementation: Felzenszwalb's at six scales (`ssig.images.regions`), each dilated by a disk of
radius 5; of equals the first is taken. The sum of the map is that of A.

A is the map of any method: `base`, with `base_options` such as ``anchors=20; over=noise``, also a class of Captum. It
is the signed maximum over the channels of the method's values. By default these are the mean of integrated gradients
from a black and from a white baseline, with half of `samples` each; a method whose map is the same from any baseline
runs once, with all of them. `baseline_score` is still that of `baseline`. `preset: paper` gives
PAIR's settings, with 100 points from each of two baselines that are constant at the least and the greatest value of
the image, which there is the normalised one.

A segment whose mean is NaN is never taken, so its pixels remain to the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints
from ssig.estimators.over import repeats
from ssig.images.regions import Image, Labels, felzenszwalb, pictures
from ssig.options import option, quiet
from ssig.registry import METHODS, MethodSpec
from ssig.registry.choices import plain
from ssig.registry.entries import repeated
from ssig.types import Attribution, Group, Steps
from ssig.types.beside import beside, waited

NAME = "xrai"
SCALES = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
RADIUS = 5
FEWEST = 50

SINGLE = "one"
BASELINES = {"black-white": 2, "extremes": 2, SINGLE: 1}
MAX = "max"


def check_base(name: str) -> list[str] | None:
    """None if `name` is a method that XRAI can use as its base, else the names of those.

    Also a class of Captum, or a method of another package, which is imported.
    """
    allowed = [method for method in METHODS.names() if method != NAME]
    if name in allowed:
        return None
    try:
        return allowed if METHODS[name].name == NAME else None
    except UsageError:
        return allowed


@dataclass(frozen=True)
class XraiOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    base: str = option("ig", "the base method, whose map is grouped into regions", check=check_base)
    base_preset: str | None = option(None, "a preset of the base method; by default its default options")
    base_options: str | None = quiet(option(None, "options of the base method, such as anchors=20; max_dist=0.1"))
    base_readout: str = option(MAX, "channels of the base method's values to its map", choices=(MAX, *READOUTS))
    baselines: str = option(
        "black-white",
        "constant baselines, whose maps are averaged; one: only `baseline`",
        choices=BASELINES,
    )
    samples: int = option(
        32, "gradient evaluations of the base method from all baselines, if it has an option for them", at_least=1
    )

    def __post_init__(self) -> None:
        if self.samples % self.runs:
            raise UsageError("samples", self.samples, f"a multiple of {self.runs}, the number of baselines")
        self.parsed_base()

    @property
    def runs(self) -> int:
        """How often the base method runs on each image."""
        return BASELINES[self.used_baselines]

    @property
    def used_baselines(self) -> str:
        """`baselines`, or a single one if the map is the same from any baseline."""
        spec = METHODS[self.base]
        return self.baselines if spec.baseline(spec.parse(self.given_options)) else SINGLE

    @property
    def given_options(self) -> dict[str, Any]:
        """The options of the base method that are not those by default."""
        preset = {} if self.base_preset is None else {"preset": self.base_preset}
        return {**preset, **options_in(self.base_options or "")}

    def parsed_base(self) -> Any:
        """The options of the base method for one run."""
        spec, given = METHODS[self.base], self.given_options
        evaluations = self.samples // self.runs
        for field in dataclasses.fields(spec.options):
            if field.name in ("samples", "steps") and field.name not in options_in(self.base_options or ""):
                options = spec.parse({**given, field.name: evaluations})
                # In some methods they are the steps on each of several paths.
                if spec.evaluations(options) == evaluations * repeats(options):
                    return options
        return spec.parse(given)


def options_in(text: str) -> dict[str, Any]:
    """The options in ``option=value; option=value``.

    Raises:
        UsageError: a part is no option with its value.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value) or name in values:
            raise UsageError("methods.xrai.base_options", text, "OPTION=VALUE; OPTION=VALUE, each option once")
        values[name] = plain(value)
    return values


def xrai(group: Group, options: XraiOptions) -> Steps:
    # Segments at once, in the caller's thread or beside it, and not in the device's.
    return _xrai(group, options, beside(segmented, pictures(group.images), like=group.images))


def segmented(images: Sequence[Image]) -> list[Labels]:
    """The labels of images (H, W, C) at all scales, (S, H, W) each."""
    return [felzenszwalb(image, SCALES) for image in images]


def _xrai(group: Group, options: XraiOptions, labels: Future[list[Labels]]) -> Steps:
    scores = yield from endpoints(group)
    group = dataclasses.replace(group, scores=scores[0], baseline_scores=scores[1])
    spec, base_options = METHODS[options.base], options.parsed_base()
    parts: list[Attribution] = []
    for part_group in groups_of(group, options.used_baselines):
        steps = spec.run(part_group, base_options)
        parts.append((yield from steps if part_group is group else _unshared(steps)))
    base = torch.stack([part.values for part in parts]).mean(dim=0)
    flat = base.amax(dim=1) if options.base_readout == MAX else readout(options.base_readout, base)
    segments = yield from waited(labels)
    maps = yield from waited(beside(region_maps, flat.double().cpu().numpy(), segments, like=base))
    return attribution(
        torch.from_numpy(maps).to(base).unsqueeze(1).expand_as(base) / base.shape[1],
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=torch.stack([part.gradient_evaluations for part in parts]).sum(dim=0),
    )


def groups_of(group: Group, kind: str) -> list[Group]:
    """The group with each baseline of a kind in `BASELINES`."""
    if kind == SINGLE:
        return [group]
    images = group.images
    ends = [torch.zeros_like(images), torch.ones_like(images)]
    if kind == "extremes":
        dims = (1, 2, 3)
        ends = [end.expand_as(images) for end in (images.amin(dims, keepdim=True), images.amax(dims, keepdim=True))]
    return [dataclasses.replace(group, baselines=end, baseline_scores=None) for end in ends]


def _unshared(steps: Steps) -> Steps:
    """A coroutine without keys on its points: points from another baseline may have the same keys."""
    try:
        request = next(steps)
        while True:
            response = yield dataclasses.replace(request, key=None)
            request = steps.send(response)
    except StopIteration as stop:
        result: Attribution = stop.value
        return result


def region_maps(values: NDArray[np.float64], labels: Sequence[Labels]) -> NDArray[np.float64]:
    """The maps (B, H, W) of base attributions (B, H, W), by the labels (S, H, W) of each image."""
    return np.stack(
        [grown(image_values, masks(at_scales)) for image_values, at_scales in zip(values, labels, strict=True)]
    )


def masks(labels: Labels) -> csr_array:
    """The dilated segments at all scales, each a row of 0 and 1, (segments, H * W), of labels (S, H, W)."""
    width = labels.shape[2]
    pixels = []
    for at_scale in labels:
        for label, box in enumerate(ndimage.find_objects(at_scale.astype(np.intp) + 1)):
            if box is not None:
                around = tuple(slice(max(side.start - RADIUS, 0), side.stop + RADIUS) for side in box)
                distances = ndimage.distance_transform_edt(at_scale[around] != label)
                rows, columns = np.nonzero(distances <= RADIUS)
                pixels.append((rows + around[0].start) * width + columns + around[1].start)
    members = np.concatenate(pixels)
    starts = np.cumsum([0, *(len(mask) for mask in pixels)])
    return csr_array((np.ones(len(members)), members, starts), shape=(len(pixels), labels[0].size))


@np.errstate(invalid="ignore")
def grown(values: NDArray[np.float64], masks: csr_array) -> NDArray[np.float64]:
    """The map (H, W) on which `values` (H, W) are constant by region.

    Args:
        values: the base attribution, float64.
        masks: of `masks`.
    """
    flat = values.ravel()
    result, covered = np.empty_like(flat), np.zeros(flat.shape, dtype=bool)
    # Sizes and sums of the new pixels of each mask; a pixel is taken off them once, when it is covered.
    terms = np.stack([np.ones_like(flat), flat], axis=1)
    new = masks @ terms
    by_pixel = masks.T.tocsr()
    while True:
        sizes, sums = new.T
        means = np.fmax(np.where(sizes >= FEWEST, sums / np.maximum(sizes, 1), -np.inf), -np.inf)
        best = int(means.argmax())
        if means[best] == -np.inf:
            break
        mask = masks.indices[masks.indptr[best] : masks.indptr[best + 1]]
        pixels = mask[~covered[mask]]
        result[pixels] = flat[pixels].mean()
        covered[pixels] = True
        new -= by_pixel[pixels].T @ terms[pixels]
    if not covered.all():
        result[~covered] = flat[~covered].mean()
    return result.reshape(values.shape)


def depends_on_baseline(options: XraiOptions) -> bool:
    """Whether the base method starts from `baseline`."""
    base = METHODS[options.base]
    return options.baselines == SINGLE and base.baseline(base.parse(options.given_options))


METHODS.add(
    MethodSpec(
        name=NAME,
        run=xrai,
        options=XraiOptions,
        paper="Kapishnikov, Bolukbasi, Viégas, Terry 2019",
        equation="mean attribution of regions that grow by the segment of the highest mean",
        evaluations=lambda options: int(options.runs * METHODS[options.base].evaluations(options.parsed_base())),
        forwards=lambda options: repeated(METHODS[options.base].forwards(options.parsed_base()), options.runs),
        complete=False,
        baseline=depends_on_baseline,
        references=lambda options: METHODS[options.base].references(options.parsed_base()),
        bases=lambda options: (METHODS[options.base],),
        presets={"paper": {"base_preset": "paper", "baselines": "extremes", "samples": 200, "score": "probability"}},
    )
)
