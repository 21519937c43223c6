"""Loads the network of a job, and reports what a person should know of it before any work."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.driver.progress import Listener, Progress
from pipeline.job.configuration import Job
from pipeline.run.layout import config_name
from pipeline.storage.base import Storage
from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.models import Model, ModelWarning, load_model


@contextmanager
def quietly() -> Iterator[None]:
    """Suppresses `ModelWarning` while a network loads: `Model.warnings` holds the messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        yield


def load_network(
    name: str, weights: str | None, precision: str, listener: Listener, progress: Progress, **stated: Any
) -> Model:
    """Loads a network, and reports how it prepares images, and its warnings.

    Args:
        name, weights, precision: of the network.
        listener: receives the messages.
        progress: the state that the listener receives.
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


def try_methods(job: Job, storage: Storage, model: Model) -> None:
    """Tries each method that the run has no configuration of on one point, on this machine.

    Raises:
        UsageError: the network lacks what a method needs, such as a layer.
        ModelError: the network cannot be explained.
    """
    # In full precision, which every CPU has: what a method needs of a network does not depend on it.
    plain = copy.copy(model)
    plain.precision = "fp32"
    replica = Replica(plain, device="cpu", micro_batch=1)
    for choice in job.methods:
        if storage.entry(config_name(job.model_label, choice.title)) is None:
            field = f"methods.{choice.title}"
            try_method(choice.spec, choice.parsed(), replica, model.input_size, job.model.score, field=field)
