"""The paper's claims, measured and drawn."""
