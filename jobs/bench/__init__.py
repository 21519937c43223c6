"""Side-by-side benchmarks: the engine against its peers, in speed as ratios and in results as differences."""
