"""FreestyleNet as a generator: each word of the caption is visible to its class's pixels only."""

from collections.abc import Sequence

import numpy as np

from freemask.generation.freestyle.loading import load_pipeline
from freemask.generation.freestyle.pipeline import Prepared
from freemask.generation.generators import Generator


class FreestyleGenerator(Generator):
    """Generates with a FreestylePipeline."""

    load = staticmethod(load_pipeline)

    def prepare(self, masks: np.ndarray, mask_ids: Sequence[str], seeds: Sequence[int]) -> Prepared:
        """See Generator."""
        parts = [self.sampling.parts_of(seed) for seed in seeds]
        return self.pipeline.prepare(masks, self.words, mask_ids, seeds, self.label_space.ignored, parts)

    def generate(self, prepared: Prepared) -> np.ndarray:
        """See Generator."""
        return self.pipeline.generate(prepared, self.sampling.steps, self.sampling.guidance_scale)
