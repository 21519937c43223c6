"""How far a map moves when its image or its random draws change."""
