"""Follows `deploy/Dockerfile` in a plain chroot of its base distribution, where there is no engine to build it.

`make check-image` runs it, as root: minutes, some 8 GB, and Debian's and Python's package indexes. It shows that each
RUN line works on the base distribution, and that the image's user can run what the image is for. It shows nothing
about layers, or about a GPU. Build arguments are given as for Docker: `image_in_chroot.py FOLDER
DEVICE=cpu CPU_INDEX=ADDRESS`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from dockerfile import arguments, copied, instructions  # noqa: E402

# What a container is for, as its user: (command, a word of its output).
CHECKS = (
    ("id -un", "ssig"),
    ("ssig methods", "smoothgrad"),
    ("bash --login -c 'ray --version && ssig --version'", "ray, version"),
    ("ray kuberay-autoscaler --help", "--cluster-name"),
    ("rsync --version && ssh -V && wget --version", "Wget"),
    ("ssig attribute --in-process --images photographs --target predicted --method ig:steps=4 --out run", "1 ok"),
)
MOUNTED = ("proc", "sys", "dev", "dev/shm")


def network() -> dict[str, str]:
    """This machine's settings for package indexes and proxies."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    kept.pop("PIP_FIND_LINKS", None)
    return kept


def bootstrap(base: str, root: Path) -> None:
    """A minimal system of the distribution that an image `debian:SUITE-slim` is made from."""
    name, _, suite = base.removesuffix("-slim").partition(":")
    assert name == "debian", base
    if (root / "etc" / "debian_version").exists():
        return
    subprocess.run(["debootstrap", "--variant=minbase", suite, str(root)], check=True)


def inside(root: Path, command: str, environment: dict[str, str], *, user: str = "0:0", folder: str = "/") -> str:
    """Runs a shell's line in the chroot and returns its output."""
    line = f"cd {folder} && {command}"
    done = subprocess.run(
        ["chroot", f"--userspec={user}", str(root), "/bin/sh", "-c", line],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


def copy(sources: list[str], target: str, root: Path) -> None:
    destination = root / target.lstrip("/")
    for source in (ROOT / name for name in sources):
        if source.is_dir():
            shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            continue
        place = destination / source.name if target.endswith("/") else destination
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def build(root: Path, given: dict[str, str]) -> None:
    """Follows the Dockerfile up to its end, and then does what the image is for."""
    steps = instructions(ROOT / "deploy" / "Dockerfile")
    values = arguments(steps) | given
    bootstrap(values["BASE"], root)
    environment = {**values, **network()}
    if certificates := environment.get("PIP_CERT"):
        shutil.copy(certificates, root / "opt" / "machine-certificates.crt")
        environment["PIP_CERT"] = "/opt/machine-certificates.crt"
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    user, folder = "0:0", "/"
    for step in steps:
        print(f"== {step.word} {step.rest[:100]}", flush=True)
        if step.word == "RUN":
            print(inside(root, step.rest, environment, user=user, folder=folder)[-400:])
        elif step.word == "COPY":
            copy(*copied([step])[0], root)
        elif step.word == "ENV":
            environment |= dict(pair.split("=", 1) for pair in step.rest.split())
        elif step.word == "USER":
            user = step.rest
        elif step.word == "WORKDIR":
            folder = step.rest
    photographs = root / folder.lstrip("/") / "photographs"
    inside(root, f"mkdir -p {folder}/photographs", environment, user=user)
    write_photograph(photographs / "1.png")
    for command, word in CHECKS:
        print(f"== {command}", flush=True)
        assert word in inside(root, command, environment, user=user, folder=folder), command


def write_photograph(path: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").convert("RGB").save(path)


def main() -> None:
    root, given = Path(sys.argv[1]).resolve() / "root", dict(pair.split("=", 1) for pair in sys.argv[2:])
    root.mkdir(parents=True, exist_ok=True)
    try:
        bootstrap(arguments(instructions(ROOT / "deploy" / "Dockerfile"))["BASE"], root)
        for name in MOUNTED:
            subprocess.run(["mount", "--bind", f"/{name}", str(root / name)], check=True)
        build(root, given)
    finally:
        for name in reversed(MOUNTED):
            subprocess.run(["umount", str(root / name)], stderr=subprocess.DEVNULL)
    print("every RUN line of deploy/Dockerfile works in a plain chroot of its base; no image was built")


if __name__ == "__main__":
    main()
