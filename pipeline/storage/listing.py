"""A listing of a bucket that holds keys with empty parts, such as ``shards//a.tar``, which obstore cannot pass over.

obstore gives up a whole page of keys for one of them. Arrow's file systems read such pages; they take credentials,
region and endpoint from the same environment, and are used only where obstore has given up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pyarrow import fs

from pipeline.storage.object_client import Patience


def keys(scheme: str, bucket: str, prefix: str, patience: Patience) -> Iterator[str]:
    """The keys of files below a folder that can be addressed, in order; folder markers are none.

    Args:
        scheme: s3 or gs.
        bucket: its name.
        prefix: of the keys, without a slash at its end; empty for all.
        patience: how long to wait for the store.

    Raises:
        OSError: the store does not answer, or refuses.
    """
    system = _s3(patience) if scheme == "s3" else fs.GcsFileSystem()
    infos = system.get_file_info(fs.FileSelector(f"{bucket}/{prefix}".rstrip("/"), recursive=True))
    names = (info.path.partition("/")[2] for info in infos if info.type is fs.FileType.File)
    yield from sorted(name for name in names if not {"", ".", ".."} & set(name.split("/")))


def _s3(patience: Patience) -> fs.S3FileSystem:
    options: dict[str, Any] = {
        "connect_timeout": patience.connect_seconds,
        "request_timeout": patience.silence_seconds,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=patience.retries + 1),
    }
    if endpoint := _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        scheme, separator, address = endpoint.partition("://")
        options |= {"endpoint_override": address, "scheme": scheme} if separator else {"endpoint_override": endpoint}
    if region := _variable("AWS_REGION", "AWS_DEFAULT_REGION"):
        options["region"] = region
    if (_variable("AWS_SKIP_SIGNATURE") or "").lower() in ("1", "true"):
        options["anonymous"] = True
    return fs.S3FileSystem(**options)


def _variable(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
