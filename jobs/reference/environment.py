"""The environment variables that ssig reads, in one place: `docs/reference/environment.md` is made from this list.

Variables that ssig only passes on, or that only its tests read, are not listed.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.bench.networks import DEVELOPMENT_SHARDS
from jobs.cli import TRACEBACK
from ssig.metrics.information.processes import METRIC_PROCESSES


@dataclass(frozen=True)
class Variable:
    """An environment variable.

    Attributes:
        name: as it is typed; several of one meaning are separated by commas; `…` stands for any ending.
        default: what holds where it is not set.
        doc: what it does.
    """

    name: str
    default: str
    doc: str


# Those with `STORAGE_PREFIX` stand with their defaults in `pipeline.storage.object_client.Patience`.
VARIABLES: dict[str, tuple[Variable, ...]] = {
    "ssig": (
        Variable(TRACEBACK, "unset", "any value: an unexpected error shows where it happened"),
        Variable(
            METRIC_PROCESSES,
            "none on the CPU; in an actor with a GPU, one for each core but one",
            "number of worker processes for the metrics `aic` and `sic`; 0 for none",
        ),
        Variable(
            DEVELOPMENT_SHARDS,
            "unset",
            "folder with ILSVRC2012 shards, which `ssig bench`, `ssig paper` and the tests use where no shards are "
            "named",
        ),
    ),
    "Ray": (
        Variable(
            "RAY_ADDRESS",
            "unset",
            "the cluster to join, or `auto` for that of this machine; unset or `local`, a command starts a Ray of its "
            "own. Ray sets it for submitted jobs",
        ),
        Variable("RAY_AUTH_TOKEN", "unset", "token of the cluster"),
        Variable("RAY_AUTH_TOKEN_PATH", "`~/.ray/auth_token`", "file that holds the token"),
        Variable("RAY_AUTH_MODE", "`token`", "`token` or `disabled`: whether Ray asks for a token"),
        Variable(
            "RAY_TMPDIR, TMPDIR",
            "`/tmp`",
            "folder of Ray's sockets and logs: a short path that can be written. The report keeps its numbers in "
            "files in `TMPDIR`, 4 bytes for each image, method and column. Every command that reads whole commits "
            "keeps them there too, 1 kB for each unit and method. In a folder on a disk, they take no memory",
        ),
    ),
    "Object stores": (
        Variable(
            "AWS_…, GOOGLE_…",
            "unset",
            "credentials, region, endpoint and connection of `s3://` and `gs://`, as the library obstore documents "
            "them, such as `AWS_REGION`. They are never taken from a URL",
        ),
        Variable("AWS_ENDPOINT_URL", "unset", "address of a store other than Amazon's that speaks S3"),
        Variable("AWS_SKIP_SIGNATURE", "unset", "`true`: read public data without credentials"),
    ),
    "Files and memory": (
        Variable(
            "XDG_CACHE_HOME",
            "`~/.cache`",
            "its folder `ssig` holds measured batch sizes and the indexes of `ssig browse`",
        ),
        Variable(
            "LD_PRELOAD",
            "unset",
            "set to anything, even to nothing: actors on the CPU do not load jemalloc, which Ray brings",
        ),
        Variable("MALLOC_CONF", "unset", "settings of jemalloc in these actors, in place of ssig's"),
        Variable(
            "http_proxy, https_proxy, all_proxy",
            "unset",
            "proxies. Requests to this machine never go through them: ssig adds it to `no_proxy`",
        ),
    ),
}
