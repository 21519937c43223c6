"""The Arrow schema of the manifest: one row for each sample that a run expects."""

from __future__ import annotations

import pyarrow as pa

from pipeline.shards.names import MANIFEST_FILE
from pipeline.storage.fields import SCHEMA_VERSION, field

FILE = MANIFEST_FILE
MANIFEST = pa.schema(
    [
        field("unit", pa.string(), "samples that are committed together: shard-start-stop", nullable=False),
        field("shard", pa.string(), "file name of the shard", nullable=False),
        field("index", pa.int32(), "number of the sample in its shard, from 0", nullable=False),
        field("key", pa.string(), "key of the sample in its shard", nullable=False),
        field("label", pa.int32(), "class that the shard gives; null without one"),
        field("status", pa.string(), "ok, truncated or duplicate: what reading the tar settled", nullable=False),
        field("error", pa.string(), "why the status is not ok"),
        field(
            "members",
            pa.list_(pa.struct([("extension", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])),
            "files of the sample: extension, and where their bytes lie in the shard",
            nullable=False,
        ),
    ],
    metadata={"ssig.table": "manifest", "ssig.schema_version": str(SCHEMA_VERSION)},
)
