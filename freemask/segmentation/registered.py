"""Everything registered with mmengine and mmseg; a config loads it through custom_imports."""

from freemask.segmentation import (  # noqa: F401 - their decorators register
    checkpoints,
    datasets,
    evaluation,
    hooks,
    interruptions,
    optimizers,
    samplers,
)
