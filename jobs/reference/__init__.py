"""The pages of `docs/reference/`, made from what the code knows: `python -m jobs.reference` writes them."""
