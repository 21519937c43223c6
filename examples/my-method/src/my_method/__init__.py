"""A method and a metric for ssig."""
