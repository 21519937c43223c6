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

from jobs.commands.printing import PROSE, print_json, text

app = typer.Typer(name="bench", help="Benchmarks, side by side with peers.", rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Network = Annotated[str, typer.Option(help="lite0, resnet50 or vit-b16.")]
Images = Annotated[int, typer.Option(min=1, help="How many images.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each side is timed.")]
Shards = Annotated[list[str] | None, typer.Option(help="Where images come from; else SSIG_DEV_SHARDS, photographs.")]
Actors = Annotated[int | None, typer.Option(min=1, help="How many actors.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Gradients for each image.")]


@app.command()
def engine(
    context: typer.Context,
    network: Network = "lite0",
    precision: Annotated[
        str, typer.Option(help="Precision of ssig's network: fp32, tf32, fp16 or bf16; the peer's is fp32.")
    ] = "fp32",
    peer: Annotated[str, typer.Option(help="captum or pair.")] = "captum",
    method: Annotated[str, typer.Option(help="ig, guided-ig, blur-ig or smoothgrad.")] = "ig",
    images: Images = 8,
    steps: Annotated[int, typer.Option(min=1, help="Gradients for each image.")] = 32,
    rounds: Rounds = 5,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Time the engine and a peer in turn, and compare their maps."""
    return _measure(context)


@app.command()
def accuracy(
    context: typer.Context,
    network: Network = "lite0",
    images: Images = 50,
    tolerance: Annotated[float, typer.Option(help="Completeness residual at which the adaptive rule stops.")] = 0.02,
    compared: Annotated[int, typer.Option(min=0, help="How many images have their maps compared.")] = 8,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare the gradients that integrated gradients needs for equal completeness with Captum's rule."""
    return _measure(context)


@app.command()
def adaptive(
    context: typer.Context,
    network: Network = "lite0",
    method: Annotated[str, typer.Option(help="A method that takes samples: auto.")] = "ssig",
    images: Images = 50,
    tolerance: Annotated[float, typer.Option(help="Error to reach.")] = 0.1,
    sampler: Annotated[str | None, typer.Option(help="Sampler (default: the method's own).")] = None,
    criterion: Annotated[str, typer.Option(help="Which error: standard-error or spearman.")] = "standard-error",
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare the samples that are drawn until an image's error is met with a fixed number for all images."""
    return _measure(context)


@app.command()
def pic(
    context: typer.Context,
    network: Network = "lite0",
    images: Annotated[int, typer.Option(min=1, help="How many maps are compared.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is timed, on one map.")] = 3,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Time the performance information curves of a map against PAIR's, and compare areas; exit 1 if they differ."""
    return _measure(context)


@app.command()
def claims(
    context: typer.Context,
    samples: Annotated[int, typer.Option(min=1, help="Samples for each law and number of images.")] = 10_000,
    reports: Annotated[int, typer.Option(min=1, help="Reports of two methods; a tenth as many of 31.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    table: Annotated[bool, typer.Option("--table", help="Coverage by skewness, which the report states.")] = False,
    as_json: AsJson = False,
) -> int:
    """Simulate what the report's statistics claim where the truth is known."""
    return _measure(context)


@app.command()
def scheduler(
    context: typer.Context,
    actors: Actors = None,
    samples: Annotated[int | None, typer.Option(min=1, help="How many samples the dataset has.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds that an actor takes for a sample.")] = None,
    unit_size: Annotated[int | None, typer.Option(min=1, help="Samples in a unit.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure what the driver costs with simulated actors."""
    return _measure(context)


@app.command()
def memory(
    context: typer.Context,
    shards: Shards = None,
    images: Annotated[list[int] | None, typer.Option(help="Sizes of the dataset; repeat for several.")] = None,
    samples: Samples = None,
    as_json: AsJson = False,
) -> int:
    """Measure how memory grows with the size of the dataset."""
    return _measure(context)


@app.command()
def pipeline(
    context: typer.Context,
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
    return _measure(context)


def _measure(context: typer.Context) -> int:
    """Runs `measure` of the command's module with the options that were given and prints its record.

    Returns:
        1 if the record is not `ok`, else 0.
    """
    options = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    as_json = options.pop("as_json")
    with Console(stderr=True).status(f"measuring: {context.info_name}"):
        record = import_module(f"jobs.bench.{context.info_name}").measure(**options)
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
                table.add_row(*(text(cell, PROSE) for cell in row.values()))
            console.print(table)
        else:
            console.print(f"{key.replace('_', ' ')}: {text(value, PROSE)}")
