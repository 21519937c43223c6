"""`ssig bench …`: what the engine, the scheduler and the pipeline achieve on this machine, as tables or JSON.

Each command measures in a module of its own, imported when it runs, and prints the record that `measure` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.commands.printing import print_json

app = typer.Typer(name="bench", help="Benchmarks, side by side with peers.", rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Shards = Annotated[list[str] | None, typer.Option(help="Where images come from; else SSIG_DEV_SHARDS, photographs.")]
Actors = Annotated[int | None, typer.Option(min=1, help="How many actors.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Gradients for each image.")]


@app.command()
def engine(
    network: Annotated[str, typer.Option(help="lite0, resnet50 or vit-b16.")] = "lite0",
    precision: Annotated[str, typer.Option(help="Of our side: fp32, tf32, fp16, bf16; the peer's is fp32.")] = "fp32",
    peer: Annotated[str, typer.Option(help="captum or pair.")] = "captum",
    method: Annotated[str, typer.Option(help="ig, guided-ig, blur-ig or smoothgrad.")] = "ig",
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Gradients for each image.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is timed.")] = 5,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Time the engine and a peer in turn, and compare their maps."""
    return _measure(
        "engine",
        as_json,
        network=network,
        precision=precision,
        peer=peer,
        method=method,
        images=images,
        steps=steps,
        rounds=rounds,
        shards=shards,
    )


@app.command()
def accuracy(
    network: Annotated[str, typer.Option(help="lite0, resnet50 or vit-b16.")] = "lite0",
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 50,
    tolerance: Annotated[float, typer.Option(help="Of the adaptive rule.")] = 0.02,
    compared: Annotated[int, typer.Option(min=0, help="Images whose maps are compared.")] = 8,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare the gradients that integrated gradients needs for equal completeness with Captum's rule."""
    return _measure(
        "accuracy",
        as_json,
        network=network,
        images=images,
        tolerance=tolerance,
        compared=compared,
        shards=shards,
    )


@app.command()
def adaptive(
    network: Annotated[str, typer.Option(help="lite0, resnet50 or vit-b16.")] = "lite0",
    method: Annotated[str, typer.Option(help="One that takes samples: auto.")] = "ssig",
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 50,
    tolerance: Annotated[float, typer.Option(help="Of the error.")] = 0.1,
    sampler: Annotated[str | None, typer.Option(help="Of the method, in place of its own.")] = None,
    criterion: Annotated[str, typer.Option(help="Which error: standard-error or spearman.")] = "standard-error",
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare the samples that are drawn until an image's error is met with a fixed number for all images."""
    return _measure(
        "adaptive",
        as_json,
        network=network,
        method=method,
        images=images,
        tolerance=tolerance,
        sampler=sampler,
        criterion=criterion,
        shards=shards,
    )


@app.command()
def pic(
    network: Annotated[str, typer.Option(help="lite0, resnet50 or vit-b16.")] = "lite0",
    images: Annotated[int, typer.Option(min=1, help="How many maps are compared.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is timed, on one map.")] = 3,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Time the performance information curves of a map against PAIR's, and compare areas; exit 1 if they differ."""
    return _measure("pic", as_json, network=network, images=images, rounds=rounds, shards=shards)


@app.command()
def claims(
    samples: Annotated[int, typer.Option(min=1, help="Of each law and number of images.")] = 10_000,
    reports: Annotated[int, typer.Option(min=1, help="Of two methods; a tenth of them of 31.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    table: Annotated[bool, typer.Option("--table", help="Coverage by skewness, which the report states.")] = False,
    as_json: AsJson = False,
) -> int:
    """Simulate what the report's statistics claim where the truth is known."""
    return _measure("claims", as_json, samples=samples, reports=reports, seed=seed, table=table)


@app.command()
def scheduler(
    actors: Actors = None,
    samples: Annotated[int | None, typer.Option(min=1, help="How many samples the dataset has.")] = None,
    seconds: Annotated[float | None, typer.Option(help="That an actor takes for a sample.")] = None,
    unit_size: Annotated[int | None, typer.Option(min=1, help="Samples of a unit.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure what the driver costs with simulated actors."""
    return _measure("scheduler", as_json, actors=actors, samples=samples, seconds=seconds, unit_size=unit_size)


@app.command()
def memory(
    shards: Shards = None,
    images: Annotated[list[int] | None, typer.Option(help="Sizes of the dataset; repeat for several.")] = None,
    samples: Samples = None,
    as_json: AsJson = False,
) -> int:
    """Measure how memory grows with the size of the dataset."""
    return _measure("memory", as_json, shards=shards, images=images, samples=samples)


@app.command()
def pipeline(
    shards: Shards = None,
    images: Annotated[int | None, typer.Option(min=1, help="How many images.")] = None,
    samples: Samples = None,
    actors: Actors = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores of each actor; with fewer than all, one is spare.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure a whole job against the bare engine."""
    options = {"shards": shards, "images": images, "samples": samples, "actors": actors, "threads": threads}
    return _measure("pipeline", as_json, **options)


def _measure(name: str, as_json: bool, **options: Any) -> int:
    """Runs a module's `measure` with the options that were given and prints its record; 1 if that is not `ok`."""
    with Console(stderr=True).status(f"measuring: {name}"):
        module = import_module(f"jobs.bench.{name}")
        record = module.measure(**{key: value for key, value in options.items() if value is not None})
    if as_json:
        print_json(record)
    else:
        show(record, Console(highlight=False, markup=False))
    return 0 if record.get("ok", True) else 1


def show(record: Mapping[str, Any], console: Console) -> None:
    """Prints a record: a table for each list of mappings, a line for everything else."""
    for key, value in record.items():
        if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            table = Table(*value[0], box=None, pad_edge=False, header_style="bold")
            for row in value:
                table.add_row(*map(text, row.values()))
            console.print(table)
        else:
            console.print(f"{key.replace('_', ' ')}: {text(value)}")


def text(value: object) -> str:
    """A value for a person; a `timing.summary` as least - median - greatest."""
    if isinstance(value, Mapping):
        if set(value) == {"min", "median", "max"}:
            return " - ".join(text(value[name]) for name in ("min", "median", "max"))
        return ", ".join(f"{name.replace('_', ' ')} {text(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return "-" if value is None else str(value)
