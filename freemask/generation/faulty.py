"""FreestyleNet that fails on purpose: some regions of a mask are generated as another class.

For evidence on filters: what a generator does whose training pairs had wrong or missing regions, as pairs from the web
have, is known here pixel by pixel.
"""

from collections.abc import Sequence

import numpy as np

from freemask.generation.failures import painted
from freemask.generation.freestyle.generator import FreestyleGenerator
from freemask.generation.freestyle.pipeline import Prepared


class FaultyGenerator(FreestyleGenerator):
    """Generates with a FreestylePipeline, from masks of which regions are exchanged."""

    def prepare(self, masks: np.ndarray, mask_ids: Sequence[str], seeds: Sequence[int]) -> Prepared:
        """See Generator."""
        asked = zip(masks, mask_ids, seeds, strict=True)
        return super().prepare(np.stack([painted(*one, self.label_space) for one in asked]), mask_ids, seeds)
