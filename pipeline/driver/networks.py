"""The network of a job, and what a person is told of it before any work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.driver.progress import Listener, Progress
from ssig.models import Model, ModelWarning, load_model


@contextmanager
def quietly() -> Iterator[None]:
    """Has networks load in the body without warnings of Python: theirs are in `Model.warnings`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        yield


def load_network(
    name: str, weights: str | None, precision: str, listener: Listener, progress: Progress, **stated: Any
) -> Model:
    """Loads a network, and tells what images become on their way into it, and what is odd about it.

    Args:
        name, weights, precision: of the network.
        listener: is told.
        progress: what it is told beside.
        **stated: mean, std and input, where the job gives them.

    Raises:
        UsageError, ModelError: as `load_model` does.
    """
    progress.phase = f"loading {name}"
    listener(progress, None)
    with quietly():
        model = load_model(name, weights, precision=precision, **stated)
    listener(progress, model.describe_input())
    for warning in model.warnings:
        listener(progress, f"warning: {warning}")
    return model
