"""Pretrained weights from the network: fetched or from the cache, or one clear error, soon.

Without this the hub's client retries an unreachable host for most of a minute.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch

from ssig.errors import ModelError

PROBE_SECONDS = 5.0


def reachable(url: str) -> bool:
    """Whether anything answers there; proxies of the environment are used."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        # An opener of its own reads the proxies anew, unlike the global one.
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
    """For a body that loads pretrained weights of `what` through timm or torchvision.

    Args:
        what: the model as the user named it.
        url: the file that `torch.hub` would download; None where the body goes to the Hugging Face hub.

    Raises:
        ModelError: in place of anything that goes wrong in the body.
    """
    try:
        if url is None:
            with _cache_only_if_unreachable():
                yield
            return
        if not cached(url) and not reachable(url):
            raise ConnectionError(f"no answer from {url}")
        yield
    except Exception as error:  # sockets, HTTP, cache, damaged files: each library has its own
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{what}: pretrained weights could not be loaded ({type(error).__name__}: {reason}); "
            "without them, give a local checkpoint as weights, or weights: random"
        ) from error


@contextmanager
def _cache_only_if_unreachable() -> Iterator[None]:
    # Imported late, like timm, which depends on it: together they take seconds.
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
