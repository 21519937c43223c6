"""`ssig bench …`: speed, memory and accuracy on this machine, as tables or JSON.

Each command measures in a module of its own, imported when it runs, and prints the record that `measure` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.bench.gpu.command import SECONDS, run
from jobs.commands.printing import PROSE, print_json, text
from jobs.commands.wrong_use import Group, named_as_typed

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(name="bench", cls=Group, help="Measure speed, memory and accuracy.", rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Network = Annotated[str, typer.Option(metavar="NAME", help="Network: lite0, resnet50 or vit-b16.")]
Images = Annotated[int, typer.Option(metavar="N", min=1, help="Number of images.")]
Rounds = Annotated[int, typer.Option(metavar="N", min=1, help="Number of timings of each side.")]
Shards = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Shards (default: SSIG_DEV_SHARDS, or photographs).")
]
NeededShards = Annotated[
    list[str] | None, typer.Option("--shards", metavar="PATTERN", help="Shards (default: those in SSIG_DEV_SHARDS).")
]
Actors = Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of actors.")]
Samples = Annotated[int | None, typer.Option(metavar="N", min=1, help="Gradient evaluations per image.")]


@app.command()
def engine(
    context: typer.Context,
    network: Network = "lite0",
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Precision of ssig's network: fp32, tf32, fp16 or bf16; the peer's is fp32."
        ),
    ] = "fp32",
    peer: Annotated[str, typer.Option(metavar="NAME", help="Library to compare with: captum or pair.")] = "captum",
    method: Annotated[str, typer.Option(metavar="NAME", help="Method: ig, guided-ig, blur-ig or smoothgrad.")] = "ig",
    images: Images = 8,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Gradient evaluations per image.")] = 32,
    rounds: Rounds = 5,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare speed and maps of the engine with another library."""
    return _measure(context)


@app.command()
def accuracy(
    context: typer.Context,
    network: Network = "lite0",
    images: Images = 50,
    tolerance: Annotated[
        float, typer.Option(metavar="N", help="Completeness residual at which the adaptive rule stops.")
    ] = 0.02,
    compared: Annotated[int, typer.Option(metavar="N", min=0, help="How many images have their maps compared.")] = 8,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Count the gradients needed for equal accuracy."""
    return _measure(context)


@app.command()
def adaptive(
    context: typer.Context,
    network: Network = "lite0",
    method: Annotated[str, typer.Option(metavar="NAME", help="A method that takes samples: auto.")] = "ssig",
    images: Images = 50,
    tolerance: Annotated[float, typer.Option(metavar="N", help="Error to reach.")] = 0.1,
    sampler: Annotated[str | None, typer.Option(metavar="NAME", help="Sampler (default: the method's own).")] = None,
    criterion: Annotated[
        str, typer.Option(metavar="NAME", help="Kind of error: standard-error or spearman.")
    ] = "standard-error",
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare adaptive sampling with a fixed number of samples."""
    return _measure(context)


@app.command()
def pic(
    context: typer.Context,
    network: Network = "lite0",
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Number of maps that are compared.")] = 8,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Number of timings of each side, on one map.")] = 3,
    shards: Shards = None,
    as_json: AsJson = False,
) -> int:
    """Compare performance information curves with PAIR's.

    Speed and areas are compared. The exit code is 1 if the areas differ.
    """
    return _measure(context)


@app.command()
def claims(
    context: typer.Context,
    samples: Annotated[
        int, typer.Option(metavar="N", min=1, help="Samples for each law and number of images.")
    ] = 10_000,
    reports: Annotated[
        int, typer.Option(metavar="N", min=1, help="Reports of two methods; a tenth as many of 31.")
    ] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    table: Annotated[
        bool, typer.Option("--table", help="Print only the coverage by skewness, which the report quotes.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check the statistics of the report by simulation."""
    return _measure(context)


@app.command()
def scheduler(
    context: typer.Context,
    actors: Actors = None,
    samples: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of images of the dataset.")] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="N", help="Seconds that an actor takes for a sample.")
    ] = None,
    unit_size: Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples in a unit.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure the overhead of the driver with simulated actors."""
    return _measure(context)


@app.command()
def scale(
    context: typer.Context,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Number of images of the whole run.")] = 1_281_167,
    labels: Annotated[int, typer.Option(metavar="N", min=1, help="Number of methods.")] = 5,
    delay_ms: Annotated[float, typer.Option(metavar="N", min=0, help="Milliseconds of each request.")] = 20.0,
    share: Annotated[
        float, typer.Option(metavar="N", help="Share of the images that is measured; 1 for the whole run.")
    ] = 0.01,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the data, which are removed afterwards.")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="A,B", help="Measure only these steps.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure what a large run asks of its storage.

    A synthetic run is made on this disk, with a delay and a count of requests. Nothing is computed on it.
    """
    return _measure(context, _lines_of_scale)


@app.command()
def memory(
    context: typer.Context,
    shards: NeededShards = None,
    images: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Number of images. Repeat for several.")
    ] = None,
    samples: Samples = None,
    as_json: AsJson = False,
) -> int:
    """Measure memory by size of the dataset."""
    return _measure(context)


@app.command()
def pipeline(
    context: typer.Context,
    shards: NeededShards = None,
    images: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of images.")] = None,
    samples: Samples = None,
    actors: Actors = None,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU cores of each actor.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare the speed of a whole job with the engine alone."""
    return _measure(context)


@app.command()
def plan(
    context: typer.Context,
    shards: NeededShards = None,
    images: Annotated[
        int,
        typer.Option(metavar="N", min=4, help="Number of images of slow jobs; the quick one has 15 times as many."),
    ] = 32,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each job is planned and run.")] = 3,
    as_json: AsJson = False,
) -> int:
    """Compare the hours of ssig plan with those of jobs.

    Three jobs are planned and run in turn. The exit code is 1 if a median ratio is not within 20 % of 1.
    """
    return _measure(context)


@app.command()
def host(
    context: typer.Context,
    rounds: Rounds = 3,
    size: Annotated[int, typer.Option(metavar="N", min=8, help="Height and width of the images.")] = 224,
    as_json: AsJson = False,
) -> int:
    """Measure what methods cost the host.

    The figures are of the thread that feeds the device.
    """
    return _measure(context)


@app.command()
def host_metrics(
    context: typer.Context,
    rounds: Rounds = 3,
    as_json: AsJson = False,
) -> int:
    """Measure what the host does beside a device.

    That is metrics, decoding, and threads that share Python's lock.
    """
    return _measure(context)


@app.command()
def gpu(
    tiny: Annotated[bool, typer.Option("--tiny", help="Run everything with toy sizes, also without a GPU.")] = False,
    seconds: Annotated[float, typer.Option(metavar="N", min=1, help="Seconds that it may take.")] = SECONDS,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for gpu.json and gpu.md.")] = Path("gpu"),
    only: Annotated[str | None, typer.Option(metavar="A,B", help="Run only these sections.")] = None,
) -> int:
    """Check and measure ssig on one GPU.

    Maps, metrics and draws are compared with those of the CPU, and speed with the bare gradient loop and Captum. The
    exit code is 1 if a measurement failed.
    """
    return run(tiny, seconds, out, only)


def _lines_of_scale(record: Mapping[str, Any], console: Console) -> None:
    from jobs.bench.scale import lines

    for line in lines(record):
        console.print(line, soft_wrap=True)


def _measure(context: typer.Context, shown: Callable[[Mapping[str, Any], Console], None] | None = None) -> int:
    """Runs `measure` of the command's module with the options that were given and prints its record.

    Args:
        context: of the command.
        shown: prints the record for a person; None for `show`.

    Returns:
        1 if the record is not `ok`, else 0.
    """
    from rich.console import Console

    options = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    as_json = options.pop("as_json")
    named = named_as_typed({"dataset.shards": "--shards"})
    with named, Console(stderr=True).status(f"measuring: {context.info_name}"):
        record = import_module(f"jobs.bench.{str(context.info_name).replace('-', '_')}").measure(**options)
    if as_json:
        print_json(record)
    else:
        (shown or show)(record, Console(highlight=False, markup=False))
    return 0 if record.get("ok", True) else 1


def show(record: Mapping[str, Any], console: Console) -> None:
    """Prints a record: a table for each list of mappings, a line for everything else."""
    from rich.table import Table

    for key, value in record.items():
        if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            table = Table(*value[0], box=None, pad_edge=False, header_style="bold")
            for row in value:
                table.add_row(*(text(cell, PROSE) for cell in row.values()))
            console.print(table)
        else:
            console.print(f"{key.replace('_', ' ')}: {text(value, PROSE)}")
