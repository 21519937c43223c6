"""Shards: what they hold, how they are read and packed, and the manifest of a run."""
