"""Batches that cross between processes: what arrives is what was sent, in few pieces."""

import multiprocessing.reduction
import pickle
import threading

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


@pytest.mark.parametrize("side", [33, 400])
def test_what_arrives_is_what_was_sent(side):
    samples = [sample(number, side) for number in range(3)]
    batch = batches.collate_packed(samples)
    sent = bytes(multiprocessing.reduction.ForkingPickler.dumps(batch))
    assert sent.count(b"rebuild_storage_fd") == 1  # one file for all tensors
    arrived = pickle.loads(sent)
    assert type(arrived) is dict
    for one, image, packed in zip(samples, arrived["inputs"], arrived["data_samples"], strict=True):
        assert torch.equal(image, one["inputs"]) and image.dtype == torch.uint8
        found, wanted = packed.gt_sem_seg.data, one["data_samples"].gt_sem_seg.data
        assert torch.equal(found, wanted) and found.dtype == torch.int64
        assert packed.metainfo == one["data_samples"].metainfo
        image += 1  # whoever augments in place may
        assert not torch.equal(image, one["inputs"])


class Counting:
    """Numbers 0, 1, ..., 3, then an error; notes which threads asked."""

    def __init__(self):
        self.turn, self.threads = 0, []

    def __next__(self):
        self.threads.append(threading.current_thread())
        if self.turn > 3:
            raise OSError("a loading process is gone")
        self.turn += 1
        return self.turn - 1

    def skip_iter(self, number):
        self.turn += number


def test_batches_are_received_ahead_in_their_order():
    counting = Counting()
    ahead = batches.Ahead(counting)
    ahead.skip_iter(1)
    assert [next(ahead) for _ in range(2)] == [1, 2]
    ahead.following.result()
    assert counting.turn == 4  # without having been asked for
    assert counting.threads[0] is threading.main_thread() and threading.main_thread() not in counting.threads[1:]
    assert next(ahead) == 3
    with pytest.raises(OSError, match="is gone"):
        next(ahead)
    ahead.close()
    assert counting.threads[1] not in threading.enumerate()
