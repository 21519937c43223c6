"""`ssig bench gpu`: checks and measures ssig on one GPU within six minutes, without Ray and network access.

Each section is a module with a function `cases(session)`, which yields named measurements. `session.py` runs them,
each in a guard of its own, and saves the record after each; `card.py` judges the record by the targets.
"""
