"""What a run directory is: its files, their names and records, and who may write them."""
