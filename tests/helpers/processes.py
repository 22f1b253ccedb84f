"""Processes of their own that fork from one in which the libraries are imported."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([
    "transformers", "freemask.generation.freestyle.loading", "freemask.generation.freestyle.training",
    "freemask.generation.shard", "freemask.segmentation.registered",
])  # fmt: skip
