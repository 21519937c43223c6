"""The command line and the submission to a cluster: parses, calls the pipeline, sets exit codes."""
