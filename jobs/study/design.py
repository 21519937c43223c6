"""What the study measures: networks, groups of methods and of metrics, and the blocks in their order of value.

A method of the study is one line in `METHODS`, written as `ssig attribute --method` takes it. A method that this
version of ssig lacks is left out, and measured as soon as there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SEED = 0
UNIT = 25  # images that are committed at once
SHARD_IMAGES = 50
LAWS = "laws"  # the group of metrics that looks at samples instead of maps


@dataclass(frozen=True)
class Network:
    """A network of the study.

    Attributes:
        title: what people call it.
        model: fields of a job's `model`: the network and the geometry of its input.
        gradients, forwards: evaluations a second on two cores, for the plan.
        augmented: whether it was trained with heavy augmentation.
    """

    title: str
    model: Mapping[str, Any]
    gradients: float
    forwards: float
    augmented: bool | None = None


_BILINEAR = {"size": 224, "resize": 256, "interpolation": "bilinear", "crop": "center"}
NETWORKS: Mapping[str, Network] = {
    "efficientnet-lite0": Network("EfficientNet-Lite0", {"name": "efficientnet-lite0"}, 60, 156, None),
    "mobilenetv2": Network("MobileNetV2", {"name": "packed:mobilenetv2", "input": _BILINEAR}, 66, 159, True),
    "vit-tiny": Network(
        "ViT-Tiny",
        {"name": "packed:vit_tiny", "input": {**_BILINEAR, "resize": 248, "interpolation": "bicubic"}},
        34,
        87,
        True,
    ),
    "googlenet": Network(
        "GoogLeNet",
        {"name": "packed:googlenet", "input": {**_BILINEAR, "resize": [256, 256], "crop": "squash"}},
        19,
        46,
        False,
    ),
    "resnet50": Network("ResNet-50", {"name": "packed:resnet50", "input": _BILINEAR}, 16, 37, None),
    # For the reproductions alone. Its rates are estimates, from those of ResNet-50 by the number of operations.
    "resnet18": Network("ResNet-18", {"name": "packed:resnet18", "input": _BILINEAR}, 36, 84, None),
}
FAMILIES = ("efficientnet-lite0", "mobilenetv2", "vit-tiny", "googlenet", "resnet50")
TWO = FAMILIES[:2]

VARIANTS = ("ssig", "ssig-signed", "ssig-frequency", "ssig-shapley", "ssig-path")
CONTROLS = ("random", "sobel", "centre")
_COSTS = (4, 8, 16, 64, 128, 256)
_COSTED = {
    **dict.fromkeys(("ssig", "ssig-signed", "ssig-shapley", "ssig-path", "smoothgrad-squared"), "samples"),
    **dict.fromkeys(("smoothgrad", "vargrad"), "samples"),
    **dict.fromkeys(("ig", "guided-ig", "idgi-ig"), "steps"),
}
_SAMPLERS = ("line", "uniform", "uniform-channel", "bernoulli", "patch-14", "smooth-14", "frequency", "noise")
_INTEGRANDS = ("magnitude", "squared", "gradient", "product")
_FLOORS = ("random", "gradient")


def _strengths() -> Iterator[str]:
    """Magnitudes over each law at several strengths."""
    for sigma in (0.05, 0.1, 0.15, 0.3, 0.6):
        yield f"ssig:sampler=noise,sigma={sigma},label=noise-{sigma}"
    for sampler in ("uniform", "uniform-channel"):
        for low in (0.0, 0.25, 0.5, 0.75):
            yield f"ssig:sampler={sampler},low={low},label={sampler}-{low}"
    for sampler in ("bernoulli", "patch-14", "smooth-14", "line"):
        yield f"ssig:sampler={sampler},label={sampler}"
    for spectrum in ("bins", "gains", "rings", "low-pass"):
        yield f"ssig:sampler=frequency,spectrum={spectrum},label=frequency-{spectrum}"


# Group -> methods, as `ssig attribute --method` takes them.
METHODS: Mapping[str, tuple[str, ...]] = {
    "first": (
        *VARIANTS,
        *("ig", "guided-ig", "smoothgrad", "smoothgrad-squared", "vargrad", "blur-ig", "idgi-ig", "grad-cam"),
        *CONTROLS,
    ),
    "rivals": (
        *("gradient", "gradient-x-input", "idgi-guided", "idgi-ssig-path", "idg", "left-ig", "agi", "spectral-ig"),
        *("expected-gradients", "ig2", "lpi", "xrai", "integrated-grad-cam", "ssig-cam", "ssig-attention"),
    ),
    # Later methods; each is measured once this version has it.
    "added": (
        *("samp", "samp++", "spi", "spi-p", "pwig", "mfaba", "rise", "occlusion", "grad-cam++", "layer-cam"),
        *("hires-cam", "score-cam", "attention-rollout", "chefer", "legrad"),
        *("captum:DeepLift", "captum:DeepLiftShap", "captum:GuidedBackprop", "captum:Lime", "captum:KernelShap"),
        *("captum:LRP", "captum:FeatureAblation", "captum:ShapleyValueSampling"),
    ),
    "readouts": tuple(
        f"ssig:sampler={sampler},integrand={integrand},label={sampler}+{integrand}"
        for sampler in _SAMPLERS
        for integrand in _INTEGRANDS
    ),
    "strengths": (*_strengths(), *_FLOORS),
    "costs": tuple(
        f"{name}:{option}={count},label={name}-{count}" for count in _COSTS for name, option in _COSTED.items()
    ),
    "sig": (
        "ig:preset=paper,steps=200,label=ig",
        "guided-ig:preset=paper,fraction=0.1,max_dist=1.0,label=guided-ig",
        "blur-ig:preset=paper,label=blur-ig",
        "spectral-ig:preset=paper,label=spectral-ig",
        "samp",
        "ssig-signed",
        "ssig-path",
    ),
    "gig": (
        "gradient:score=probability,label=gradient",
        "sobel",
        "ig:preset=paper,steps=200,label=ig",
        "blur-ig:preset=paper,label=blur-ig",
        "guided-ig:preset=paper,label=guided-ig",
        # Noise as PAIR's default has it. 25 steps for each of 25 noisy images: 200 would take 10 hours.
        "ig:preset=paper,over=noise,label=smoothgrad-ig",
        "guided-ig:preset=paper,steps=25,over=noise,label=smoothgrad-guided-ig",
        "xrai:preset=paper,label=xrai",
        "xrai:preset=paper,base=guided-ig,baselines=one,baseline=black,label=xrai-guided-ig",
        "grad-cam:score=probability,label=grad-cam",
        "ssig",
        "ssig-path",
    ),
    "spi": ("ig:preset=paper,steps=200,label=ig", "guided-ig:preset=paper,label=guided-ig", "spi", "ssig-path"),
    "samp": ("samp", "samp++", "guided-ig:preset=paper,label=guided-ig", "ssig-signed"),
    LAWS: (),
}
# Group -> metrics, as `ssig attribute --metric` takes them.
METRICS: Mapping[str, tuple[str, ...]] = {
    "core": (
        *(f"{name}:orders=signed" for name in ("insertion", "deletion", "diffid")),
        *("roc_auc", "average_precision", "pointing", "energy", "certainty", "certainty_nce"),
    ),
    "information": ("road:orders=signed", "aic:orders=signed", "sic:orders=signed"),
    "sanity": ("alignment", "stability", "mprt:blocks=2"),
    "near": (
        *(f"{name}:orders=signed" for name in ("insertion", "deletion")),
        *("roc_auc", "certainty", "certainty_nce", "alignment"),
    ),
    "sig": ("diffid_element:preset=sig",),
    "gig": ("roc_auc",),
    "spi": ("insertion:orders=both", "deletion:orders=both"),
    "samp": (
        "insertion:pixels_per_step=1792,score=logit,normalised=true",
        "deletion:pixels_per_step=1792,score=logit,normalised=true",
    ),
    LAWS: (),
}


@dataclass(frozen=True)
class Block:
    """What is measured at once and becomes one file.

    Attributes:
        network, metrics, methods: keys of the tables above.
        shards: number of the first shard, and of the one after the last.
        limit: the first so many images of these; all by default.
    """

    network: str
    metrics: str
    methods: str
    shards: tuple[int, int]
    limit: int | None = None

    @property
    def name(self) -> str:
        """Its name among those of its network."""
        first = self.shards[0] * SHARD_IMAGES
        return f"{self.metrics}-{self.methods}-{first:03d}" if self.methods != self.metrics else f"{self.metrics}"

    @property
    def images(self) -> int:
        """How many images it has if every shard is full."""
        return self.limit or (self.shards[1] - self.shards[0]) * SHARD_IMAGES


@dataclass(frozen=True)
class Design:
    """The whole study; tests make small ones."""

    networks: Mapping[str, Network] = field(default_factory=lambda: NETWORKS)
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: METHODS)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: METRICS)
    blocks: tuple[Block, ...] = field(default_factory=lambda: blocks())


_FIRST = (0, 2)
_REST: Mapping[str, tuple[tuple[int, int], ...]] = {
    "efficientnet-lite0": ((2, 4), (4, 6), (6, 8), (8, 10)),
    "mobilenetv2": ((2, 4), (4, 6), (6, 8), (8, 10)),
    "vit-tiny": ((2, 4), (4, 6)),
    "googlenet": ((2, 3),),
    "resnet50": ((2, 3),),
}


def blocks() -> tuple[Block, ...]:
    """All blocks, the most valuable first."""
    return tuple(_blocks())


def _blocks() -> Iterator[Block]:
    yield from (Block(network, "core", "first", _FIRST) for network in FAMILIES)
    yield from (Block(network, LAWS, LAWS, _FIRST) for network in TWO)
    yield from (Block(network, "core", "added", _FIRST) for network in TWO)
    yield from (Block(network, "core", "readouts", _FIRST) for network in TWO)
    yield from (Block(network, "near", "strengths", _FIRST) for network in TWO)
    yield from (Block(network, "core", "rivals", _FIRST) for network in FAMILIES)
    yield from (Block(network, "core", "added", _FIRST) for network in FAMILIES[2:])
    yield from (Block(network, "core", "costs", _FIRST) for network in TWO)
    yield from (Block(network, "core", "first", part) for network in FAMILIES for part in _REST[network])
    yield from (Block(network, "information", "first", _FIRST) for network in FAMILIES)
    yield from (Block(network, "sanity", "first", _FIRST, 64) for network in FAMILIES)
    yield from (
        Block(network, group, group, part)
        for group, network, part in (
            ("gig", "mobilenetv2", (0, 10)),
            ("sig", "resnet18", _FIRST),
            ("spi", "resnet18", _FIRST),
            ("samp", "resnet50", _FIRST),
        )
    )
    for methods in ("rivals", "added"):
        yield from (Block(network, "core", methods, part) for network in FAMILIES for part in _REST[network])
        yield from (Block(network, "information", methods, _FIRST) for network in FAMILIES)
        yield from (Block(network, "sanity", methods, _FIRST, 64) for network in FAMILIES)
