"""The paper's models with their depth and their parameters' names, but narrow: built and trained in seconds."""

from typing import Any

CROP = 64
NARROW = {256: 32, 128: 16, 1024: 64, 2048: 64, 100: 10, 12544: 112}  # of Mask2Former's head


def shrink(config: Any) -> Any:
    """Make a resolved config's model narrow, and its crops CROP pixels wide; in place."""
    model = config.model
    model.data_preprocessor.size = (CROP, CROP)
    model.data_preprocessor.test_cfg = {"size_divisor": 32}
    model.backbone.init_cfg, model.pretrained = None, None
    kind = model.backbone.type
    if kind == "MixVisionTransformer":
        model.backbone.embed_dims = 8
        model.decode_head.update(in_channels=[8, 16, 40, 64], channels=16, norm_cfg={"type": "BN"})
    elif kind == "VisionTransformer":
        model.backbone.update(embed_dims=24, num_heads=2, img_size=(CROP, CROP))
        model.decode_head.update(in_channels=24, channels=24, embed_dims=24, num_heads=2)
        model.test_cfg.update(crop_size=(CROP, CROP), stride=(CROP // 2, CROP // 2))
    else:
        width = 8 * model.backbone.num_heads[0]
        model.backbone.update(embed_dims=width, window_size=4)
        narrow = _narrow(model.decode_head.to_dict())
        narrow["in_channels"] = [width, 2 * width, 4 * width, 8 * width]
        model.decode_head = narrow
    return config


def _narrow(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: value[key] if key == "num_classes" else _narrow(value[key]) for key in value}
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    return NARROW.get(value, value) if isinstance(value, int) else value


def build(config: Any) -> Any:
    """A model of a config, without initialising its weights as training would."""
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    if "mmdet." in str(config.model):
        import mmdet.models  # noqa: F401 - registers the head
    init_default_scope("mmseg")
    return MODELS.build(config.model)
