"""Entries of the registries from what others write: plain functions, and specs that are checked."""
