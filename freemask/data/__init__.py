"""Data sets: images, masks and classes; fetched, paired, checked, resized."""
