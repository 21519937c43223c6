"""`cluster.yaml`: Ray's own validator takes it, and, as that accepts nonsense too, all that it names exists."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from jobs.cli import app
from pipeline.job.configuration import load_job

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
SSIG = typer.main.get_command(app)

Config = dict[str, Any]

# Parameters of EC2's create_instances that a node may set; True where what is inside is not looked into.
NODE_CONFIG: Config = {
    "BlockDeviceMappings": {
        "DeviceName": True,
        "Ebs": {"VolumeSize": True, "VolumeType": True, "Iops": True, "Throughput": True, "Encrypted": True},
    },
    "IamInstanceProfile": {"Arn": True, "Name": True},
    "ImageId": True,
    "InstanceMarketOptions": {"MarketType": True, "SpotOptions": True},
    "InstanceType": True,
    "KeyName": True,
    "MetadataOptions": {"HttpTokens": True, "HttpPutResponseHopLimit": True, "HttpEndpoint": True},
    "NetworkInterfaces": True,
    "Placement": True,
    "SecurityGroupIds": True,
    "SubnetId": True,
    "TagSpecifications": True,
    "UserData": True,
}
# Instance type -> its cores and GPUs.
INSTANCES = {"m7i.xlarge": (4, 0), "g6.xlarge": (4, 1)}
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
# Made on the nodes by Ray.
MADE = ("~/ray_bootstrap_config.yaml",)
# What the image has on the PATH of a login shell, and what the machines have.
PROGRAMS = {"ray", "ssig", "cloud-init"}


def read() -> Config:
    config: Config = yaml.safe_load(TEXT)
    return config


def commands(config: Config) -> list[str]:
    return [command for key in COMMANDS for command in config.get(key, [])]


def unknown_keys(given: object, known: object, where: str) -> Iterator[str]:
    if isinstance(given, list):
        for item in given:
            yield from unknown_keys(item, known, where)
    elif isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key in known:
                yield from unknown_keys(value, known[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: no parameter of create_instances"


def wrong_nodes(config: Config) -> Iterator[str]:
    nodes = config["available_node_types"]
    if config["head_node_type"] not in nodes:
        yield f"{config['head_node_type']}: no such node type"
    for name, node in nodes.items():
        yield from unknown_keys(node["node_config"], NODE_CONFIG, name)
        cores, gpus = INSTANCES.get(node["node_config"]["InstanceType"], (None, None))
        resources = node["resources"]
        allowed = (0, cores) if name == config["head_node_type"] else (cores,)
        if resources.get("CPU") not in allowed or resources.get("GPU", 0) != gpus:
            yield f"{name}: {resources} is not what {node['node_config']['InstanceType']} has"
        if node.get("min_workers", 0) > node.get("max_workers", config["max_workers"]):
            yield f"{name}: min_workers above max_workers"


def wrong_paths(config: Config) -> Iterator[str]:
    mounts = config["file_mounts"]
    for command in commands(config):
        if command.split()[0] not in PROGRAMS:
            yield f"{command.split()[0]}: neither the image nor the machines have it"
        for path in re.findall(r"~/[\w./-]+", command):
            if not any(path.startswith(start) for start in (*mounts, *MADE)):
                yield f"{path}: nothing puts it there"
    token = {f"{home()}{remote.removeprefix('~')}/auth_token" for remote in mounts}
    if environment(config).get("RAY_AUTH_TOKEN_PATH") not in token:
        yield "RAY_AUTH_TOKEN_PATH: nothing puts the token there"


def home() -> str:
    """The home folder of the image's user."""
    (folder,) = re.findall(r"^ENV HOME=(\S+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    return str(folder)


def environment(config: Config, *more: str) -> dict[str, str]:
    """The variables that containers get."""
    options = [option for key in ("run_options", *more) for option in config["docker"][key]]
    given = [option.removeprefix("--env=").partition("=") for option in options if option.startswith("--env=")]
    return {name: value for name, _, value in given}


def unknown_options(program: Any, name: str, options: list[str]) -> Iterator[str]:
    """What a command line says that a program of click or typer does not know."""
    command = program.commands.get(name)
    if command is None:
        yield f"{name}: no such command"
        return
    known = {option for parameter in command.params for option in parameter.opts}
    yield from (f"{name} {option}: no such option" for option in options if option not in known)


def wrong_commands(config: Config, text: str) -> Iterator[str]:
    for command in commands(config):
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        if checked.returncode:
            yield f"{command}: {checked.stderr.strip()}"
    # Comments tell a person what to type: they are held to the same. A command ends with its line or a separator.
    lines = re.split(
        r"[\n;`]|&&|>|#  ", "\n".join(commands(config)) + "\n" + re.sub(r"^# *", "", text, flags=re.MULTILINE)
    )
    for line in lines:
        words = re.match(r"\s*(?:- )?(?:\S*/)?(ray|ssig) ([a-z][\w-]*)(.*)", line)
        if words is None:
            continue
        program, name, rest = words.groups()
        options = re.findall(r"--[a-z-]+", rest)
        yield from unknown_options(SSIG if program == "ssig" else ray_cli, name, options)


def wrong_security(config: Config, text: str) -> Iterator[str]:
    if environment(config).get("RAY_AUTH_MODE") != "token":
        yield "without a token anybody who reaches the port may run code"
    if "--dashboard-host=127.0.0.1" not in " ".join(config["head_start_ray_commands"]):
        yield "the dashboard listens beyond loopback"
    if "ssh_private_key" in config["auth"] or re.search(
        r"AKIA\w{12}|RAY_AUTH_TOKEN=|BEGIN [A-Z ]*PRIVATE|password", text
    ):
        yield "holds a secret"


def problems(config: Config, text: str = TEXT) -> list[str]:
    checks = (wrong_nodes(config), wrong_paths(config), wrong_commands(config, text), wrong_security(config, text))
    return [problem for check in checks for problem in check]


def test_rays_own_validator_takes_it() -> None:
    validate_config(prepare_config(read()))


def test_rays_own_validator_refuses_an_unknown_key_but_no_nonsense_in_a_node() -> None:
    config = read()
    config["available_node_types"]["worker"]["node_config"]["InstanceTyp"] = "nonsense"
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**config, "head_nod_type": "head"}))


def test_all_that_it_names_exists() -> None:
    assert problems(read()) == []


@pytest.mark.parametrize("node", ["head", "worker"])
def test_the_launchers_command_starts_a_shell_in_the_image(node: str) -> None:
    config = read()
    docker = config["docker"]
    options = [*docker["run_options"], *docker[f"{node}_run_options"]]
    line = docker_start_cmds(
        "ubuntu", docker["image"], config["file_mounts"], docker["container_name"], options, "ssig", home(), "docker"
    )
    words = shlex.split(line)
    assert words[-2:] == [docker["image"], "bash"]
    assert "--entrypoint=" in words  # else `bash` would be an argument of the image's entry point, ssig
    assert f"/tmp/ray_tmp_mount/ssig/~/token:{home()}/token" in words


def test_rays_own_validator_takes_the_lines_for_machines_of_ones_own() -> None:
    page = (ROOT / "docs" / "how-to" / "cluster" / "machines.md").read_text(encoding="utf-8")
    (lines,) = [text for text in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "local" in text]
    config = {**read(), **yaml.safe_load(lines)}
    (sentence,) = [line for line in page.splitlines() if "delete `" in line]
    for key in re.findall(r"`(\w+)`", sentence.partition("delete ")[2].partition(", and put")[0]):
        del config[key]
    prepared = prepare_config(config)
    validate_config(prepared)
    (workers,) = prepared["available_node_types"].values()
    assert workers["max_workers"] == len(config["provider"]["worker_ips"])


def in_worker(**changes: object) -> Callable[[Config], None]:
    return lambda config: config["available_node_types"]["worker"].update(changes)


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (lambda config: config["available_node_types"]["head"]["node_config"].update(InstanceTyp="x"), "InstanceTyp"),
        (
            lambda config: config["available_node_types"]["head"]["node_config"].update(
                BlockDeviceMappings=[{"Ebs": {"Size": 1}}]
            ),
            "Ebs.Size",
        ),
        (in_worker(resources={"CPU": 4, "GPU": 2}), "is not what"),
        (in_worker(min_workers=9), "min_workers"),
        (lambda config: config.update(head_node_type="master"), "master"),
        (lambda config: config.update(file_mounts={}), "RAY_AUTH_TOKEN_PATH"),
        (lambda config: config.update(setup_commands=["ray stop ~/elsewhere/x"]), "elsewhere"),
        (lambda config: config.update(setup_commands=["make install"]), "make: neither"),
        (lambda config: config.update(setup_commands=["if true; then"]), "syntax"),
        (lambda config: config.update(setup_commands=["ray start --haed"]), "--haed"),
        (lambda config: config.update(setup_commands=["ssig atribute"]), "atribute"),
        (lambda config: config["docker"].update(run_options=[]), "token"),
    ],
)
def test_a_planted_fault_is_found(break_it: Callable[[Config], None], word: str) -> None:
    config = read()
    break_it(config)
    assert any(word in problem for problem in problems(config))


def test_a_planted_fault_in_a_comment_is_found() -> None:
    assert "submitt: no such command" in problems(read(), TEXT + "\n#   ssig submitt job.yaml\n")


def test_the_example_job_is_a_job_and_shows_every_key() -> None:
    job = load_job(ROOT / "job.example.yaml")
    given = yaml.safe_load((ROOT / "job.example.yaml").read_text())
    assert list(given) == list(type(job).model_fields)
    for section in ("dataset", "model", "output", "actors"):
        assert list(given[section]) == list(type(getattr(job, section)).model_fields)
