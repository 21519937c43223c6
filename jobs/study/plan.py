"""What is left to measure: gradients, forward passes and hours of each block, the most valuable first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.study import block_file, laws
from jobs.study.design import LAWS, Block, Design
from jobs.study.entries import unknown, work
from jobs.study.run import Places, definition, missing
from pipeline.plan.work import Work

_HOUR = 3600


@dataclass(frozen=True)
class Line:
    """A block in the plan.

    Attributes:
        block: which.
        methods: how many are left.
        work: of these, on all images.
        hours: by the rates of the network.
    """

    block: Block
    methods: int
    work: Work
    hours: float


def plan(design: Design, places: Places) -> list[Line]:
    """The blocks with something left, in their order."""
    return list(_lines(design, places))


def _lines(design: Design, places: Places) -> Iterator[Line]:
    for block in (*design.looks, *design.blocks):
        left = missing(block, design, places)
        if left:
            cost = cost_of(block, list(left.values()), design)
            yield Line(block, len(left), cost, hours(block, cost, design))


def cost_of(block: Block, entries: Sequence[str], design: Design) -> Work:
    """The evaluations of some methods of a block, on all of its images."""
    if block.metrics == LAWS:
        points = len(laws.settings())
        return Work(points * laws.DRAWS, 1 + points) * block.images
    return work(entries, design.metrics[block.metrics]) * block.images


def hours(block: Block, cost: Work, design: Design) -> float:
    """How long that takes by the rates of the network."""
    network = design.networks[block.network]
    return (cost.gradients / network.gradients + cost.forwards / network.forwards) / _HOUR


def done(design: Design, places: Places) -> int:
    """How many blocks have all of their methods on all of their images."""
    return sum(not missing(block, design, places) for block in design.blocks)


def looked(design: Design, places: Places) -> int:
    """How many blocks have a first look in their place."""
    files = ((look, places.file(look)) for look in design.looks)
    return sum(
        block_file.record_of(file)["definition"] == definition(look, design) for look, file in files if file.exists()
    )


def text(design: Design, places: Places) -> str:
    """The plan as a table for the terminal."""
    lines, shown, total = plan(design, places), [], 0.0
    head = (
        f"{'network':20}{'block':26}{'images':>7}{'methods':>9}{'gradients':>12}{'forwards':>12}{'hours':>8}{'sum':>8}"
    )
    for line in lines:
        total += line.hours
        block, cost = line.block, line.work
        shown.append(
            f"{block.network:20}{block.name:26}{block.images:7}{line.methods:9}"
            f"{cost.gradients:12,.0f}{cost.forwards:12,.0f}{line.hours:8.2f}{total:8.1f}"
        )
    shown = [
        head,
        *shown,
        f"{done(design, places)} of {len(design.blocks)} blocks are done; {total:.1f} hours are left",
    ]
    lacking = sorted({entry for entries in design.methods.values() for entry in unknown(entries)})
    if lacking:
        shown.append(f"not in this version of ssig, so left out: {', '.join(lacking)}")
    return "\n".join(shown)
