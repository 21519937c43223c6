"""`ssig argument`: the paper's argument in three figures, with the numbers behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssig.errors import UsageError

TARGETS = ("predicted", "label")
FEATURES = ("penultimate", "logits")


def argument(
    out: Annotated[Path, typer.Option(help="Folder for figures, argument.json and argument.md.")],
    shards: Annotated[
        list[str] | None, typer.Option(help="Where images come from; else SSIG_DEV_SHARDS, photographs.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="The first so many samples.")] = 200,
    model: Annotated[str, typer.Option(help="timm:NAME, torchvision:NAME, module:callable, …")] = "efficientnet-lite0",
    weights: Annotated[str | None, typer.Option(help="Weights by name, 'random', or a checkpoint file.")] = None,
    target: Annotated[str, typer.Option(help="predicted or label.")] = "predicted",
    features: Annotated[str, typer.Option(help="Of alignment: penultimate or logits.")] = "penultimate",
    samples: Annotated[int, typer.Option(min=2, help="Gradients for each map.")] = 32,
    draws: Annotated[int, typer.Option(min=1, help="Samples at each strength of the saturation curves.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of all random draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> int:
    """Measure certainty by method, alignment by sampler and saturation by strength, and draw them."""
    from rich.console import Console

    from jobs.bench.networks import development_shards
    from jobs.commands.printing import print_json
    from pipeline.driver.networks import load_network
    from pipeline.driver.progress import Progress
    from pipeline.paper.figures import write
    from pipeline.paper.measure import Settings, measure
    from pipeline.run.trust import import_from_here
    from pipeline.shards.photographs import write_photographs
    from pipeline.shards.reading import expand
    from ssig.acceleration.ready_replica import ready_replica
    from ssig.engine.device import Device
    from ssig.models.sources import runs_code

    for option, given, allowed in (("--target", target, TARGETS), ("--features", features, FEATURES)):
        if given not in allowed:
            raise UsageError(option, given, allowed)
    out = out.expanduser()
    found = expand(shards, Path.cwd()) if shards else development_shards()
    if not found:
        out.mkdir(parents=True, exist_ok=True)
        found = [str(write_photographs(out))]
    if runs_code(model):
        import_from_here(str(out), model)
    settings = Settings(samples=samples, draws=draws, seed=seed, target=target, features=features)
    with Console(stderr=True).status("loading") as status:

        def say(progress: Progress, text: str | None) -> None:
            if text:
                status.console.print(text)

        network = load_network(model, weights, "fp32", say, Progress())
        device = Device(ready_replica(network))
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            status.update(f"{done} of {images} images")

        try:
            record = measure(device, network, found, images, settings, told)
        finally:
            device.close()
        files = write(record, out)
    if as_json:
        return print_json(record)
    print(*files, sep="\n")
    return 0
