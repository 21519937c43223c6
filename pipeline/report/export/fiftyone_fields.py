"""FiftyOne's records of a data set and its samples, as its own exporter writes them to JSON.

Source: `FiftyOneDatasetExporter` and `SampleFieldDocument` of FiftyOne 1.22 (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

# The oldest version that reads these records; a later one migrates them.
VERSION = "1.4.0"
Document = dict[str, Any]

_FIELDS, _LABELS = "fiftyone.core.fields", "fiftyone.core.labels"


def field(name: str, kind: str, description: str = "", **changes: Any) -> Document:
    """The record of a field.

    Args:
        kind: a class of `fiftyone.core.fields`, such as ``FloatField``.
        changes: other entries of the record.
    """
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{kind}",
        "embedded_doc_type": None,
        "subfield": None,
        "fields": [],
        "db_field": name,
        "description": description or None,
        "info": None,
        "read_only": False,
        "created_at": None,
        **changes,
    }


def label_field(name: str, label: str, description: str) -> Document:
    """The record of a field that holds a label: ``Classification``, ``Heatmap`` or ``Detections``."""
    fields = _OF_LABELS[label]
    return field(
        name,
        "EmbeddedDocumentField",
        description,
        embedded_doc_type=f"{_LABELS}.{label}",
        fields=[dict(each) for each in fields],
    )


_ID = field("id", "ObjectIdField", db_field="_id")
_TAGS = field("tags", "ListField", subfield=f"{_FIELDS}.StringField")
_CONFIDENCE = field("confidence", "FloatField")
_LABEL = field("label", "StringField")
_DETECTION = [
    _ID,
    _TAGS,
    field(
        "attributes",
        "DictField",
        embedded_doc_type=f"{_LABELS}.Attribute",
        subfield=f"{_FIELDS}.EmbeddedDocumentField",
    ),
    _LABEL,
    field("bounding_box", "ListField", subfield=f"{_FIELDS}.FloatField"),
    field("mask", "ArrayField"),
    field("mask_path", "StringField"),
    _CONFIDENCE,
    field("index", "IntField"),
]
_OF_LABELS: dict[str, list[Document]] = {
    "Classification": [_ID, _TAGS, _LABEL, _CONFIDENCE, field("logits", "VectorField")],
    "Heatmap": [
        _ID,
        _TAGS,
        field("map", "ArrayField"),
        field("map_path", "StringField"),
        field("range", "HeatmapRangeField", subfield=f"{_FIELDS}.FloatField"),
    ],
    "Detections": [
        field(
            "detections",
            "ListField",
            embedded_doc_type=f"{_LABELS}.Detection",
            subfield=f"{_FIELDS}.EmbeddedDocumentField",
            fields=_DETECTION,
        )
    ],
}
# The fields that every sample has.
_OF_SAMPLES = [
    _ID,
    field("filepath", "StringField"),
    _TAGS,
    field(
        "metadata",
        "EmbeddedDocumentField",
        embedded_doc_type="fiftyone.core.metadata.ImageMetadata",
        fields=[
            field("size_bytes", "IntField"),
            field("mime_type", "StringField"),
            field("width", "IntField"),
            field("height", "IntField"),
            field("num_channels", "IntField"),
        ],
    ),
    field("created_at", "DateTimeField", read_only=True),
    field("last_modified_at", "DateTimeField", read_only=True),
]


def dataset(name: str, fields: Iterable[Document], classes: Sequence[str], info: Document) -> Document:
    """What `metadata.json` holds.

    Args:
        name: of the data set.
        fields: those that its samples have beside the common ones.
        classes: names of the classes, in order.
        info: what else is known of it.
    """
    return {
        "name": name,
        "version": VERSION,
        "persistent": False,
        "media_type": "image",
        "group_media_types": {},
        "tags": [],
        "info": info,
        "app_config": {},
        "classes": {},
        "default_classes": list(classes),
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": [*_OF_SAMPLES, *fields],
        "frame_fields": [],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def sample(identity: str, filepath: str, tags: Sequence[str]) -> Document:
    """A sample without its own fields; `identity` gives its id, `filepath` is relative to the folder."""
    return {
        "_id": object_id(identity),
        "filepath": filepath,
        "tags": list(tags),
        "metadata": None,
        "_media_type": "image",
        "_rand": 0.999 + 0.001 * int(_digest(identity)[:8], 16) / 2**32,
    }


def classification(identity: str, label: str, confidence: float | None = None) -> Document:
    """A class with the probability that it was given."""
    record = {"_id": object_id(identity), "_cls": "Classification", "tags": [], "label": label}
    return record if confidence is None else {**record, "confidence": confidence}


def heatmap(identity: str, path: str) -> Document:
    """A map in a picture of 8 bits; `path` is relative to the folder."""
    return {"_id": object_id(identity), "_cls": "Heatmap", "tags": [], "map_path": path, "range": None}


def detections(identity: str, label: str, boxes: Sequence[Sequence[float]]) -> Document:
    """Boxes (left, top, width, height), as shares of the photograph."""
    return {
        "_cls": "Detections",
        "detections": [
            {
                "_id": object_id(f"{identity}/{number}"),
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": label,
                "bounding_box": list(box),
            }
            for number, box in enumerate(boxes)
        ],
    }


def object_id(identity: str) -> Document:
    """An id that is always the same for one identity."""
    return {"$oid": _digest(identity)[:24]}


def field_name(text: str) -> str:
    """A name that FiftyOne takes for a field: letters, digits and underscores, the first a letter."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "x"
    return name if name[0].isalpha() else f"x_{name}"


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
