"""Whether a class number means the same in the shards and in the network.

``classes.json`` beside shards lists their classes in the order of their numbers; `ssig pack` writes it. A folder of
eight classes is numbered 0 to 7, and so are the first eight of a network's thousand: where names are known on both
sides, number i must be the same class, by name or by WordNet id. Where one side has no names there is nothing to
compare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from pipeline.shards.names import CLASSES
from pipeline.storage import open_storage
from ssig.errors import UsageError
from ssig.models import ilsvrc

FILE = CLASSES
_FIELD = FILE
_LARGEST = 2**24  # bytes
_SHOWN = 3  # classes of a list
_WORKERS = 8
_NUMBERED = re.compile(r"(?:class|label)?[ _-]?0*(\d+)", re.IGNORECASE)  # "class 7", "LABEL_7", "7": no names
_PREFIXED = re.compile(r"(n\d{8}|\d+)[\W_]+(.+)")  # "n01440764_tench", "001.Albatross"
_WHAT_TO_DO = (
    "pack the folder again with --synsets FILE (line i begins with the network's class i), take a network of these "
    "classes (a callable's names them in `categories`), or explain what it predicts: --target predicted"
)


def check_classes(shards: Sequence[str], categories: Sequence[str], *, by_label: bool) -> list[str]:
    """Compares the classes beside shards with those of the network.

    Args:
        shards: paths or URLs.
        categories: the network's names of its classes, in order.
        by_label: whether the labels of the shards are the explained classes.

    Returns:
        what a person should know, one line each.

    Raises:
        UsageError: field ``classes.json``; numbers mean other classes, and labels are explained.
        OSError: an object store does not answer.
    """
    folders = sorted({shard.rpartition("/")[0] or "/" for shard in shards})
    with ThreadPoolExecutor(_WORKERS) as pool:
        classes_by_folder = dict(zip(folders, pool.map(_read_classes, folders), strict=True))
    strange = [folder for folder in folders if classes_by_folder[folder] == ()]
    notes = [f"{folder}/{FILE} is no list of names, so classes are not compared" for folder in strange]
    recorded = {f"{folder}/{FILE}": names for folder, names in classes_by_folder.items() if names}
    problem = _disagreement(recorded) or next(
        (fault for file, names in recorded.items() if (fault := _difference(file, names, categories)) is not None),
        None,
    )
    if problem is None:
        return notes
    if by_label:
        raise problem
    return [*notes, f"labels mean other classes than the network's, so no number of labels counts: {problem.found}"]


def are_numbers(categories: Sequence[str]) -> bool:
    """Whether a network's names of its classes are mere numbers: ``class 7`` for class 7."""
    return all(_is_number(category, number) for number, category in enumerate(categories))


def numbers_of(names: Sequence[str], categories: Sequence[str]) -> dict[str, int | None]:
    """The number of the network's class of each name; None where it has none of that name, or several."""
    exact = {category: number for number, category in enumerate(categories)}
    called: dict[str, list[int]] = {}
    for number, category in enumerate(categories):
        for name in _names_of(category, number if len(categories) == ilsvrc.CLASSES else None):
            called.setdefault(name, []).append(number)
    matches: dict[str, int | None] = {}
    for name in names:
        likely = {number for alias in _names_of(name, None) for number in called.get(alias, [])}
        if name.isdecimal() and int(name) < len(categories):
            likely.add(int(name))
        same = [number for number in likely if _same(name, categories[number], number, len(categories))]
        matches[name] = exact.get(name, same[0] if len(same) == 1 else None)
    return matches


def _read_classes(folder: str) -> tuple[str, ...] | None:
    """The classes beside the shards of a folder: None without the file, () if it is something else."""
    storage = open_storage(folder)
    try:
        entry = storage.entry(FILE)
        if entry is None:
            return None
        return _names(json.loads(storage.read(FILE))) if entry.size <= _LARGEST else ()
    except (FileNotFoundError, PermissionError):  # some stores refuse to say that an object is missing
        return None
    except (ValueError, RecursionError):
        return ()


def _names(value: object) -> tuple[str, ...]:
    """Names by number: of a list, of name -> number, or of number -> name; () for anything else."""
    if isinstance(value, Mapping):
        if all(isinstance(number, int) for number in value.values()):
            value = {str(number): name for name, number in value.items()}
        in_order = [value.get(str(number)) for number in range(len(value))]
        value = ["_".join(map(str, name)) if isinstance(name, list) else name for name in in_order]
    is_names = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return tuple(value) if is_names else ()  # type: ignore[arg-type]


def _disagreement(recorded: Mapping[str, tuple[str, ...]]) -> UsageError | None:
    """Two folders that number their classes differently; one may have more of them than the other."""
    for (file, names), (longer_file, longer_names) in pairwise(
        sorted(recorded.items(), key=lambda item: len(item[1]))
    ):
        if longer_names[: len(names)] != names:
            shown = [f"{file}: {_beginning(names)}", f"{longer_file}: {_beginning(longer_names)}"]
            return UsageError(_FIELD, shown, "folders that number their classes alike, or runs of their own")
    return None


def _difference(file: str, names: Sequence[str], categories: Sequence[str]) -> UsageError | None:
    """The first number that means another class in the network, if there is one."""
    if are_numbers(categories):
        return None
    pairs = enumerate(zip(names, categories, strict=False))
    first = next((i for i, (name, category) in pairs if not _same(name, category, i, len(categories))), None)
    if first is None and len(names) <= len(categories):
        return None
    first = len(categories) if first is None else first
    category = repr(categories[first]) if first < len(categories) else "none"
    difference = f"{file}: {_beginning(names)}; class {first} is {names[first]!r} there, and {category} in the network"
    return UsageError(_FIELD, difference, f"the network's: {_beginning(categories)}. To mend it, {_WHAT_TO_DO}")


def _same(name: str, category: str, number: int, classes: int) -> bool:
    """Whether a name of the shards is that of the network's class `number`."""
    if name == category or name.isdecimal():
        return name == category or int(name) == number
    packed, network = _names_of(name, None), _names_of(category, number if classes == ilsvrc.CLASSES else None)
    by_id = [set(filter(ilsvrc.is_wnid, names)) for names in (packed, network)]
    return bool(by_id[0] & by_id[1] if all(by_id) else packed & network)


def _names_of(name: str, number: int | None) -> set[str]:
    """All names of a class. ILSVRC's class `number`, or that of a WordNet id, has ILSVRC's names too."""
    names = {name, *name.split(", ")}
    if match := _PREFIXED.fullmatch(name):
        names |= {match[2], *([match[1]] if ilsvrc.is_wnid(match[1]) else [])}
    wnid = next(filter(ilsvrc.is_wnid, names), None)
    number = ilsvrc.number_of(wnid) if wnid is not None else number
    plain = {_plain(alias) for alias in names}
    if number is not None and (aliases := {_plain(alias) for alias in ilsvrc.aliases(number)}) & plain:
        plain |= aliases
    return plain


def _plain(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


def _is_number(category: str, number: int) -> bool:
    match = _NUMBERED.fullmatch(category)
    return match is not None and int(match[1]) == number


def _beginning(names: Sequence[str]) -> str:
    shown = ", ".join(f"{number} {name[:40]}" for number, name in enumerate(names[:_SHOWN]))
    return f"{shown}{', …' if len(names) > _SHOWN else ''} ({len(names)} classes)"
