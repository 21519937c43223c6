"""Shards in, Parquet out: the dataset-wide pipeline around the methods and metrics of `ssig`."""
