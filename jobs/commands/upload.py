"""What `ssig submit` uploads: the job file with paths of the cluster, and the Python files that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.job.choices import chosen
from pipeline.job.configuration import TEXTS, load_job
from pipeline.job.dataset import BESIDE_IMAGES
from pipeline.storage import yaml12
from ssig.errors import UsageError
from ssig.models.weight_files import is_weight_file
from ssig.registry.sources import FILE


def job_for_cluster(job_file: Path, working_dir: str | None) -> str:
    """The text of a job file, checked, with paths that a node of the cluster can open.

    It names Python files as if they lay beside it. `code_files` returns these files.

    Raises:
        UsageError: a wrong job, or a relative path and no folder to resolve it against.
    """
    if working_dir is not None and not _is_remote(working_dir):
        raise UsageError("--working-dir", working_dir, "an absolute path on the cluster, s3:// or gs://")
    load_job(job_file)
    values: dict[str, Any] = yaml12.load(job_file.read_text(encoding="utf-8"), TEXTS)

    def remote(field: str, path: str) -> str:
        if _is_remote(path):
            return path
        if working_dir is None:
            allowed = "a path that the cluster's nodes see: absolute, s3:// or gs://, or relative to --working-dir"
            raise UsageError(field, path, allowed)
        return f"{working_dir.rstrip('/')}/{path}"

    dataset, output, model = values["dataset"], values["output"], values.get("model", {})
    shards = dataset.get("shards", [])
    shards = [shards] if isinstance(shards, str) else shards
    if shards:
        dataset["shards"] = [remote("dataset.shards", shard) for shard in shards]
    for name in {"images", *BESIDE_IMAGES} & dataset.keys():
        if dataset[name] is not None:
            dataset[name] = remote(f"dataset.{name}", dataset[name])
    output["path"] = remote("output.path", output["path"])
    if is_weight_file(str(model.get("weights"))):
        model["weights"] = remote("model.weights", model["weights"])
    for owner, file in _named_files(values):
        owner["name"] = f"./{Path(file['path']).name}:{file['name']}"
    return yaml12.dump(values, sort_keys=False, allow_unicode=True)


def code_files(job_file: Path) -> list[Path]:
    """The Python files that a job file names as methods, metrics or network.

    Raises:
        UsageError: two files have the same name.
    """
    values: dict[str, Any] = yaml12.load(job_file.read_text(encoding="utf-8"), TEXTS)
    paths: dict[str, Path] = {}
    for _, file in _named_files(values):
        path = job_file.resolve().parent / Path(file["path"]).expanduser()
        if paths.setdefault(path.name, path) != path:
            raise UsageError("methods", str(path), f"files with different names; {paths[path.name]} has the same name")
    return list(paths.values())


def _named_files(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], re.Match[str]]]:
    """The networks, methods and metrics of a job that come from a file, each with the match of `FILE`."""
    for owner in (values.get("model", {}), *chosen(values, "methods"), *chosen(values, "metrics")):
        file = FILE.fullmatch(str(owner.get("name")))
        if file is not None:
            yield owner, file


def _is_remote(path: str) -> bool:
    # The node resolves ~ to its own home.
    return "://" in path or PurePosixPath(path).is_absolute() or PurePosixPath(path).parts[:1] == ("~",)
