"""How much of the score is regained against the information that is shown."""
