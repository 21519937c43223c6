"""The labels of a run: a model and a method under two names, each pair with its recorded configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.run.canonical import fingerprint_of
from pipeline.run.differences import frozen_part
from pipeline.run.layout import (
    ATTRIBUTIONS,
    TABLES,
    batch_commit_name,
    commit_folder,
    commit_name,
    config_name,
    evaluation_folder,
    label_key,
    table_name,
)
from pipeline.run.records import (
    CommitRecord,
    EvaluationConfig,
    FirstLabelConfig,
    LabelConfig,
    RefusedError,
    WholeEvaluationConfig,
    WholeLabelConfig,
    fault,
)
from pipeline.storage.fields import SCHEMA_VERSION

# Fields of the run's configuration that workers need to measure added metrics.
OF_THE_RUN = ("model", "method", "maps", "channels", "categories", "model_file", "base_batch")
# Fields that tell which label a configuration is for. Readers of a run need no others.
NEEDED = ("model_label", "method_label", "fingerprint")
_NEEDED_LATER = (*NEEDED, "evaluation", "base", "metrics")


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
        return int(self.config.get("schema_version", SCHEMA_VERSION))

    @cached_property
    def settings(self) -> LabelConfig:
        """The configuration, by its fields."""
        return LabelConfig.model_validate(dict(self.config))

    @property
    def title(self) -> str:
        """The label for a person."""
        title = f"{self.model} / {self.method}"
        return title if self.evaluation is None else f"{title} / evaluation {self.evaluation}"

    @property
    def is_genuine(self) -> bool:
        """Whether its frozen fields give its fingerprint."""
        record = dict(self.config)
        if self.evaluation is not None:
            record = {field: value for field, value in record.items() if field not in OF_THE_RUN}
        return fingerprint_of(frozen_part(record)) == self.fingerprint

    def matches(self, commit: CommitRecord) -> bool:
        """Whether a commit is of this configuration."""
        return commit.fingerprint == self.fingerprint

    @property
    def config_name(self) -> str:
        """The file of its configuration."""
        return config_name(self.model, self.method, self.evaluation, self.version)

    @property
    def commits(self) -> str:
        """The folder of its commits."""
        return commit_folder(self.model, self.method, self.evaluation, self.version)

    def commit_name(self, unit: str) -> str:
        """The file that says that a unit is done under this label alone."""
        return commit_name(self.model, self.method, unit, self.evaluation, self.version)

    @property
    def batch(self) -> str | None:
        """The id of the labels that were recorded with this one; None where it is not recorded."""
        batch = self.config.get("batch")
        return batch if isinstance(batch, str) and batch else None

    def batch_commit_name(self, unit: str) -> str | None:
        """The file that says that a unit is done under all labels of its batch; None without a batch."""
        return None if self.batch is None else batch_commit_name(self.batch, unit, self.evaluation, self.version)

    def commit_names(self, unit: str) -> tuple[str, ...]:
        """The files of which any says that a unit is done under this label."""
        batch = self.batch_commit_name(unit)
        return (self.commit_name(unit),) if batch is None else (batch, self.commit_name(unit))

    def base_commit_names(self, unit: str) -> tuple[str, ...]:
        """Of an evaluation: the files of which any says that a unit is done in the run, so that it can be measured."""
        own, batch = commit_name(self.model, self.method, unit), self.config.get("base_batch")
        return (own,) if batch is None else (batch_commit_name(batch, unit), own)

    @property
    def key(self) -> str:
        """The label as one word, as commits of batches name it."""
        return label_key(self.model, self.method)

    @property
    def tables(self) -> tuple[str, ...]:
        """The folders of the tables that are committed together, without the label's own part."""
        return TABLES if self.evaluation is None else (evaluation_folder(self.evaluation),)

    def table_names(self, unit: str) -> dict[str, str]:
        """Folder -> the table of a unit in it."""
        return {table: table_name(table, self.model, self.method, unit) for table in self.tables}

    def attributions_name(self, unit: str) -> str:
        """The attributions of a unit: those that an evaluation measures, too."""
        return table_name(ATTRIBUTIONS, self.model, self.method, unit)


def run_label(config: Mapping[str, Any], *, whole: bool = True) -> Label:
    """The label of a configuration file.

    Args:
        config: what the file holds.
        whole: whether every field must be there, also those that a reader does not need.

    Raises:
        RefusedError: what is wrong with it; the message does not name the file.
    """
    kind = FirstLabelConfig if config.get("schema_version") == 1 else WholeLabelConfig
    if (wrong := fault(kind, config, None if whole else NEEDED)) is not None:
        raise RefusedError(f"{wrong}; not an ssig configuration")
    return Label(config["model_label"], config["method_label"], config)


def evaluation_label(base: Label, recorded: Mapping[str, Any]) -> Label:
    """The label of an evaluation: its record, and the fields of the run's configuration that workers need."""
    of_the_run = {name: base.config[name] for name in OF_THE_RUN if name in base.config}
    of_the_run["base_batch"] = base.batch
    return Label(base.model, base.method, {**of_the_run, **recorded}, recorded["evaluation"])


def check_evaluation(config: Mapping[str, Any], *, whole: bool = True) -> None:
    """Refuses a file that is no configuration of an evaluation; for the arguments see `run_label`.

    Raises:
        RefusedError: what is wrong with it; the message does not name the file.
    """
    needed: Collection[str] | None = None if whole else _NEEDED_LATER
    kind = EvaluationConfig if config.get("schema_version") == 1 else WholeEvaluationConfig
    if (wrong := fault(kind, config, needed)) is not None:
        raise RefusedError(f"{wrong}; this is no evaluation of the run")
