"""One unit of work, without a cluster: read, decode, attribute, measure, write, commit."""
