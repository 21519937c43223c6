"""YAML as people mean it: values by the core schema of YAML 1.2, and no key twice in a mapping.

    010 -> 10    0o10 -> 8    0x10 -> 16    1e-3 -> 0.001    on, 1:30, 1_000, 2026-01-31 -> text

PyYAML reads YAML 1.1, in which ``010`` is 8, ``on`` is true, ``1:30`` is 90 and ``1e-3`` is text. Anchors, aliases and
merge keys work as there. Source: YAML 1.2.2, section 10.3.2.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, ClassVar, TextIO

import yaml

YAMLError = yaml.YAMLError

_TAG = "tag:yaml.org,2002:"
# Kind of value -> what a plain scalar of it is, and the characters that it begins with.
_CORE = {
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


def load(text: str | TextIO, texts: Collection[str] = ()) -> Any:
    """The value of one YAML document; plain types alone, whatever its tags say.

    Args:
        text: the document, or an open file, whose name is then part of errors.
        texts: keys whose plain values are text as typed: ``label: 010`` is "010". One that is left empty, or null, is
            still None.

    Raises:
        YAMLError: no YAML, a key that a mapping has twice, with its line, or a value that Python cannot hold.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    loader = _Loader(text)
    loader.texts = frozenset(texts)
    try:
        return loader.get_single_data()
    except UnicodeDecodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:  # an integer of thousands of digits, `!!map 3`
        raise YAMLError(str(error)) from error
    finally:
        loader.dispose()


def dump(value: Any, **style: Any) -> str:
    """YAML that readers of either version take for `value`: what looks like a number to one of them is quoted."""
    text: str = yaml.dump(value, Dumper=_Dumper, **style)
    return text


def explained(error: Exception) -> str:
    """What is wrong with a text that `load` refused, on one line, in ssig's words where the form is wrong."""
    if isinstance(error, (yaml.scanner.ScannerError, yaml.parser.ParserError)) and error.problem_mark is not None:
        mark = error.problem_mark
        return (
            f"line {mark.line + 1}, column {mark.column + 1} does not fit what stands before: "
            "look for a bracket, a quote, a colon or spaces that are missing"
        )
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012
    # The core schema has no dates, sets and bytes, whatever a tag asks for.
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_TAG) in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    texts: frozenset[str] = frozenset()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Marks texts before the values are made."""
        for key, value in node.value:
            is_text = isinstance(key, yaml.ScalarNode) and key.value in self.texts
            if is_text and isinstance(value, yaml.ScalarNode) and value.tag != f"{_TAG}null":
                value.tag = f"{_TAG}str"
        return super().construct_mapping(node, deep)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a key that is given twice, before merge keys bring those of other mappings."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, object], yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            value = key.value if key.tag == f"{_TAG}merge" else self.construct_object(key)
            first_key = first.setdefault((key.tag, value), key)
            if first_key is not key:
                line = first_key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice, first in line {line} and again", key.start_mark
                )
        return node


class _Dumper(yaml.SafeDumper):
    pass  # its resolvers, those of YAML 1.1, get the core schema's on top


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text: str = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


def _real(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text: str = loader.construct_scalar(node)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


for _kind, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.add_constructor(f"{_TAG}float", _real)
