"""What the study measures: networks, groups of methods and of metrics, and the blocks in their order of value.

A method of the study is one line in `METHODS`, written as `ssig attribute --method` takes it. A method that this
version of ssig lacks is left out, and measured as soon as there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

SEED = 0
UNIT = 5  # images that are committed at once: half an hour of a slow network at most
SHARD_IMAGES = 50
LOOK = 25  # images of a first look
LAWS = "laws"  # the group of metrics that looks at samples instead of maps
PERMUTED = "permuted"  # the group whose maps are those of a network with permuted weights


@dataclass(frozen=True)
class Network:
    """A network of the study.

    Attributes:
        title: what people call it.
        model: fields of a job's `model`: the network and the geometry of its input.
        gradients, forwards: evaluations a second on two cores, for the plan.
        augmented: whether it was trained with heavy augmentation.
        weights: where they come from, and how they are stored where that changes them.
    """

    title: str
    model: Mapping[str, Any]
    gradients: float
    forwards: float
    augmented: bool | None = None
    weights: str = ""


_RESNET18 = "product-quantised (Stock et al., ICLR 2020)"
_BILINEAR = {"size": 224, "resize": 256, "interpolation": "bilinear", "crop": "center"}
NETWORKS: Mapping[str, Network] = {
    "efficientnet-lite0": Network(
        "EfficientNet-Lite0", {"name": "efficientnet-lite0"}, 60, 156, weights="those that `ssig` has packaged"
    ),
    "mobilenetv2": Network(
        "MobileNetV2",
        {"name": "packed:mobilenetv2", "input": _BILINEAR},
        66,
        159,
        True,
        "timm's `mobilenetv2_100` with TensorFlow's padding, from a model of 8 bits",
    ),
    "vit-tiny": Network(
        "ViT-Tiny",
        {"name": "packed:vit_tiny", "input": {**_BILINEAR, "resize": 248, "interpolation": "bicubic"}},
        34,
        87,
        True,
        "timm's `vit_tiny_patch16_224`",
    ),
    "googlenet": Network(
        "GoogLeNet",
        {"name": "packed:googlenet", "input": {**_BILINEAR, "resize": [256, 256], "crop": "squash"}},
        19,
        46,
        False,
        "Caffe's `bvlc_googlenet`",
    ),
    "resnet50": Network(
        "ResNet-50",
        {"name": "packed:resnet50", "input": _BILINEAR},
        16,
        37,
        weights="product-quantised (Martinez et al., CVPR 2021)",
    ),
    # For the reproductions alone. Its rates are estimates, from those of ResNet-50 by the number of operations.
    "resnet18": Network("ResNet-18", {"name": "packed:resnet18", "input": _BILINEAR}, 36, 84, weights=_RESNET18),
    "resnet18-256": Network(
        "ResNet-18 at 256 x 256",
        {"name": "packed:resnet18", "input": {**_BILINEAR, "size": 256, "resize": [256, 256], "crop": "squash"}},
        28,
        64,
        weights=_RESNET18,
    ),
}
FAMILIES = ("efficientnet-lite0", "mobilenetv2", "vit-tiny", "googlenet", "resnet50")
TWO = FAMILIES[:2]

VARIANTS = ("ssig", "ssig-signed", "ssig-frequency", "ssig-shapley", "ssig-path")
CONTROLS = (RANDOM := "random", "sobel", "centre")
# 32 is that of `first`.
_COSTS = (4, 16, 64, 256)
_COSTED = {
    **dict.fromkeys(("ssig", "ssig-signed", "ssig-path", "smoothgrad"), "samples"),
    **dict.fromkeys(("ig", "guided-ig", "idgi-ig"), "steps"),
}
FEWER = 4  # gradients of the maps that are known to be worse than those of 32
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
    # What a reader of 2026 expects beside these, one of each idea. Paths: `samp`, `samp++`, `spi` and `spi-p` lead the
    # published tables, and `spi` is the nearest prior art of `ssig-path`; `mfaba` is the fast one, `spectral-ig` the
    # newest, and `left-ig` avoids saturation. `expected-gradients` has baselines from data, `xrai` regions,
    # `layer-cam` maps of layers, `rise` no gradients. Left to `rivals`: `pwig`, a weight on the line of `ig`, and
    # `agi`, which was no better than random maps in earlier runs.
    "second": (
        *("samp", "samp++", "spi", "spi-p", "mfaba", "left-ig", "spectral-ig", "expected-gradients", "xrai"),
        *("layer-cam", "rise"),
    ),
    "rivals": (
        *("gradient", "gradient-x-input", "idgi-guided", "idgi-ssig-path", "idg", "agi", "ig2", "lpi", "pwig"),
        *("integrated-grad-cam", "ssig-cam", "grad-cam++", "hires-cam", "score-cam", "occlusion"),
        *("captum:DeepLift", "captum:DeepLiftShap", "captum:GuidedBackprop", "captum:LRP", "captum:FeatureAblation"),
        # So many samples take about the time of 32 gradients: an image has 45 features in the mean.
        *("captum:Lime:n_samples=80", "captum:KernelShap:n_samples=80", "captum:ShapleyValueSampling:n_samples=2"),
    ),
    # Those with rules for layers, which the two networks of `rivals` lack: their ReLUs are bounded.
    "layers": ("captum:DeepLift", "captum:DeepLiftShap", "captum:GuidedBackprop", "captum:LRP"),
    "attention": ("chefer", "legrad", "attention-rollout", "ssig-attention"),
    # Those of `second` that draw, so that their stability is a number.
    "drawn": ("spi", "spi-p", "expected-gradients", "rise"),
    "readouts": tuple(
        f"ssig:sampler={sampler},integrand={integrand},label={sampler}+{integrand}"
        for sampler in _SAMPLERS
        for integrand in _INTEGRANDS
    ),
    "strengths": (*_strengths(), *_FLOORS),
    "costs": tuple(
        f"{name}:{option}={count},label={name}-{count}" for count in _COSTS for name, option in _COSTED.items()
    ),
    "fewer": tuple(f"{name}:{_COSTED[name]}={FEWER},label={name}-{FEWER}" for name in ("ssig", "ig", "smoothgrad")),
    PERMUTED: ("ssig", "ig", "smoothgrad", "grad-cam"),
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
_CORE = (
    *(f"{name}:orders=signed" for name in ("insertion", "deletion", "diffid")),
    *("roc_auc", "average_precision", "pointing", "energy", "certainty"),
)
_INFORMATION = ("road:orders=signed", "aic:orders=signed", "sic:orders=signed")
# Group -> metrics, as `ssig attribute --metric` takes them.
METRICS: Mapping[str, tuple[str, ...]] = {
    "core": (*_CORE, "certainty_nce"),
    "information": _INFORMATION,
    PERMUTED: (*_CORE, *_INFORMATION),
    "sanity": ("alignment", "stability", "mprt:blocks=2"),
    "near": (
        *(f"{name}:orders=signed" for name in ("insertion", "deletion")),
        *("roc_auc", "certainty", "certainty_nce", "alignment"),
    ),
    "sig": ("diffid_channels:preset=sig",),
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
    """The whole study; tests make small ones.

    Attributes:
        networks, methods, metrics: the tables above.
        looks: blocks of few images, which are measured first, and are replaced by the whole blocks of their names.
        blocks: all others, the most valuable first.
    """

    networks: Mapping[str, Network] = field(default_factory=lambda: NETWORKS)
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: METHODS)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: METRICS)
    looks: tuple[Block, ...] = field(default_factory=lambda: looks())
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


def looks() -> tuple[Block, ...]:
    """The blocks of the first answers on so few images that each question soon has an answer."""
    return tuple(replace(block, shards=(0, 1), limit=LOOK) for block in _answers())


def _blocks() -> Iterator[Block]:
    yield from _answers()
    yield from _rest()


def _answers() -> Iterator[Block]:
    """The first answer to each question."""
    yield from _on(FAMILIES, "core", "first")
    yield from _on(TWO, LAWS, LAWS)
    yield from _on(FAMILIES, "core", "second")
    yield from _on(TWO, "core", "rivals")
    yield from _on(("resnet50", "googlenet"), "core", "layers")
    yield from _on(TWO, "core", "readouts")
    yield from _on(TWO, "near", "strengths")
    yield from _on(TWO, PERMUTED, PERMUTED)
    yield from _on(FAMILIES, "information", "first")
    yield from _on(TWO, "information", "fewer")
    yield Block("resnet18-256", "sig", "sig", _FIRST)
    yield Block("resnet18", "spi", "spi", _FIRST)
    yield Block("mobilenetv2", "gig", "gig", (0, 4))
    yield Block("resnet50", "samp", "samp", _FIRST)
    yield from _on(TWO, "core", "costs")


def _rest() -> Iterator[Block]:
    """More images, methods and metrics."""
    yield Block("vit-tiny", "core", "attention", _FIRST)
    for methods in ("first", "second"):
        yield from (Block(network, "core", methods, part) for network in FAMILIES for part in _REST[network])
    yield from _on(FAMILIES, "information", "second")
    yield from _on(FAMILIES, "sanity", "first", 64)
    yield from _on(FAMILIES, "sanity", "drawn", 64)


def _on(networks: Iterable[str], metrics: str, methods: str, limit: int | None = None) -> Iterator[Block]:
    """The first images of some networks."""
    return (Block(network, metrics, methods, _FIRST, limit) for network in networks)
