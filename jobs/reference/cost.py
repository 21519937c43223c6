"""The page on what a run over all of ImageNet's training images costs, at stated rates of a device."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.reference.markdown import code, page, table
from ssig.registry.catalogue import METHOD, METRIC, records

IMAGES = 1_281_167
METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")
METRICS = ("insertion", "deletion", "diffid", "roc_auc")
# Gradients of the network a second, of one device.
RATES = (500, 2_000, 8_000)
# A forward pass without gradients takes about a third of a gradient.
FORWARDS_PER_GRADIENT = 3
JOBS: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
    ("maps of `ssig`", ("ssig",), ()),
    ("maps of `ssig`, and metrics", ("ssig",), METRICS),
    ("maps of five methods", METHODS, ()),
    ("maps of five methods, and metrics", METHODS, METRICS),
)


def device_hours(gradients: float, forwards: float, rate: float) -> float:
    """Hours of one device.

    Args:
        gradients, forwards: evaluations of the network.
        rate: gradients a second.
    """
    return (gradients + forwards / FORWARDS_PER_GRADIENT) / rate / 3600


def evaluations(methods: Sequence[str], metrics: Sequence[str]) -> tuple[int, int]:
    """Gradients and forward passes of an image, with the default options of all that is named."""
    known, measures = records(METHOD), records(METRIC)
    gradients = sum(int(known[name]["gradients"]) for name in methods)
    of_methods = sum(int(known[name]["forwards"]) for name in methods)
    return gradients, of_methods + len(methods) * sum(int(measures[name]["forwards"]) for name in metrics)


def cost() -> str:
    """The page."""
    rows = []
    for title, methods, metrics in JOBS:
        gradients, forwards = (IMAGES * count for count in evaluations(methods, metrics))
        hours = [f"{device_hours(gradients, forwards, rate):,.0f}" for rate in RATES]
        rows.append([title, f"{gradients / 1e6:,.0f} M", f"{forwards / 1e6:,.0f} M", *hours])
    header = ["job", "gradients", "forward passes", *(f"hours at {rate:,} gradients/s" for rate in RATES)]
    return page(
        "Cost at 1.28 million images",
        "`jobs/reference/cost.py` and the catalogue",
        f"Device-hours for ImageNet's {IMAGES:,} training images, by the evaluations of the network and a stated "
        "rate. At a price of 1 for a device and hour they are the price, too. N devices share the hours by N.",
        table(header, rows),
        f"The five methods: {', '.join(map(code, METHODS))}. The metrics: {', '.join(map(code, METRICS))}. Both with "
        f"their default options. A forward pass counts as 1/{FORWARDS_PER_GRADIENT} of a gradient, which is about "
        "what it takes.",
        "The rate is stated, not measured: it depends on the network, its precision and the device. `ssig bench "
        "engine` measures it for a network on a device. Reading and decoding images, encoding and writing maps go on "
        "beside the gradients where cores are to spare ([Performance](../performance.md)) and are not in the hours; "
        "nor is the time until a node has started.",
    )
