"""The pages that are made from what the code knows: `python -m jobs.reference` writes them into `docs/`."""
