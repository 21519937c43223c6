"""The labels of a run: a model and a method under two names, each pair with its recorded configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.run.earlier import completed
from pipeline.run.layout import EVALUATION_RECORDS, EVALUATIONS, config_name, is_evaluation_config
from pipeline.run.records import RefusedError, read_json
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json

# What workers that evaluate need of the configuration of the run's label.
OF_THE_RUN = ("model", "method", "maps", "channels", "categories", "model_file")
# Fields of a label's configuration that others count on, and what each is; a hand may have edited them.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "schema_version": (int,),
    **dict.fromkeys(("model_label", "method_label", "fingerprint", "maps"), (str,)),
    **dict.fromkeys(("dataset", "model", "method", "metrics"), (dict,)),
    **{"seed": (int,), "channels": (bool,), "categories": (list,), "model.name": (str,), "model.input_size": (list,)},
    **{"model.target": (str, int), "method.name": (str,), "method.options": (dict,)},
}
# Those that runs of schema 1 have not.
_KINDS_SINCE_2: Mapping[str, tuple[type, ...]] = {
    **{"columns": (list,), "position": (int,), "batch": (str,), "warnings": (list,)},
    **{"revisions.method": (int,), "revisions.metrics": (dict,), "revisions.preparation": (int,)},
}


@dataclass(frozen=True)
class Label:
    """One model-and-method label of a run, with its recorded configuration; `evaluation`: of metrics added later."""

    model: str
    method: str
    config: Mapping[str, Any]
    evaluation: str | None = None

    @property
    def fingerprint(self) -> str:
        return str(self.config["fingerprint"])

    @property
    def version(self) -> int:
        """The schema of its run."""
        return int(self.config["schema_version"])


def with_all_options(label: Label) -> Label:
    """The label with a value for each option, also for those that came up after it was recorded."""
    return replace(label, config=completed(label.config))


def recorded_labels(storage: Storage) -> list[Label]:
    """Every label of a run, in order of name."""
    labels = []
    for entry in storage.list("config"):
        config = read_json(storage, entry.name)
        fault = config_fault(config, whole=True)
        if fault is not None:
            raise RefusedError(f"{storage.root}/{entry.name}: {fault}; this is no configuration of ours")
        labels.append(Label(config["model_label"], config["method_label"], config))
    return labels


def config_fault(config: Mapping[str, Any], *, whole: bool) -> str | None:
    """What of a label's configuration is not as it is written; None if nothing is.

    Args:
        config: the configuration.
        whole: whether a field that is not there is a fault.
    """
    expected = _KINDS if config.get("schema_version") == 1 else {**_KINDS, **_KINDS_SINCE_2}
    for field, kinds in expected.items():
        group, _, name = field.rpartition(".")
        owner = config.get(group, {}) if group else config
        if name not in owner:
            if whole:
                return f"no field {field!r}"
        elif not isinstance(owner[name], kinds):
            return f"{field} is {to_json(owner[name])[:60]}"
    strange = [name for name, options in config.get("metrics", {}).items() if not isinstance(options, dict)]
    return f"metrics.{strange[0]} has no options" if strange else None


def evaluation_label(base: Label, recorded: Mapping[str, Any]) -> Label:
    """The label of an evaluation: what workers need of the run's configuration with what is recorded of its own."""
    of_the_run = {name: base.config[name] for name in OF_THE_RUN if name in base.config}
    return Label(base.model, base.method, {**of_the_run, **recorded}, recorded["evaluation"])


def recorded_evaluations(storage: Storage, bases: Iterable[Label]) -> Iterator[Label]:
    """The labels of every evaluation of a run, in order of name.

    Args:
        storage: the run.
        bases: its own labels.

    Raises:
        RefusedError: a configuration that is not of ours, or of a label that the run does not have.
    """
    known = {(base.model, base.method): base for base in bases}
    for entry in (*storage.list(EVALUATIONS), *storage.list(EVALUATION_RECORDS)):
        if not is_evaluation_config(entry.name):
            continue
        recorded = read_json(storage, entry.name)
        try:
            label = evaluation_label(known[recorded["model_label"], recorded["method_label"]], recorded)
            if (fault := config_fault(label.config, whole=False)) is not None:
                raise RefusedError(f"{storage.root}/{entry.name}: {fault}; this is no evaluation of the run")
            own_name = config_name(label.model, label.method, label.evaluation, label.version)
            missing = None if entry.name == own_name else "name of ours"
            if label.version > 1 and not isinstance(label.config["columns"], list):
                missing = "list of columns"
        except (KeyError, TypeError, ValueError) as error:
            missing = str(error)
        if missing is not None:
            raise RefusedError(f"{storage.root}/{entry.name}: no {missing}; this is no evaluation of the run")
        yield label
