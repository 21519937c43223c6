"""Checks of a run that is there: its audit, its repair, and how far it is."""
