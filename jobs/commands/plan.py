"""`ssig plan`: what a job will cost, before it runs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands import job_options as given
from ssig.errors import DONE, UsageError

if TYPE_CHECKING:
    from pipeline.plan.estimate import Estimate, Part

WIDTH = 80
_NAME = 30
_SIZES = ("bytes", "kB", "MB", "GB", "TB", "PB")


def plan(
    context: typer.Context,
    job: given.JobFile = None,
    shards: given.Shards = None,
    images: given.Images = None,
    labels: given.Labels = None,
    boxes: given.Boxes = None,
    masks: given.Masks = None,
    shards_out: given.ShardsOut = None,
    limit: given.Limit = None,
    model: given.Model = None,
    weights: given.Weights = None,
    precision: given.Precision = None,
    score: given.Score = None,
    target: given.Target = None,
    method: given.Method = None,
    metric: given.Metric = None,
    out: given.Out = None,
    seed: given.Seed = None,
    field: given.Field = None,
    in_process: given.InProcess = False,
    trust_shards: given.TrustShards = False,
    devices: Annotated[
        int, typer.Option(metavar="N", min=1, help="Devices that share the work: GPUs, or machines without one.")
    ] = 1,
    price: Annotated[float | None, typer.Option(metavar="P", min=0, help="Price of a device for an hour.")] = None,
    probe: Annotated[bool, typer.Option(help="Measure a few images on this machine.")] = True,
    probe_seconds: Annotated[
        float, typer.Option(metavar="N", min=0, help="Seconds that the measured images should take.")
    ] = 30.0,
    gradients_per_second: Annotated[
        float | None,
        typer.Option(metavar="R", help="Speed of a device, in place of a probe; a forward pass counts a third."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say what a job will cost: work, files, bytes, hours and price.

    A few images are measured on this machine, without Ray. Nothing is written into the output path. For a run that
    has begun, it says what is left.
    """
    if gradients_per_second is not None and gradients_per_second <= 0:
        raise UsageError("--gradients-per-second", gradients_per_second, "a number above 0")
    from jobs.commands.progress import Display

    with given.typed_job(context.params) as checked, Display(quiet=as_json) as display:
        from pipeline.driver.planning import Wishes, plan_job  # imports torch
        from pipeline.run.trust import import_from_working_folder
        from ssig.models.sources import runs_code

        if runs_code(checked.model.name):
            import_from_working_folder(checked.output.path, checked.model.name)
        wishes = Wishes(probe, gradients_per_second, devices, price, probe_seconds, trust_shards)
        estimate = plan_job(checked, wishes, display)
    if as_json:
        from jobs.commands.printing import print_json

        return print_json(estimate.record)
    print(*lines(estimate), sep="\n")
    return DONE


def lines(estimate: Estimate) -> Iterator[str]:
    """The estimate for a terminal of 80 columns."""
    terms = estimate.terms
    about = "" if terms.exact else "about "
    work = f"{_count(terms.samples, 'image')} x {_count(len(terms.left), 'method')}"
    units = f"{_count(terms.units, 'unit')} of at most {_count(terms.unit_size, 'image')}"
    yield from _wrapped(f"{terms.run}: {about}{work}, {about}{units}")
    begun = sum(terms.left.values()) < terms.samples * len(terms.left)
    if begun:
        left = sum(terms.left.values())
        if left == 0:
            yield "begun: nothing is left to do"
            return
        are = "is" if left == 1 else "are"
        yield from _wrapped(f"begun: {_count(left, 'map')} {are} left to do; all that follows is about these")
    yield ""
    yield _row("", "gradients", "forwards", "device time", "share")
    total = sum(part.seconds or 0.0 for part in estimate.parts)
    for part in estimate.parts:
        yield _row(_name(part), _number(part.gradients), _number(part.forwards), *_time(part.seconds, total))
    yield _row("sum", _number(estimate.gradients), _number(estimate.forwards), *_time(total or None, total))
    yield ""
    yield from _facts(estimate)
    yield "it cannot know:"
    for sentence in estimate.unknown:
        yield from textwrap.wrap(
            sentence, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )


def _facts(estimate: Estimate) -> Iterator[str]:
    terms, output, probed = estimate.terms, estimate.output, estimate.probed
    at_most = "" if output.measured else "at most "
    written = f"writes: {output.files:,} files of {at_most}{size(output.bytes)}"
    yield from _wrapped(f"{written} together, of which {size(output.map_bytes)} are maps")
    if probed is not None:
        yield from _wrapped(
            f"measured: {_count(probed.images, 'image')} by {_count(probed.workers, 'worker')} in micro-batches of "
            f"{probed.worker['micro_batch']}: {_figure(probed.seconds)} s of the device for an image; a worker is "
            f"ready after {probed.ready:.0f} s"
        )
    if terms.rate is not None:
        yield from _wrapped(f"stated: {_figure(terms.rate)} gradients/s of a device")
    hours, wall = estimate.device_hours, estimate.wall_hours
    if hours is None or wall is None:
        return
    devices = _count(terms.devices, "device")
    yield from _wrapped(f"time: {_figure(hours)} device-hours; by the clock {clock(3600 * wall)} on {devices}")
    if estimate.cost is not None:
        yield from _wrapped(f"price: {estimate.cost:,.2f} at {terms.price:,.10g} a device-hour")
    slowest = estimate.slowest
    if slowest is not None:
        share = (slowest.seconds or 0.0) / (3600 * hours)
        yield from _wrapped(f"slowest: {_title(slowest)}, {share:.0%} of the time".replace("%", " %"))


def size(count: float) -> str:
    """Bytes for a person."""
    for name in _SIZES:
        if count < 999.5 or name == _SIZES[-1]:
            return f"{_figure(count)} {name}"
        count /= 1000
    raise AssertionError


def clock(seconds: float) -> str:
    """Seconds as days, hours and minutes, as minutes and seconds, or as seconds."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes % 60:02d} h"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _name(part: Part) -> str:
    if part.label is None:
        return part.what
    return part.label if part.what == "maps" else f"  {part.what}"


def _title(part: Part) -> str:
    return part.what if part.label is None else f"{part.what} of {part.label}"


def _row(name: str, gradients: str, forwards: str, time: str, share: str) -> str:
    shown = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
    return f"{shown:{_NAME}}{gradients:>15}{forwards:>15}{time:>13}{share:>7}".rstrip()


def _figure(number: float) -> str:
    """Three digits of a small number, and all before the point of a large one."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def _number(count: float | None) -> str:
    if count is None:
        return "?"
    return f"{count:,.0f}" if count < 1e12 else f"{count:.3g}"


def _time(seconds: float | None, total: float) -> tuple[str, str]:
    return ("?", "") if seconds is None else (clock(seconds), f"{100 * seconds / total:.0f} %" if total else "")


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
