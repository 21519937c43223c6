"""A run as entries of an experiment tracker: MLflow or Weights & Biases, where they are installed.

There is an entry for the run, with its report as files, and below it one for each model and method: parameters are its
configuration, metrics the means of the report with their intervals and N.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.report.contents import ModelReport, Report, as_json, contents
from pipeline.report.reference import requested_reference
from pipeline.report.render import html, markdown
from pipeline.report.tables import tables
from pipeline.run.reader import Run
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError, UsageError, one_line

PROJECT = "ssig"
_LONGEST = 6000  # letters of a parameter of MLflow
_MOST_PARAMETERS, _MOST_METRICS = 100, 1000  # of one request to MLflow
_FOREIGN = re.compile(r"[^\w\-./ :]", re.ASCII)
_DIGEST, _PART = "ssig.digest", "ssig.part"
_WHOLE = "run"


@dataclass(frozen=True)
class TrackedMethod:
    """A model and method.

    Attributes:
        name: of the entry.
        parameters: dotted name -> value.
        metrics: ``COLUMN/mean``, ``COLUMN/low``, ``COLUMN/high`` and ``COLUMN/n`` -> number.
        leads: the columns that the method leads.
    """

    name: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    leads: tuple[str, ...]


@dataclass(frozen=True)
class Logged:
    """What is logged.

    Attributes:
        name: of the run.
        identity: the same for equal runs and references.
        methods: one for each model and method.
    """

    name: str
    identity: str
    methods: Sequence[TrackedMethod]


def package(name: str) -> Any:
    """The package of a tracker, which has the name of its extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        allowed = f"an installation with {name}; type, in the source folder: pip install '.[{name}]'"
        raise UsageError("--as", name, allowed, known=()) from None


def log(run: Run, tracker: str, to: str | None, project: str, tell: Callable[[str], None], *, again: bool) -> str:
    """Logs a run, and returns where.

    Args:
        tracker: ``mlflow`` or ``wandb``.
        to: tracking URI of MLflow, folder of W&B; None for what the tracker itself takes.
        project: experiment of MLflow, project of W&B.
        tell: takes each note.
        again: whether what is logged already is logged again, in its place.

    Raises:
        UsageError: the tracker is not installed.
        SsigError: it refuses.
    """
    module = package(tracker)
    report = contents(run, requested_reference(run, None))
    name = PurePosixPath(run.root.rstrip("/")).name or "run"
    logged = Logged(name, f"{report.digest[:32]}-{report.reference or ''}", list(_methods(run, report)))
    with tempfile.TemporaryDirectory(prefix="ssig-") as folder, _refusals(tracker):
        files = Path(folder)
        write_report_files(run, report, files)
        write = {"mlflow": _log_mlflow, "wandb": _log_wandb}[tracker]
        return write(module, logged, files, (to, project, again), tell)


def write_report_files(run: Run, report: Report, folder: Path) -> None:
    """Writes the report as `ssig report` does, into a folder of its own."""
    (folder / "tables").mkdir()
    (folder / "index.html").write_text(html(run, report), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.json").write_text(to_json(as_json(report), indent=1) + "\n", encoding="utf-8")
    for name, text in tables(report).items():
        (folder / "tables" / name).write_text(text, encoding="utf-8")


def _methods(run: Run, report: Report) -> Iterator[TrackedMethod]:
    for model in report.models:
        for method in model.methods:
            config = run.config[model.model, method]
            parameters = {
                "dataset.samples": report.expected,
                "seed": run.document.get("seed"),
                **_flat("model", {name: value for name, value in config.get("model", {}).items() if name != "stated"}),
                **_flat("method", {"name": config["method"].get("name"), **config["method"].get("options", {})}),
                **_flat("metrics", config.get("metrics", {})),
            }
            name = method if len(report.models) == 1 else f"{model.model} / {method}"
            leads = tuple(lead.column.name for lead in model.leads if lead.leader == method)
            yield TrackedMethod(name, parameters, dict(_metrics(model, method)), leads)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """A nested mapping with dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {key: leaf for part, inner in value.items() for key, leaf in _flat(f"{name}.{part}", inner).items()}


def _metrics(model: ModelReport, method: str) -> Iterator[tuple[str, float]]:
    for column in (*model.headlines, *model.further):
        estimate = model.comparison.means[method][column.name]
        if estimate.mean is not None:
            ends = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": float(estimate.count)}
            yield from ((f"{column.name}/{end}", value) for end, value in ends.items() if value is not None)
    effort = next((effort for effort in model.efforts if effort.method == method), None)
    if effort is not None:
        if effort.gradient_evaluations is not None:
            yield "gradient_evaluations", effort.gradient_evaluations
        if effort.forwards:
            yield "forward_evaluations", effort.forwards
        yield from ((f"seconds/{phase}", seconds) for phase, seconds in effort.seconds.items())


@contextmanager
def _refusals(tracker: str) -> Iterator[None]:
    """Turns what a tracker raises into one line."""
    try:
        yield
    except SsigError:
        raise
    except Exception as error:
        raise SsigError(f"{tracker} refuses: {one_line(error)}") from error


def _log_mlflow(
    mlflow: Any, logged: Logged, files: Path, target: tuple[str | None, str, bool], tell: Callable[[str], None]
) -> str:
    to, project, again = target
    client = mlflow.MlflowClient(tracking_uri=to)
    experiment = client.get_experiment_by_name(project)
    number = client.create_experiment(project) if experiment is None else experiment.experiment_id
    where = f"{to or mlflow.get_tracking_uri()}, experiment {project}"
    wanted = f"tags.`{_DIGEST}` = '{logged.identity}' and attributes.status = 'FINISHED'"
    earlier = client.search_runs([number], filter_string=wanted, max_results=1000)
    whole = [each for each in earlier if each.data.tags.get(_PART) == _WHOLE]
    if whole and not again:
        tell("this run is logged already; --overwrite logs it again")
        return f"{where}, run {whole[0].info.run_id}"
    tags = {_DIGEST: logged.identity, _PART: _WHOLE}
    parent = client.create_run(number, run_name=logged.name, tags=tags).info.run_id
    try:
        client.log_artifacts(parent, str(files), "report")
        for method in logged.methods:
            _log_mlflow_method(client, mlflow.entities, number, parent, method, logged.identity)
    except BaseException:
        client.set_terminated(parent, "FAILED")
        raise
    client.set_terminated(parent)
    for each in earlier:
        client.delete_run(each.info.run_id)
    return f"{where}, run {parent}"


def _log_mlflow_method(
    client: Any, entities: Any, number: str, parent: str, method: TrackedMethod, identity: str
) -> None:
    tags = {_DIGEST: identity, _PART: "method", "mlflow.parentRunId": parent, "ssig.leads": ", ".join(method.leads)}
    run = client.create_run(number, run_name=method.name, tags=tags).info
    for chunk in _parts(method.parameters, _MOST_PARAMETERS):
        parameters = [entities.Param(_name(name), _shortened(value)) for name, value in chunk]
        client.log_batch(run.run_id, params=parameters)
    for some in _parts(method.metrics, _MOST_METRICS):
        metrics = [entities.Metric(_name(name), value, run.start_time, 0) for name, value in some]
        client.log_batch(run.run_id, metrics=metrics)
    client.set_terminated(run.run_id)


def _log_wandb(
    wandb: Any, logged: Logged, files: Path, target: tuple[str | None, str, bool], tell: Callable[[str], None]
) -> str:
    to, project, _ = target
    # The same ids again, so that what is logged already is replaced.
    shared = {"project": project, "group": logged.name, "dir": to, "resume": "allow", "reinit": "finish_previous"}
    settings = wandb.Settings(quiet=True)
    if to is not None:
        Path(to).mkdir(parents=True, exist_ok=True)
    for position, method in enumerate(logged.methods, 1):
        identity = f"{logged.identity[:24]}-{position}"
        with wandb.init(id=identity, name=method.name, job_type="method", settings=settings, **shared) as run:
            run.config.update(dict(method.parameters), allow_val_change=True)
            run.summary.update({**method.metrics, "leads": list(method.leads)})
    identity = f"{logged.identity[:24]}-0"
    with wandb.init(id=identity, name=logged.name, job_type="report", settings=settings, **shared) as run:
        artifact = wandb.Artifact(f"report-{_name(logged.name).replace(' ', '-')}", type="report")
        artifact.add_dir(str(files))
        run.log_artifact(artifact)
        return str(run.url or f"{run.dir} (offline; `wandb sync` sends it)")


def _parts(values: Mapping[str, Any], most: int) -> Iterator[Sequence[tuple[str, Any]]]:
    pairs = list(values.items())
    for start in range(0, len(pairs), most):
        yield pairs[start : start + most]


def _name(text: str) -> str:
    """A name that MLflow and W&B take."""
    return _FOREIGN.sub("_", text)


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else to_json(value, readable=True)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
