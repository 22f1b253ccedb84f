"""Everything registered with mmengine and mmseg; a config loads it through custom_imports."""

from freemask.segmentation.checkpoints import DurableCheckpoints
from freemask.segmentation.datasets import PairListDataset, RandomCrop, RawToTrainIds
from freemask.segmentation.evaluation import PerClassIoU
from freemask.segmentation.hooks import CountTime, ProgressLines, RefuseNonFiniteLoss, SeedEachIteration
from freemask.segmentation.interruptions import RepeatValidation, SaveOnTerminate, leave_sigterm_to_parent
from freemask.segmentation.optimizers import BFloat16OptimWrapper, MergedGroups
from freemask.segmentation.samplers import BalancedSampler, ShuffledSampler

__all__ = [
    "BFloat16OptimWrapper",
    "BalancedSampler",
    "CountTime",
    "DurableCheckpoints",
    "MergedGroups",
    "PairListDataset",
    "PerClassIoU",
    "ProgressLines",
    "RandomCrop",
    "RawToTrainIds",
    "RefuseNonFiniteLoss",
    "RepeatValidation",
    "SaveOnTerminate",
    "SeedEachIteration",
    "ShuffledSampler",
    "leave_sigterm_to_parent",
]
