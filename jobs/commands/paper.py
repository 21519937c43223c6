"""`ssig paper`: figures for the three claims of the paper, with their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.wrong_use import named_as_typed
from ssig.errors import UsageError

TARGETS = ("predicted", "label")
FEATURES = ("penultimate", "logits")


def paper(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder to write the figures, claims.json and claims.md to.")
    ],
    shards: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Shards (default: SSIG_DEV_SHARDS, or the bundled photographs)."),
    ] = None,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Use the first N images.")] = 200,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Network: timm:NAME, torchvision:NAME or module:callable.")
    ] = "efficientnet-lite0",
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="Weights: a name, 'random', or a checkpoint file.")
    ] = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="Class to explain: predicted or label.")] = "predicted",
    features: Annotated[
        str, typer.Option(metavar="NAME", help="Features to measure alignment in: penultimate or logits.")
    ] = "penultimate",
    samples: Annotated[int, typer.Option(metavar="N", min=2, help="Gradient evaluations per image.")] = 32,
    draws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Samples at each strength of the saturation curves.")
    ] = 4,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Measure and draw the three claims of the paper.

    They are certainty by method, alignment by sampler and saturation by strength.
    """
    for option, value, allowed in (("--target", target, TARGETS), ("--features", features, FEATURES)):
        if value not in allowed:
            raise UsageError(option, value, allowed)
    from pipeline.shards.patterns import expand

    with named_as_typed({"dataset.shards": "--shards"}):
        paths = expand(shards, Path.cwd()) if shards else []
    from rich.console import Console

    from jobs.bench.networks import development_shards
    from jobs.commands.printing import print_json
    from pipeline.driver.networks import load_network
    from pipeline.driver.progress import Progress
    from pipeline.paper.figures import write
    from pipeline.paper.measure import Settings, measure
    from pipeline.run.trust import import_from_working_folder
    from pipeline.shards.photographs import write_photographs
    from ssig.acceleration.ready_replica import ready_replica
    from ssig.engine.device import Device
    from ssig.models.sources import runs_code

    out = out.expanduser()
    paths = paths or development_shards()
    if not paths:
        with named_as_typed({"out": "--out"}):
            paths = [str(write_photographs(out))]
    if runs_code(model):
        import_from_working_folder(str(out), model)
    settings = Settings(samples=samples, draws=draws, seed=seed, target=target, features=features)
    with Console(stderr=True).status("loading") as status:

        def say(progress: Progress, text: str | None) -> None:
            if text:
                status.console.print(text)

        network = load_network(model, weights, "fp32", say, Progress())
        device = Device(ready_replica(network))
        images_done = 0

        def advance(count: int) -> None:
            nonlocal images_done
            images_done += count
            status.update(f"{images_done} of {images} images")

        try:
            record = measure(device, network, paths, images, settings, advance)
        finally:
            device.close()
        files = write(record, out)
    if as_json:
        return print_json(record)
    print(*files, sep="\n")
    return 0
