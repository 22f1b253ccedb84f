"""Everything registered with mmengine and mmseg; a config loads it through custom_imports."""

from freemask.segmentation.batches import LoadAheadTrainLoop, collate_packed
from freemask.segmentation.best import DurableCheckpoints
from freemask.segmentation.datasets import PairListDataset
from freemask.segmentation.hooks import ProgressLines, RefuseNonFiniteLoss, SeedEachIteration
from freemask.segmentation.metrics import PerClassIoU
from freemask.segmentation.optimizers import BFloat16OptimWrapper, MergedGroups
from freemask.segmentation.preemption import RepeatValidation, SaveOnTerminate, leave_sigterm_to_parent
from freemask.segmentation.samplers import BalancedSampler, ShuffledSampler
from freemask.segmentation.timing import CountTime
from freemask.segmentation.transforms import RawToTrainIds

__all__ = [
    "BFloat16OptimWrapper",
    "BalancedSampler",
    "CountTime",
    "DurableCheckpoints",
    "LoadAheadTrainLoop",
    "MergedGroups",
    "PairListDataset",
    "PerClassIoU",
    "ProgressLines",
    "RawToTrainIds",
    "RefuseNonFiniteLoss",
    "RepeatValidation",
    "SaveOnTerminate",
    "SeedEachIteration",
    "ShuffledSampler",
    "collate_packed",
    "leave_sigterm_to_parent",
]
