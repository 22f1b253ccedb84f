"""Resolved configs against the paper's table, and the rules of the regimes."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from mmengine.config import Config

from freemask.errors import InputError
from freemask.training import Experiment, config_text, read_model, resolve

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "config/models.yaml"
# optimizer, base rate, weight decay, poly power, multipliers of the rate, batch per GPU, crop (the paper's supplement
# and mmsegmentation's configs)
ADAMW_SWIN = ("AdamW", 1e-4, 0.05, 0.9, {"backbone": 0.1}, 2)
ADAMW_MIT = ("AdamW", 6e-5, 0.01, 1.0, {"head": 10.0}, 2)
SGD_VIT = ("SGD", 1e-3, 0.0, 0.9, {}, 1)
TABLE = {
    "mask2former_swin-t": (*ADAMW_SWIN, 512),
    "mask2former_swin-s": (*ADAMW_SWIN, 512),
    "mask2former_swin-b": (*ADAMW_SWIN, 640),
    "segformer_mit-b2": (*ADAMW_MIT, 512),
    "segformer_mit-b4": (*ADAMW_MIT, 512),
    "segmenter_vit-s": (*SGD_VIT, 512),
    "segmenter_vit-b": (*SGD_VIT, 512),
}
ITERATIONS = {"ade20k": {"real": 160_000, "joint": 320_000}, "cocostuff164k": {"real": 80_000, "joint": 160_000}}
WARMUP = {"ade20k": {"real": 1500, "joint": 3000}, "cocostuff164k": {"real": 1500, "joint": 1500}}
CASES = [(model, dataset) for model in TABLE for dataset in ITERATIONS]
CASES.remove(("mask2former_swin-b", "cocostuff164k"))  # not in the paper


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Class tables of 150 and of 171 classes."""
    folder = tmp_path_factory.mktemp("classes")
    for dataset, count in (("ade20k", 150), ("cocostuff164k", 171), ("miniworld", 12)):
        rows = [f"{label}\tname{label}\tword\t#000000" for label in range(1, count + 1)]
        (folder / f"{dataset}.tsv").write_text("\n".join(["label\tname\tword\tcolor", *rows]) + "\n")
    return folder


def made(classes, model, dataset, regime="real", **options):
    """The resolved config of an experiment, through its text, as mmengine reads it."""
    given = {
        "name": model, "dataset": dataset, "classes": str(classes / f"{dataset}.tsv"), "ignored": 0, "regime": regime,
        "schedule": 2 if regime == "joint" else 1, "validation": "val.tsv", "train_seed": 7, "work_dir": "run/work",
        "real": "real.tsv", "synthetic": "synthetic.tsv" if regime in ("joint", "synthetic") else None,
        "initial": "pretrained.pth" if regime == "finetune" else None, "gpus": 0 if model == "segformer_mini" else 8,
        **options,
    }  # fmt: skip
    path = classes / "config.py"
    path.write_text(config_text(resolve(read_model(MODELS, model), Experiment(**given))))
    return Config.fromfile(path, import_custom_modules=False)  # mmdetection's need compiled ops


@pytest.mark.parametrize("regime", ["real", "joint"])
@pytest.mark.parametrize(("model", "dataset"), CASES)
def test_paper_models_follow_the_table(classes, model, dataset, regime):
    optimizer, rate, decay, power, multipliers, batch, crop = TABLE[model]
    config = made(classes, model, dataset, regime)
    iterations = ITERATIONS[dataset][regime]
    assert config.train_cfg.max_iters == config.experiment.iterations == iterations
    found = config.optim_wrapper.optimizer
    assert (found.type, found.lr, found.weight_decay) == (optimizer, rate, decay)
    if optimizer == "SGD":
        assert found.momentum == 0.9
    keys = config.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {})
    for key, multiplier in multipliers.items():
        assert keys[key].lr_mult == multiplier
    assert {options.get("lr_mult", 1.0) for options in keys.values()} <= {1.0, *multipliers.values()}
    *warmup, poly = config.param_scheduler
    assert (poly.type, poly.power, poly.end) == ("PolyLR", power, iterations)
    if model.startswith("segformer"):
        steps = WARMUP[dataset][regime]
        assert [(w.type, w.start_factor, w.begin, w.end) for w in warmup] == [("LinearLR", 1e-6, 0, steps)]
        assert poly.begin == steps
    else:
        assert not warmup and poly.begin == 0
    assert (config.gpus, config.train_dataloader.batch_size) == (8, batch)
    crops = [step.crop_size for step in config.train_dataloader.dataset.pipeline if step.type == "RandomCrop"]
    assert [tuple(size) for size in crops] == [(crop, crop)]
    assert tuple(config.model.data_preprocessor.size) == (crop, crop)
    assert config.model.decode_head.num_classes == (150 if dataset == "ade20k" else 171)
    assert "optimizer" not in config and "accumulative_counts" not in config.optim_wrapper


@pytest.mark.parametrize("model", TABLE)
def test_initial_weights_are_those_of_the_shipped_config(classes, model):
    import mmseg

    entry = read_model(MODELS, model)
    path = Path(mmseg.__file__).parent / ".mim/configs" / entry["base"].removeprefix("mmseg::")
    shipped = str(Config.fromfile(path, import_custom_modules=False).model)
    url, digest = entry["initial_weights"]["url"], entry["initial_weights"]["sha256"]
    assert Path(url).name in shipped  # the host depends on the release
    assert url.endswith(f"-{digest}.pth")
    assert str(made(classes, model, "ade20k").model).count(url) == 1
    local = made(classes, model, "ade20k", initial_weights="weights/here.pth").model
    assert "weights/here.pth" in str(local) and url not in str(local)


@pytest.mark.parametrize("model", [*TABLE, "segformer_mini"])
def test_finetune_halves_the_rate_and_has_one_rate_for_all(classes, model):
    dataset = "miniworld" if model == "segformer_mini" else "ade20k"
    real, finetune = made(classes, model, dataset), made(classes, model, dataset, "finetune")
    assert finetune.optim_wrapper.optimizer.lr == real.optim_wrapper.optimizer.lr / 2
    assert finetune.train_cfg == real.train_cfg
    before = real.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {})
    after = finetune.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {})
    assert after.keys() == before.keys()
    assert all(options.get("lr_mult", 1.0) == 1.0 for options in after.values())
    assert [options.get("decay_mult") for options in after.values()] == [
        options.get("decay_mult") for options in before.values()
    ]
    assert finetune.load_from == "pretrained.pth"
    assert "http" not in str(finetune.model) and "Pretrained" not in str(finetune.model)


def test_regimes_choose_tables_and_samplers(classes):
    def data(regime, **options):
        return made(classes, "segformer_mini", "miniworld", regime, **options).train_dataloader

    assert data("real").dataset.lists == data("finetune").dataset.lists == ["real.tsv"]
    assert data("synthetic").dataset.lists == ["synthetic.tsv"]
    assert data("joint").dataset.lists == ["real.tsv", "synthetic.tsv"]
    assert data("joint").sampler == {"type": "BalancedSampler", "accumulate": 1, "batch_size": 8, "seed": 7}
    assert data("joint", balance="repeat").sampler.repeat_real is True
    assert data("real").sampler == {"type": "ShuffledSampler", "batch_size": 8, "seed": 7}


def test_fewer_gpus_accumulate_so_that_an_update_stays(classes):
    config = made(classes, "segformer_mit-b2", "ade20k", gpus=2)
    assert config.optim_wrapper.accumulative_counts == 4
    assert (config.train_cfg.max_iters, config.experiment.iterations) == (640_000, 160_000)
    assert [scheduler.end for scheduler in config.param_scheduler] == [6000, 640_000]
    with pytest.raises(InputError, match="divisor"):
        made(classes, "segformer_mit-b2", "ade20k", gpus=3)


def test_masks_become_train_ids_right_after_loading(classes):
    config = made(classes, "mask2former_swin-t", "ade20k")
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        types = [step.type for step in loader.dataset.pipeline]
        assert types[types.index("LoadAnnotations") + 1] == "RawToTrainIds"
        assert loader.dataset.pipeline[types.index("LoadAnnotations")].reduce_zero_label is False


def test_precision(classes):
    assert made(classes, "segformer_mit-b2", "ade20k").optim_wrapper.type == "OptimWrapper"
    wrapper = made(classes, "segformer_mit-b2", "ade20k", precision="bf16").optim_wrapper
    assert (wrapper.type, wrapper.dtype) == ("AmpOptimWrapper", "bfloat16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regime": "jonit"}, "regime 'jonit'"),
        ({"regime": "finetune", "initial": None}, "finetune of segformer_mini needs initial"),
        ({"initial": "x.pth"}, "for finetune only"),
        ({"regime": "joint", "synthetic": None}, "needs synthetic"),
        ({"schedule": 0}, "schedule 0"),
    ],
)
def test_unsuitable_experiments_are_refused(classes, change, message):
    with pytest.raises(InputError, match=message):
        made(classes, "segformer_mini", "miniworld", **change)


def test_unknown_model_and_data_set_are_refused(classes):
    with pytest.raises(InputError, match="no model 'segformer'; it holds segformer_mini"):
        read_model(MODELS, "segformer")
    with pytest.raises(InputError, match="no iterations for 'ade20k'"):
        made(classes, "segformer_mini", "ade20k")


def test_models_yaml_fits_its_schema_and_the_schema_says_what_every_key_is():
    schema = json.loads((ROOT / "config/schemas/models.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    models = yaml.safe_load(MODELS.read_text())
    jsonschema.validate(models, schema)
    models["segformer_mini"]["itertions"] = {}
    with pytest.raises(jsonschema.ValidationError, match="itertions"):
        jsonschema.validate(models, schema)
    for key, value in schema["$defs"]["model"]["properties"].items():
        assert value["description"], key
