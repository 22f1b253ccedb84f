"""Code that depends on Snakemake and the repository's layout; no stage imports it."""
