"""Folders in which the commands of the documents are given: a few tiny images, shards, networks and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from documents import ROOT, blocks
from PIL import Image
from tests_shards import CLASSES, jpeg, members, write_tar


def photographs(folder: Path) -> None:
    """`birds` with a folder for each class, and `photos`."""
    for number, name in enumerate(("birds/owl/1", "birds/tit/2", "photos/1", "photos/2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(jpeg(number))


def shards(folder: Path) -> None:
    (folder / "shards").mkdir()
    write_tar(folder / "shards" / "a.tar", members(0, 3))
    (folder / "mynet.py").write_text("from networks import tiny as network\n")


def ilsvrc(folder: Path) -> None:
    """What the archive of ILSVRC's validation images holds, of four images."""
    synsets = [f"n{number:08d} class {number}" for number in range(CLASSES)]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(synsets) + "\n")
    (folder / "ILSVRC2012_img_val").mkdir()
    lines = ["ImageId,PredictionString"]
    for number in range(4):
        name = f"ILSVRC2012_val_{number + 1:08d}"
        (folder / "ILSVRC2012_img_val" / f"{name}.JPEG").write_bytes(jpeg(number))
        lines.append(f"{name},n{number:08d} 8 6 30 32")
    (folder / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")


def own_network(folder: Path) -> None:
    """The page's own network in `mynet.py`, and its weights in `birds.pt`."""
    import torch

    photographs(folder)
    first = next(block for block in blocks(ROOT / "docs" / "how-to" / "own-network.md") if block.language == "python")
    (folder / "mynet.py").write_text(first.text)
    namespace: dict[str, Any] = {}
    exec(first.text, namespace)
    torch.save(namespace["network"]().state_dict(), folder / "birds.pt")


def own_method(folder: Path) -> None:
    shards(folder)
    first = next(block for block in blocks(ROOT / "docs" / "how-to" / "own-method.md") if block.language == "python")
    (folder / "mine.py").write_text(first.text)


def two_runs(folder: Path) -> None:
    """`runs/demo` with an evaluation, and `runs/after`: six images under two methods each."""
    from small_runs import do_units

    from pipeline.driver.added_metrics import add_metrics
    from pipeline.job.configuration import load_evaluation, load_job

    shard = write_tar(folder / "a.tar", members(0, 6))
    for name, samples in (("demo", 4), ("after", 8)):
        fields = {
            "dataset.shards": [str(shard)],
            "model.name": "networks:tiny",
            "model.label": "efficientnet-lite0",
            "methods": [{"name": "ssig", "samples": samples}, {"name": "ig", "steps": 4}, "random"],
            "metrics": [{"name": "insertion", "steps": 4}, {"name": "deletion", "steps": 4}],
            "output.path": str(folder / "runs" / name),
        }
        do_units(load_job(None, fields))
    evaluation = load_evaluation({"metrics": ["gini"], "actors.executor": "local", "trust": "networks:tiny"})
    add_metrics(str(folder / "runs" / "demo"), evaluation, lambda progress, text: None)


def cat(folder: Path) -> None:
    import skimage

    Image.fromarray(skimage.data.chelsea()).save(folder / "cat.jpg")
    photographs(folder)


# Page -> what lies in the folder that its commands are given in.
RUN: dict[str, Callable[[Path], None]] = {
    "README.md": cat,
    "docs/quickstart.md": photographs,
    "docs/how-to/audit.md": two_runs,
    "docs/how-to/authors-code.md": shards,
    "docs/how-to/imagenet.md": ilsvrc,
    "docs/how-to/library.md": cat,
    "docs/how-to/own-method.md": own_method,
    "docs/how-to/own-network.md": own_network,
    "docs/run-format.md": two_runs,
}
