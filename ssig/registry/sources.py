"""Sources of methods, metrics and networks from outside ssig: a file, or an installed package.

    ./mine.py:my_method    a file, whose bytes are sent to every process that needs it
    captum:DeepLift        an attribution class of the package Captum, as a method
    my-method              an entry point of a distribution: groups `ssig.methods`, `ssig.metrics`, `ssig.models`

A source has an origin, which is recorded: the file's SHA-256, or the distribution's version. Two processes that load a
source of one origin run the same code; otherwise a `UsageError` is raised before any work.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.metadata
import importlib.util
import re
import socket
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ssig.errors import UsageError, one_line

Kind = Literal["method", "metric", "model"]
FILE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)", re.DOTALL)
CAPTUM = re.compile(r"captum:(?P<name>[A-Za-z_]\w*)")  # an attribution class of Captum, as a method
_LOCK = threading.RLock()


@dataclass(frozen=True)
class FileSource:
    """A name in a Python file.

    Attributes:
        kind: method, metric or model.
        path: of the file, as given by the user or the job.
        name: of the function, the spec or the network's callable in it.
        content: the file's bytes, which are run in every process; the file is not read again.
    """

    kind: Kind
    path: str
    name: str
    content: bytes = field(repr=False)

    @classmethod
    def named(cls, kind: Kind, text: str) -> FileSource | None:
        """The source named by ``FILE.py:NAME``, read now; None for text of another form.

        Raises:
            UsageError: the file cannot be read.
        """
        parts = FILE.fullmatch(text)
        if parts is None:
            return None
        try:
            content = Path(parts["path"]).expanduser().read_bytes()
        except OSError as error:
            raise UsageError(kind, text, f"a Python file that can be read ({error.strerror})") from None
        return cls(kind, parts["path"], parts["name"], content)

    @property
    def shown(self) -> str:
        return f"{self.path}:{self.name}"

    @property
    def hash(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def origin(self) -> dict[str, str]:
        """The recorded origin, a part of fingerprints. It lacks the folder, because a file may move."""
        return {"file": Path(self.path).name, "object": self.name, "sha256": self.hash}

    def load(self) -> Any:
        """The object of that name; the file runs once in each process.

        Raises:
            UsageError: the file fails to run, or defines no such name.
        """
        module = _module(self)
        if not hasattr(module, self.name):
            defined = [
                name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
            ]
            raise UsageError(self.kind, self.shown, defined or f"a name that {self.path} defines; it defines none")
        return getattr(module, self.name)


@dataclass(frozen=True)
class PluginSource:
    """An entry point of an installed distribution.

    Attributes:
        kind: method, metric or model.
        name: of the entry point.
        distribution, version: of the installed package.
        value: the entry point's ``module:object``.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    value: str

    @property
    def shown(self) -> str:
        return self.name

    @property
    def origin(self) -> dict[str, str]:
        """The recorded origin, a part of fingerprints."""
        return {"distribution": self.distribution, "version": self.version, "object": self.value}

    def load(self) -> Any:
        """The object of the entry point, imported now.

        Raises:
            UsageError: this process has another version or none, or the import fails.
        """
        package = f"{self.distribution} {self.version}"
        installed = plugin(self.kind, self.name)
        if installed != self:
            other = "no such plug-in" if installed is None else f"{installed.distribution} {installed.version}"
            allowed = f"{package} on every machine; {socket.gethostname()} has {other}: install the same version there"
            raise UsageError(self.kind, self.name, allowed)
        point = importlib.metadata.EntryPoint(self.name, self.value, group_of(self.kind))
        try:
            return point.load()
        except AttributeError as error:
            module = sys.modules.get(point.module)  # None where importing it failed
            defined = {} if module is None else vars(module)
            if CAPTUM.fullmatch(self.name) and defined and point.attr not in defined:
                known = [f"captum:{name}" for name, value in defined.items() if hasattr(value, "attribute")]
                raise UsageError(self.kind, self.name, f"a class of {point.module}", known=known) from None
            raise self._failed(error) from error
        except Exception as error:  # a module may raise anything
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> UsageError:
        package = f"{self.distribution} {self.version}"
        allowed = f"a {self.kind} that can be imported; importing it from {package} failed: {one_line(error)}"
        return UsageError(self.kind, self.name, allowed)


Source = FileSource | PluginSource


def group_of(kind: Kind) -> str:
    """The group of entry points for a kind."""
    return f"ssig.{kind}s"


def plugins(
    kind: Kind, unreadable: list[tuple[importlib.metadata.Distribution, Exception]] | None = None
) -> list[PluginSource]:
    """The plug-ins of installed distributions, from their metadata; nothing is imported.

    Args:
        kind: method, metric or model.
        unreadable: distributions with unreadable metadata are appended, with the error.
    """
    entries: list[PluginSource] = []
    names: set[str] = set()
    for package in importlib.metadata.distributions():
        try:
            # Most packages have no such group, and reading the metadata of all takes a quarter of a second.
            if group_of(kind) not in (package.read_text("entry_points.txt") or ""):
                continue
            name, version = package.metadata["Name"], package.version
            # If two versions are installed, Python imports the first on the path.
            shadowed = name.lower() in names or importlib.metadata.version(name) != version
            names.add(name.lower())
            points = () if shadowed else package.entry_points.select(group=group_of(kind))
            entries += [PluginSource(kind, point.name, name, version, point.value) for point in points]
        except Exception as error:  # foreign metadata may be invalid in any way
            if unreadable is not None:
                unreadable.append((package, error))
    return entries


def plugin(kind: Kind, name: str) -> PluginSource | None:
    """The plug-in of a name; None if no installed distribution has it.

    Raises:
        UsageError: several distributions have it, or it is a class of Captum, which is not installed.
    """
    if kind == "method" and (captum := CAPTUM.fullmatch(name)):
        return PluginSource(kind, name, "captum", _captum_version(name), f"captum.attr:{captum['name']}")
    matches = [source for source in plugins(kind) if source.name == name]
    if len(matches) > 1:
        owners = " and ".join(f"{source.distribution} {source.version}" for source in matches)
        raise UsageError(kind, name, f"a name of one installed package; {owners} both have it: uninstall one")
    return matches[0] if matches else None


def _captum_version(name: str) -> str:
    try:
        return importlib.metadata.version("captum")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError("method", name, "the package captum, not installed here: type pip install captum") from None


def activate(sources: Iterable[Source]) -> None:
    """Loads sources from another process in this one.

    Raises:
        UsageError: this process has another version, or the code fails.
    """
    from ssig.registry.entries import METHODS, METRICS  # imported late, because entries imports this module

    for source in sources:
        if source.kind == "model":
            source.load()
        else:
            (METHODS if source.kind == "method" else METRICS).adopt(source)


class _Content(importlib.abc.SourceLoader):
    """Runs the bytes of a source, and shows their lines in tracebacks."""

    def __init__(self, source: FileSource) -> None:
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return self._source.path

    def get_data(self, path: str) -> bytes:
        return self._source.content


def _module(source: FileSource) -> ModuleType:
    """The module of a file's content, run once.

    Its name contains the hash, so that its classes can be pickled to any process in which the source was loaded.
    """
    name = f"ssig_file_{source.hash[:16]}"
    with _LOCK:
        if name in sys.modules:
            return sys.modules[name]
        loader = _Content(source)
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except Exception as error:  # a file may raise anything
            del sys.modules[name]
            advice = "; only this file is sent to workers, so it may import installed packages only"
            hint = advice if isinstance(error, ImportError) else ""
            raise UsageError(source.kind, source.shown, f"a file that Python runs: {one_line(error)}{hint}") from error
        except BaseException:
            del sys.modules[name]
            raise
        return module
