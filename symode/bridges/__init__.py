"""Bridges to other formats and frameworks; each needs its own extra."""
