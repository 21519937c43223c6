"""The same network in less time: proved changes, layouts for the processor, and the fastest setting."""
