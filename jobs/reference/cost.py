"""The page on what a run over all of ImageNet's training images costs, at stated rates of a device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from jobs.commands.plan import lines
from jobs.reference.markdown import code, page, table
from pipeline.job.choices import MethodChoice, MetricChoice, named
from pipeline.plan.estimate import Estimate, Terms, estimate
from pipeline.plan.files import joined, output_of, schemas
from pipeline.plan.work import job_work
from ssig.registry.catalogue import METHOD, METRIC, records

IMAGES = 1_281_167
METHODS = ("ssig", "ssig-signed", "ig", "smoothgrad", "gradient")
METRICS = ("insertion", "deletion", "diffid", "roc_auc")
# Gradients of the network a second, of one device.
RATES = (500, 2_000, 8_000)
# A forward pass without gradients takes about a third of a gradient.
FORWARDS_PER_GRADIENT = 3
# What is assumed of the data and of the job.
SHARD_IMAGES, UNIT_SIZE, INPUT_SIZE = 1_000, 64, (224, 224)
# Of the plan that is shown.
DEVICES, PRICE, RATE = 8, 2.5, 2_000
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


def units() -> int:
    """Units of the whole data set; none has images of two shards."""
    shards, rest = divmod(IMAGES, SHARD_IMAGES)
    return shards * math.ceil(SHARD_IMAGES / UNIT_SIZE) + math.ceil(rest / UNIT_SIZE)


def planned(methods: Sequence[str], metrics: Sequence[str]) -> Estimate:
    """What `ssig plan` says of a job on the whole data set, at the stated rate and price."""
    chosen = [MethodChoice.model_validate(named(name)) for name in methods]
    measures = [MetricChoice.model_validate(named(name)) for name in metrics]
    terms = Terms(
        run="s3://BUCKET/runs/imagenet",
        samples=IMAGES,
        exact=True,
        unit_size=UNIT_SIZE,
        units=units(),
        left=dict.fromkeys(methods, IMAGES),
        devices=DEVICES,
        price=PRICE,
        rate=RATE,
    )
    tables = schemas([metric.spec for metric in measures], INPUT_SIZE, "float16", channels=False)
    output = joined([output_of(tables, units(), IMAGES) for _ in methods], units())
    return estimate(terms, job_work(chosen, measures, "logit"), output, None, [])


def cost() -> str:
    """The page."""
    rows = []
    for title, methods, metrics in JOBS:
        gradients, forwards = (IMAGES * count for count in evaluations(methods, metrics))
        hours = [f"{device_hours(gradients, forwards, rate):,.0f}" for rate in RATES]
        output = planned(methods, metrics).output
        written = [f"{output.files:,}", f"{output.bytes / 1e9:,.0f} GB"]
        rows.append([title, f"{gradients / 1e6:,.0f} M", f"{forwards / 1e6:,.0f} M", *hours, *written])
    header = ["job", "gradients", "forward passes", *(f"hours at {rate:,} gradients/s" for rate in RATES)]
    header += ["files", "at most"]
    shown = itertools.takewhile(lambda line: not line.startswith("it cannot know"), lines(planned(*JOBS[1][1:])))
    return page(
        "Cost at 1.28 million images",
        "`jobs/reference/cost.py` and the catalogue",
        f"Device-hours for ImageNet's {IMAGES:,} training images, by the evaluations of the network and a stated "
        "rate. At a price of 1 for a device and hour they are the price, too. N devices share the hours by N. Files "
        f"and bytes are those of units of {UNIT_SIZE} images in shards of {SHARD_IMAGES:,}.",
        table(header, rows),
        f"The five methods: {', '.join(map(code, METHODS))}. The metrics: {', '.join(map(code, METRICS))}. Both with "
        f"their default options. A forward pass counts as 1/{FORWARDS_PER_GRADIENT} of a gradient, which is about "
        "what it takes.",
        "The rate is stated, not measured: it depends on the network, its precision and the device. `ssig bench "
        "engine` measures it for three networks on a device, `ssig plan` for your job. Reading and decoding images, "
        "encoding and writing maps go on beside the gradients where cores are to spare "
        "([Performance](../performance.md)) and are not in the hours; nor is the time until a node has started.",
        "Bytes are those of float16 maps of 224 x 224 pixels before compression; `output.maps: none` leaves the maps "
        "out. Of ImageNet images, compressed maps take 0.91 of that (`ssig plan --shards DEV_SHARDS --limit 50` with "
        "EfficientNet-Lite0, the five methods and four metrics).",
        "## The price of your job",
        f"The second job of the table as `ssig plan` shows it. Its {RATE:,} gradients/s, {DEVICES} devices and price "
        f"of {PRICE} are assumptions: put yours in their place.",
        f"```text\n$ ssig plan job.yaml --gradients-per-second {RATE} --devices {DEVICES} --price {PRICE}\n"
        + "\n".join(shown).strip()
        + "\n```",
        "Better than a stated rate is a measured one: typed on a machine with one of the devices, `ssig plan job.yaml "
        f"--devices {DEVICES} --price {PRICE}` times a few images of the job under all its methods and metrics "
        "([how a plan is made](../how-to/imagenet.md#know-the-cost-first)).",
        "What the price leaves out:\n\n"
        "- **The head or driver**, a machine without a GPU, for as long as the run takes.\n"
        "- **Idle devices**: while the first ones start and load the network, until the last unit is done, and until "
        "an autoscaler takes them away.\n"
        "- **Storage**: the bytes above for as long as you keep them, and the shards.\n"
        "- **Requests** of an object store: at least one put for each file of the table; to list the shards, about "
        "one get for each image, or two for each shard that has [an index](../how-to/index-shards.md). "
        "[A large run](../performance.md#a-large-run) has those of the report, the audit and the compaction.",
    )
