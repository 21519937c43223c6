"""What a job will cost: its work as the registries know it, a short probe on a device, and what follows from both."""
