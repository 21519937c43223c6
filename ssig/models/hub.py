"""Pretrained weights, downloaded or from the cache, or one clear error within seconds.

Without this module the hub's client retries an unreachable host for most of a minute. And the libraries unpickle
cached files, whose hash is checked only at the download: torchvision always, timm if reading tensors raises a
`TypeError`.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch

from ssig.errors import ModelError, one_line
from ssig.models import checkpoint

PROBE_SECONDS = 5.0
# torch's environment variables for `torch.load`. The second may be set by a user and contradicts the first.
TENSORS_ONLY, ANYTHING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def reachable(url: str) -> bool:
    """Whether a server answers at a URL; proxies of the environment are used."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        # A new opener reads the proxies from the environment, unlike the global one.
        urllib.request.build_opener().open(request, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


def cached(url: str) -> bool:
    """Whether `torch.hub` has already downloaded this file."""
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name).is_file()


@contextmanager
def fetching(what: str, url: str | None = None) -> Iterator[None]:
    """A context for loading pretrained weights with timm or torchvision, without running code in them.

    Args:
        what: the model as the user named it.
        url: the file that `torch.hub` would download; None if the body uses the Hugging Face hub.

    Raises:
        ModelError: instead of any error in the body.
    """
    try:
        with _tensors_only():
            if url is None:
                with _cache_only_if_unreachable():
                    yield
                return
            if not cached(url) and not reachable(url):
                raise ConnectionError(f"no answer from {url}")
            yield
    except Exception as error:  # sockets, HTTP, cache, damaged files: each library has its own
        raise ModelError(
            f"{what}: pretrained weights could not be loaded ({_reason(error)}); "
            "without them, give a local checkpoint as weights, or weights: random"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):
        return f"the file {checkpoint.complaint(error)}"
    return one_line(error)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Makes every `torch.load` of the process refuse code, since the libraries make these calls themselves."""
    saved = {name: os.environ.pop(name, None) for name in (TENSORS_ONLY, ANYTHING)}
    os.environ[TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _cache_only_if_unreachable() -> Iterator[None]:
    # Imported late, like timm: together they take seconds.
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
