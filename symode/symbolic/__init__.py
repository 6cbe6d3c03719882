"""The Graph with its sweeps, and the SymPy side that people read."""
