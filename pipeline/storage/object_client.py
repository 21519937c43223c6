"""The client of an object store: how long it waits, how often it tries again, and which errors it raises.

A request that fails for the moment (5xx such as 503 SlowDown, 429, a connection refused or dropped, a timeout) is sent
again after a pause that doubles from 0.1 to 15 s, with jitter; obstore does it for reads and plain puts,
`ObjectStorage` for the others. What fails for good is an `OSError` that names the object, so that the
unit it stopped is tried again and, at last, left undone. The environment sets the bounds: see `Patience`.

Credentials, region and endpoint come from the environment too, as obstore documents it (`AWS_…`, `GOOGLE_…`), never
from a URL; no error message repeats them.
"""

from __future__ import annotations

import functools
import math
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import MemoryStore, from_url

from ssig.errors import UsageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

STORAGE_PREFIX = "SSIG_STORAGE_"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0  # seconds
_LONGEST_TEXT = 500  # characters of an error
_CONNECTION = (
    *("allow_http", "allow_invalid_certificates", "http1_only", "http2_only", "pool_idle_timeout"),
    *("pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "randomize_addresses"),
    *("root_certificate", "user_agent"),
)
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def _bound(default: float, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try again; `variable` is the environment variable of a field."""

    connect_seconds: float = _bound(5, "seconds until a connection stands")
    silence_seconds: float = _bound(
        60, "seconds until the next bytes of a reply come; sending an object counts as silence"
    )
    request_seconds: float = _bound(300, "seconds of one request, from its first byte to the last of its reply")
    retries: int = _bound(10, "times that one request is sent again")
    retry_seconds: float = _bound(180, "seconds from the first sending of a request, after which it is not sent again")

    @classmethod
    def from_environment(cls) -> Patience:
        """The bounds that the environment sets, defaults for the others.

        Raises:
            UsageError: a variable is no number.
        """
        bounds = {
            bound.name: _number(variable, os.environ[variable], float if bound.type == "float" else int)
            for bound in fields(cls)
            if (variable := cls.variable(bound.name)) in os.environ
        }
        return cls(**bounds)

    @staticmethod
    def variable(name: str) -> str:
        """The environment variable of a field."""
        return STORAGE_PREFIX + name.upper()

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further try, with full jitter; none is left once `retry_seconds` are over."""
        end = time.monotonic() + self.retry_seconds
        longest = (min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE) for number in range(self.retries))
        return (random.uniform(0, pause) for pause in longest if time.monotonic() < end)


def _number(variable: str, text: str, kind: type[float] | type[int]) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = -1
    if not (0 <= number < math.inf and (number or kind is int)):
        raise UsageError(variable, text, "a number of seconds" if kind is float else "a whole number")
    return number


@functools.cache
def _memory(bucket: str) -> ObjectStore:
    return MemoryStore()


@functools.cache
def client(scheme: str, bucket: str, patience: Patience) -> ObjectStore:
    """The one client of a bucket and a patience in this process, so that connections and memory are shared."""
    if scheme == "memory":
        return _memory(bucket)
    settings: dict[str, Any] = {
        "client_options": {
            **_options(scheme),
            "connect_timeout": timedelta(seconds=patience.connect_seconds),
            "read_timeout": timedelta(seconds=patience.silence_seconds),
            "timeout": timedelta(seconds=patience.request_seconds),
        },
        "retry_config": {
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.retry_seconds),
            "backoff": {
                "init_backoff": timedelta(seconds=_FIRST_PAUSE),
                "max_backoff": timedelta(seconds=_LONGEST_PAUSE),
                "base": 2,
            },
        },
    }
    if scheme == "s3":  # one object is deleted at a time, and not every store that speaks S3 can do it in bulk
        settings["config"] = {"disable_bulk_delete": True}
    store: ObjectStore = from_url(f"{scheme}://{bucket}", **settings)
    return store


def _options(scheme: str) -> dict[str, Any]:
    """What the environment says of connections (`AWS_ALLOW_HTTP=true`): obstore reads it unless options are given."""
    prefix = {"s3": "AWS_", "gs": "GOOGLE_"}[scheme]
    return {name: os.environ[prefix + name.upper()] for name in _CONNECTION if prefix + name.upper() in os.environ}


class InvalidKeyError(OSError):
    """A key that the client cannot hold, such as one with an empty part."""


@contextmanager
def os_errors(url: str) -> Iterator[None]:
    """Turns obstore's errors into the `OSError`s that a disk would raise, each with the object's `url`."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such object") from None
    except AlreadyExistsError:
        raise FileExistsError(f"{url}: there is such an object") from None
    except InvalidPathError as error:
        raise InvalidKeyError(f"{url}: {reason_of(error)}") from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise PermissionError(f"{url}: {reason_of(error)}") from None
    except BaseError as error:
        kind = PermissionError if "status code: 403" in str(error) else OSError  # of a listing, it is generic
        raise kind(f"{url}: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """What an error of the store says, on one line and without credentials.

    Stores answer in XML that may repeat the request with the key that signed it: only code and message are kept.
    """
    text = str(error).partition("\n\nDebug source:")[0]
    head, _, answer = text.partition("<")
    matches = [re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message")]
    parts = [head if answer else text, *(match[1] for match in matches if match is not None)]
    line = re.sub(r"://[^/\s]*@", "://", " ".join(" ".join(parts).split()))
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        line = line.replace(secret, "***")
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 3]}..."
