"""The job: one YAML file, every field overridable, validated whole before any work."""
