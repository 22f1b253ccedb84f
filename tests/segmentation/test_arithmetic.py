"""Half precision with Mask2Former's sums in float32, fused attention, compiled backbones: the same but for rounding."""

import copy

import pytest
import torch
from test_optimizers import built, one_thread, ours, pairs  # noqa: F401 - a fixture

from freemask.segmentation import arithmetic
from freemask.segmentation.arithmetic import Accelerate, fuse_attention, keep_in_float32


def loss_of(model, **autocast):
    torch.manual_seed(0)
    data = model.train().data_preprocessor(pairs(1), True)
    with torch.autocast("cpu", torch.bfloat16, **autocast):
        return model.parse_losses(model(**data, mode="loss"))[0]


@pytest.mark.ops
def test_mask2former_sums_in_float32_under_autocast(tmp_path):
    model, _ = built("mask2former_swin-t", tmp_path)
    model.init_weights()
    wanted = float(loss_of(model, enabled=False))
    seen, assigner = [], model.decode_head.assigner
    assign = assigner.assign

    def watched(pred_instances, gt_instances, img_meta=None):
        costs = [cost(pred_instances, gt_instances) for cost in assigner.match_costs]
        seen.extend([pred_instances.masks.dtype, pred_instances.scores.dtype, *(cost.dtype for cost in costs)])
        return assign(pred_instances, gt_instances, img_meta)

    assigner.assign = watched
    keep_in_float32(model)
    assert float(loss_of(model, enabled=False)) == wanted  # nothing changes without autocast
    seen.clear()
    found = loss_of(model, enabled=True)
    assert set(seen) == {torch.float32}
    assert float(found) == pytest.approx(wanted, rel=0.05)
    found.backward()


def test_fused_attention_gives_the_same_losses(tmp_path):
    model, _ = built("segformer_mit-b2", tmp_path, shallow=True)
    fused = copy.deepcopy(model)
    fuse_attention(fused)
    assert float(loss_of(fused, enabled=False)) == pytest.approx(float(loss_of(model, enabled=False)), rel=1e-5)


def test_only_training_steps_are_compiled(tmp_path, monkeypatch):
    calls = []

    def compiled(forward, **options):
        def call(*given):
            calls.append(given)
            return forward(*given)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    model, settings = built("segformer_mit-b2", tmp_path, shallow=True)
    keys = set(model.state_dict())
    runner = type("Runner", (), {"model": model})
    Accelerate(ways=list(arithmetic.WAYS)).before_train(runner)
    model.train().train_step(pairs(2), ours(model, settings))
    with torch.no_grad():
        model.eval().test_step(pairs(1))
    assert len(calls) == 1 and set(model.state_dict()) == keys
