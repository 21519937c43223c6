"""`ssig compare`: two runs on the samples that both have."""
