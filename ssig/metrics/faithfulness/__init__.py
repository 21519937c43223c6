"""Whether the network reacts to the pixels that a map ranks high."""
