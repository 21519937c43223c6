"""The command line and the way to a cluster: parses, calls the pipeline, sets exit codes."""
