"""How much a map says about its image, and how near its samples are to natural images."""
