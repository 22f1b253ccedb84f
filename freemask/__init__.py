"""freemask: stronger segmentors from images synthesized out of a data set's own masks (FreeMask, NeurIPS 2023)."""

__version__ = "0.1.0"
