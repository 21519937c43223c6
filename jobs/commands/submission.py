"""What `ssig submit` sends beside the job: the runtime environment and what the driver reserves; all checked first."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.commands.upload import code_files, job_for_cluster
from pipeline.job.configuration import TEXTS
from pipeline.storage import yaml12
from pipeline.storage.base import is_url
from ssig.errors import UsageError
from ssig.registry.sources import FILE

# Names and paths of what is never sent; a pattern without a slash is compared with each part of a path.
EXCLUDED = (
    *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "*.pyc", ".env"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", "*.egg-info"),
    *(".gitignore", ".rayignore"),  # Ray would leave out what they name, perhaps the job itself
)
MOST_BYTES = 100 * 10**6  # of a folder of code; Ray itself takes 512 MiB
_NAMED = 3  # large files that an error names
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|k|M|G|T)(i?)B?", re.I)
_JOB_VARIABLE = "SSIG_JOB_TEXT"
# Folders that are each machine's own.
OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")


@dataclass(frozen=True)
class Submission:
    """What is sent with a job.

    Attributes:
        job_file: the job.
        working_dir: folder on the cluster that relative paths of the job start from.
        submission_id: name of the submission; Ray makes one where it is None.
        image: container image that driver and actors run in.
        pip: packages to install on the nodes, as `pip install` takes them, or one file with a package a line.
        upload: folder with modules of the user's own.
        exclude: patterns of files in it that are not sent, beside `EXCLUDED`.
        env: environment variables of driver and actors.
        metadata: notes on the submission, which the dashboard shows.
        num_cpus, num_gpus, memory: that the driver reserves; memory in bytes.
    """

    job_file: Path
    working_dir: str | None = None
    submission_id: str | None = None
    image: str | None = None
    pip: Sequence[str] = ()
    upload: Path | None = None
    exclude: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None

    @cached_property
    def text(self) -> str:
        """The job file as the cluster gets it, checked.

        Raises:
            UsageError: a wrong job, or a relative path without `working_dir`.
        """
        return job_for_cluster(self.job_file, self.working_dir)

    @property
    def values(self) -> Mapping[str, Any]:
        """The fields of the job file as the cluster gets it."""
        values: Mapping[str, Any] = yaml12.load(self.text, TEXTS)
        return values

    def check(self) -> list[str]:
        """Checks everything that can be known on this machine; what cannot be, a sentence each.

        Raises:
            UsageError: the job or something that is sent is wrong.
        """
        model = self.values.get("model", {}).get("name", "")  # a wrong job is refused first of all
        if self.submission_id is not None and not _ID.fullmatch(self.submission_id):
            allowed = "letters, digits, dots, dashes and underscores, at most 100"
            raise UsageError("--submission-id", self.submission_id, allowed)
        for name in self.env:
            if not _VARIABLE.fullmatch(name):
                raise UsageError("--env", name, "NAME=VALUE with the name of an environment variable")
        packages = self.packages()
        if self.image is not None:
            self._check_image(packages)
        elif self.upload is not None:
            files = list(self.files())
            taken = {self.job_file.name, *(path.name for path in code_files(self.job_file))}
            twice = next((str(path) for path, _ in files if str(path) in taken), None)
            if twice is not None and not (self.upload / twice).samefile(self.job_file.parent / twice):
                allowed = f"a folder without {twice}: a file of this name is sent with the job"
                raise UsageError("--upload", str(self.upload), allowed)
        return list(self._notes(str(model)))

    def packages(self) -> list[str]:
        """The packages to install, those of a file included.

        Raises:
            UsageError: a file that cannot be read, or a package of this machine's disk.
        """
        found: list[str] = []
        for text in self.pip:
            path = Path(text).expanduser()
            if path.suffix == ".txt" or path.is_file():
                found += _requirements(path)
            else:
                found.append(text)
        for package in found:
            if package.startswith(("-e", "--editable", ".", "/", "~", "file:")):
                allowed = "packages that the nodes can fetch; send a folder of your own with --upload FOLDER"
                raise UsageError("--pip", package, allowed)
        return found

    def files(self) -> Iterator[tuple[Path, int]]:
        """The files of `upload` that are sent: path in the folder, and bytes.

        Raises:
            UsageError: it is no folder, or too large.
        """
        if self.upload is None:
            return
        if not self.upload.is_dir():
            raise UsageError("--upload", str(self.upload), "a folder with your own modules")
        found = {path: (self.upload / path).stat().st_size for path in self._walk()}
        total = sum(found.values())
        if total > MOST_BYTES:
            largest = sorted(found, key=lambda path: found[path], reverse=True)[:_NAMED]
            named = ", ".join(f"{path} ({found[path] / 1e6:.0f} MB)" for path in largest)
            allowed = (
                f"code of at most {MOST_BYTES // 10**6} MB; the largest are {named}: leave out data and weights with "
                f"--exclude PATTERN, such as --exclude '*{largest[0].suffix or largest[0].name}'"
            )
            raise UsageError("--upload", f"{self.upload}, {total / 1e6:.0f} MB", allowed)
        yield from found.items()

    def write(self, folder: Path) -> None:
        """Writes what Ray uploads as the working folder of the driver: the job, its code, and the user's folder."""
        if self.upload is not None:
            for path, _ in self.files():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.upload / path, folder / path)
        for code in code_files(self.job_file):
            shutil.copyfile(code, folder / code.name)
        (folder / self.job_file.name).write_text(self.text, encoding="utf-8")

    def request(self, folder: Path, entrypoint: str | None = None) -> dict[str, Any]:
        """The arguments of Ray's `submit_job`.

        Args:
            folder: as `write` has left it.
            entrypoint: command to run in place of ``ssig attribute JOB.yaml``.
        """
        name, environment = shlex.quote(self.job_file.name), dict(self.env)
        command = entrypoint or f"ssig attribute {name}"
        runtime: dict[str, Any] = {}
        if self.image is None:
            runtime["working_dir"] = str(folder)
        else:
            # Ray uploads nothing into a container, so the job travels as a variable.
            runtime["image_uri"] = self.image
            environment[_JOB_VARIABLE] = self.text
            command = f'cd "$(mktemp -d)" && printf %s "${_JOB_VARIABLE}" > {name} && {command}'
        if packages := self.packages():
            runtime["pip"] = packages
        if environment:
            runtime["env_vars"] = environment
        return {
            "entrypoint": command,
            "runtime_env": runtime,
            "submission_id": self.submission_id,
            "metadata": dict(self.metadata) or None,
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory,
        }

    def _walk(self) -> Iterator[Path]:
        """Files of the folder that no pattern excludes, in order."""
        assert self.upload is not None
        patterns = (*EXCLUDED, *self.exclude)
        waiting = [self.upload]
        while waiting:
            for path in sorted(waiting.pop().iterdir()):
                inner = path.relative_to(self.upload)
                if any(fnmatch(path.name if "/" not in one else str(inner), one.rstrip("/")) for one in patterns):
                    continue
                if path.is_dir() and not path.is_symlink():
                    waiting.append(path)
                elif path.is_file():
                    yield inner

    def _check_image(self, packages: Sequence[str]) -> None:
        """Refuses what Ray cannot combine with an image."""
        files = [path.name for path in code_files(self.job_file)]
        for option, given in (("--pip", list(packages)), ("--upload", self.upload), ("methods", files)):
            if given:
                found = ", ".join(given) if isinstance(given, list) else str(given)
                raise UsageError(option, found, "nothing with --image: Ray adds no files and packages; put it there")

    def _notes(self, model: str) -> Iterator[str]:
        """What only the cluster can tell of the network's module."""
        from ssig.models.sources import runs_code  # imports torch

        if not runs_code(model) or FILE.fullmatch(model):
            return
        top = model.partition(":")[0].partition(".")[0]
        if self.upload is not None and _has_module(self.upload, top):
            return
        for folder in (Path.cwd(), self.job_file.resolve().parent):
            if _has_module(folder, top) and self.image is None:
                allowed = f"a module that is sent: type --upload {shlex.quote(str(folder))}"
                raise UsageError("model.name", model, allowed)
        yield f"{model}: the module {top} must be installed on the cluster; it is not sent"

    def on_nodes(self, nodes: int) -> str | None:
        """What is to be known of an output path on a disk; None for an object store, or one machine.

        Args:
            nodes: of the cluster; with one, every path is seen by all.

        Raises:
            UsageError: field ``output.path``; the folder is each machine's own, and there are several.
        """
        path = str(self.values["output"]["path"])
        if is_url(path) or nodes < 2:
            return None
        if any(path == folder or path.startswith(f"{folder}/") for folder in OWN_FOLDERS):
            shared = f"a place that all {nodes} nodes share: s3://, gs:// or a shared disk"
            raise UsageError("output.path", path, f"{shared}; this folder is each node's own")
        return f"output.path {path} must be on a disk that all {nodes} nodes share"


def variables(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping.

    Raises:
        UsageError: a text without a name or an equals sign.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(option, text, "NAME=VALUE")
        found[name] = value
    return found


def bytes_of(option: str, text: str | None) -> int | None:
    """Bytes of a size such as ``4GB``, ``512MiB`` or ``1000000``.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise UsageError(option, text, "a size above 0, such as 4GB or 512MiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** ("kmgt".index(match[2].lower()) + 1 if match[2] else 0))


def _requirements(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "--pip", str(path), f"a package, or a readable file with a package a line ({error})"
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _has_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
