"""Batches that cross between processes: what arrives is what was sent, in few pieces."""

import multiprocessing.reduction
import pickle

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from freemask.segmentation import batches


def sample(number: int, side: int) -> dict:
    """What PackSegInputs makes of a pair, of a size of its own; the image isn't contiguous."""
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(0, 255, (side + number, side, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)
    mask = torch.randint(0, 4, (1, side + number, side), generator=generator)
    packed = SegDataSample(gt_sem_seg=PixelData(data=mask))
    packed.set_metainfo({"img_path": f"{number}.jpg", "img_shape": (side + number, side), "flip": None})
    return {"inputs": image, "data_samples": packed}


def sent(batch: dict) -> tuple[dict, int]:
    """A batch as another process receives it, and how many tensors were sent."""
    _, (_, packed, _) = batch.__reduce__()
    return pickle.loads(multiprocessing.reduction.ForkingPickler.dumps(batch)), int(isinstance(packed, torch.Tensor))


@pytest.mark.parametrize(("side", "tensors"), [(33, 0), (400, 1)])  # in the pipe; as a file
def test_what_arrives_is_what_was_sent(side, tensors):
    samples = [sample(number, side) for number in range(3)]
    batch = batches.collate_packed(samples)
    arrived, files = sent(batch)
    assert files == tensors and type(arrived) is dict
    for one, image, packed in zip(samples, arrived["inputs"], arrived["data_samples"], strict=True):
        assert torch.equal(image, one["inputs"]) and image.dtype == torch.uint8
        found, wanted = packed.gt_sem_seg.data, one["data_samples"].gt_sem_seg.data
        assert torch.equal(found, wanted) and found.dtype == torch.int64
        assert packed.metainfo == one["data_samples"].metainfo
        image += 1  # whoever augments in place may
        assert not torch.equal(image, one["inputs"])
