"""Random numbers as a function of where a run is, not of what ran before."""

import random

import numpy as np
import torch


def seed_all(*entropy: int) -> None:
    """Seed Python's, numpy's and torch's generators from whole numbers (train seed, position, ...)."""
    seed = np.random.SeedSequence(entropy).generate_state(1).item()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - mmcv's transforms draw from numpy's global generator
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond: it notes the stack for CUDA
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
