"""The engine: runs methods on a network, in micro-batches, on one device or several cores."""
