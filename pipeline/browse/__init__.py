"""`ssig browse`: runs as local web pages, read from their Parquet files and shards; nothing is copied or changed.

A DuckDB index of all numbers is built once and kept in a cache folder. Photographs and maps are rendered when a page
asks for them, from byte ranges of shards and row groups of tables.
"""
