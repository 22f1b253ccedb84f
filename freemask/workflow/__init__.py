"""What knows Snakemake and the layout of the repository; no stage imports it."""
