"""The pages of `docs/reference/`, and the one on citing, made from what the code knows: `python -m jobs.reference` writes them."""
