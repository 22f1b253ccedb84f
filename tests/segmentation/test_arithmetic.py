"""Half precision with Mask2Former's sums in float32, fused attention, compiled backbones: the same but for rounding."""

import contextlib
import copy

import pytest
import torch
from test_optimizers import built, one_thread, ours, pairs  # noqa: F401 - a fixture

from freemask.segmentation.arithmetic import accelerate, capture_backbone, fuse_attention, keep_in_float32


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
    accelerate(model, ["fused_attention", "compiled_backbone"], {"optim_wrapper": {"type": "OptimWrapper"}})
    model.train().train_step(pairs(2), ours(model, settings))
    with torch.no_grad():
        model.eval().test_step(pairs(1))
    assert len(calls) == 1 and set(model.state_dict()) == keys


@pytest.fixture
def graphed(monkeypatch):
    """A machine that says it has a GPU and captures on the CPU; shapes of the sample and of calls."""
    seen = {"sample": [], "call": []}

    def make(backbone, sample, allow_unused_input):
        eager = backbone.forward
        seen["sample"].append(tuple(sample[0].shape))

        def forward(images):
            seen["call"].append(tuple(images.shape))
            return eager(images)

        backbone.forward = forward

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    return seen


CONFIG = {"train_dataloader": {"batch_size": 2}, "model": {"data_preprocessor": {"size": (8, 16)}}}


def with_backbone(*layers):
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential(*layers)
    return model


def test_training_steps_of_the_configs_shape_are_captured(graphed):
    model = with_backbone(torch.nn.Conv2d(3, 4, 1))
    keys = set(model.state_dict())
    accelerate(model, ["captured_backbone"], {**CONFIG, "optim_wrapper": {"type": "OptimWrapper"}})
    assert graphed["sample"] == [(2, 3, 8, 16)] and set(model.state_dict()) == keys
    for batch in (2, 1):
        model.backbone(torch.zeros(batch, 3, 8, 16))
    assert graphed["call"] == [(2, 3, 8, 16)]


class Replay(torch.autograd.Function):
    """Multiplies by a weight; like a replayed graph, it returns the weight's gradient in the same memory each time."""

    memory = torch.zeros(1)

    @staticmethod
    def forward(ctx, images, weight):
        ctx.save_for_backward(images)
        return images * weight

    @staticmethod
    def backward(ctx, grad):
        Replay.memory.copy_((grad * ctx.saved_tensors[0]).sum())
        return None, Replay.memory.detach()


@pytest.mark.parametrize(("passes", "wanted"), [(1, 10.0), (2, 7.0)])  # without copies the second is added to itself
def test_accumulated_gradients_are_copies(graphed, passes, wanted):
    model = with_backbone(torch.nn.Conv2d(3, 4, 1))
    weight = torch.nn.Parameter(torch.ones(1))
    model.backbone.register_parameter("weight", weight)
    wrapper = {"type": "OptimWrapper", "accumulative_counts": passes}
    accelerate(model, ["captured_backbone"], {**CONFIG, "optim_wrapper": wrapper})
    for value in (2.0, 5.0):
        Replay.apply(torch.full((1,), value), weight).sum().backward()
    assert graphed["sample"] and weight.grad.item() == wanted


def test_batch_norm_is_not_captured(graphed):
    model = with_backbone(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    capture_backbone(model, (2, 3, 8, 8), torch.float32)
    assert not graphed["sample"]


def test_a_backbone_that_cannot_be_captured_runs_eager(graphed, monkeypatch, capsys):
    def refuse(backbone, sample, allow_unused_input):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    model = with_backbone(torch.nn.Conv2d(3, 4, 1))
    capture_backbone(model, (2, 3, 8, 8), torch.float32)
    assert model.backbone(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 8, 8)
    told = capsys.readouterr().err
    assert "Sequential isn't captured, its kernels are launched one by one: CUDA out of memory" in told
