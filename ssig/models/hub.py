"""Pretrained weights from the network: fetched or from the cache, or one clear error, soon.

Without this the hub's client retries an unreachable host for most of a minute, and the libraries unpickle what lies in
a cache, whose hash is checked when it is downloaded and then no more: torchvision always, timm where reading it as
tensors failed with a `TypeError`.
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
# Of torch: what `torch.load` reads by, whatever its caller says. The second, set by a user, contradicts the first.
TENSORS_ONLY, ANYTHING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


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
    """For a body that loads pretrained weights of `what` through timm or torchvision; code in them is never run.

    Args:
        what: the model as the user named it.
        url: the file that `torch.hub` would download; None where the body goes to the Hugging Face hub.

    Raises:
        ModelError: in place of anything that goes wrong in the body.
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
    """Has every `torch.load` of the process refuse what is no tensor: the calls that load are the libraries' own."""
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
