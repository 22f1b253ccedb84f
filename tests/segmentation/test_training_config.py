"""Resolved configs against the paper's table, and the rules of the regimes."""

import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import small_models
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.segmentation.config import Experiment, config_text, resolve
from freemask.segmentation.experiments import precision
from freemask.segmentation.runner import read_config

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "config/models.yaml"
# The paper's supplement and mmsegmentation's configs: optimizer, base rate, weight decay, power of the poly schedule,
# batch per GPU, crop
ADAMW_SWIN = ("AdamW", 1e-4, 0.05, 0.9, 2)
ADAMW_MIT = ("AdamW", 6e-5, 0.01, 1.0, 2)
SGD_VIT = ("SGD", 1e-3, 0.0, 0.9, 1)
TABLE = {
    "mask2former_swin-t": (*ADAMW_SWIN, 512),
    "mask2former_swin-s": (*ADAMW_SWIN, 512),
    "mask2former_swin-b": (*ADAMW_SWIN, 640),
    "segformer_mit-b2": (*ADAMW_MIT, 512),
    "segformer_mit-b4": (*ADAMW_MIT, 512),
    "segmenter_vit-s": (*SGD_VIT, 512),
    "segmenter_vit-b": (*SGD_VIT, 512),
}
CLASSES = {"ade20k": 150, "cocostuff164k": 171}
ITERATIONS = {("ade20k", 1): 160_000, ("ade20k", 2): 320_000,
              ("cocostuff164k", 1): 80_000, ("cocostuff164k", 2): 160_000}  # fmt: skip
WARMUP = {("ade20k", 1): 1500, ("ade20k", 2): 3000, ("cocostuff164k", 1): 1500, ("cocostuff164k", 2): 1500}
REGIMES = [("real", 1), ("real", 2), ("synthetic", 1), ("finetune", 1), ("joint", 2)]  # and schedules
LISTS = {"synthetic": ["synthetic.tsv"], "joint": ["real.tsv", "synthetic.tsv"]}
CASES = [(model, dataset) for model in TABLE for dataset in CLASSES]
CASES.remove(("mask2former_swin-b", "cocostuff164k"))  # not in the paper
# parameter's name -> its rate and weight decay on real images; the first that matches. Mask2Former: backbone x 0.1, no
# decay of norms, position tables, queries and level embeddings. SegFormer: head x 10, no decay of norms.
RATES = {
    "mask2former": [
        (r"backbone\..*(norm|relative_position_bias_table)", 1e-5, 0.0),
        (r"backbone\.", 1e-5, 0.05),
        (r"decode_head\.(query_embed|query_feat|level_embed)\.", 1e-4, 0.0),
        (r"decode_head\..*(norms\.\d|norm|gn)\.(weight|bias)$", 1e-4, 0.0),
        (r"decode_head\.", 1e-4, 0.05),
    ],
    "segformer": [
        (r"decode_head\.", 6e-4, 0.01),
        (r"backbone\..*norm", 6e-5, 0.0),
        (r"backbone\.", 6e-5, 0.01),
    ],
    "segmenter": [(r"(backbone|decode_head)\.", 1e-3, 0.0)],
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """Label spaces of 150, of 171 and of 12 classes."""
    folder = tmp_path_factory.mktemp("spaces")
    for dataset, count in (*CLASSES.items(), ("miniworld", 12)):
        names = tuple(f"name{label}" for label in range(count))
        space = LabelSpace(tuple(range(1, count + 1)), names, names, ((0, 0, 0),) * count, ignored=0)
        space.write(folder / f"{dataset}.json")
    return folder


def read_model(name):
    return yaml.safe_load(MODELS.read_text())[name]


def made(spaces, model, dataset, regime="real", **options):
    """The resolved config of an experiment, through its text, as mmengine reads it."""
    given = {
        "name": model, "dataset": dataset, "label_space": str(spaces / f"{dataset}.json"), "regime": regime,
        "schedule": 2 if regime == "joint" else 1, "validation": "val.tsv", "train_seed": 7, "work_dir": "run/work",
        "real": "real.tsv", "synthetic": "synthetic.tsv" if regime in ("joint", "synthetic") else None,
        "initial": "pretrained.pth" if regime == "finetune" else None, "gpus": 0 if model == "segformer_mini" else 8,
        "mask_size": 64, **options,
    }  # fmt: skip
    path = spaces / "config.py"
    path.write_text(config_text(resolve(read_model(model), Experiment(**given))))
    return Config.fromfile(path, import_custom_modules=False)  # mmdetection's need compiled ops


def test_a_training_shorter_than_the_logs_interval_logs_its_loss(spaces):
    entry = read_model("segformer_mini")
    interval = made(spaces, "segformer_mini", "miniworld").default_hooks.logger.interval
    options = {"name": "a", "dataset": "miniworld", "label_space": str(spaces / "miniworld.json"), "gpus": 0,
               "regime": "real", "schedule": 1, "validation": "v.tsv", "train_seed": 0, "work_dir": "w",
               "real": "r.tsv", "synthetic": None, "initial": None, "mask_size": 64}  # fmt: skip
    for iterations in (3, interval, 10 * interval):
        config = resolve(entry | {"iterations": {"miniworld": iterations}}, Experiment(**options))
        assert config["default_hooks"]["logger"]["interval"] == min(iterations, interval)


@pytest.mark.parametrize("warmup, message", [([1500, 3000], "before the warm-up of 12000"), ([5, 9], "val_interval")])
def test_a_training_too_short_for_its_warmup_or_validation_is_refused(spaces, warmup, message):
    """20 iterations of 8 accumulated steps; the base config validates every 16,000."""
    entry = read_model("segformer_mit-b2") | {"iterations": {"miniworld": 20}, "warmup": {"miniworld": warmup}}
    options = {"label_space": str(spaces / "miniworld.json"), "regime": "real", "schedule": 1, "validation": "v.tsv"}
    with pytest.raises(InputError, match=message):
        resolve(entry, Experiment("a", "miniworld", **options, train_seed=0, work_dir="w", real="r.tsv"))


@pytest.mark.parametrize("rate", [-0.003, 0, float("nan"), float("inf"), "3e-3"])
def test_a_learning_rate_is_a_number_above_0(spaces, rate):
    entry = read_model("segformer_mini")
    entry["overrides"]["optim_wrapper"]["optimizer"]["lr"] = rate
    options = {"label_space": str(spaces / "miniworld.json"), "regime": "real", "schedule": 1, "validation": "v.tsv"}
    with pytest.raises(InputError, match=r"optimizer\.lr = .*, want a number above 0"):
        resolve(entry, Experiment("a", "miniworld", **options, train_seed=0, work_dir="w", real="r.tsv", mask_size=64))


def found(value, key):
    """Every value of a key, at any depth."""
    if isinstance(value, dict):
        yield from (value[key] for name in value if name == key)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in inner:
        yield from found(item, key)


@cache
def on_real_images(spaces, model):
    return made(spaces, model, "ade20k")


@pytest.mark.parametrize(("regime", "schedule"), REGIMES)
@pytest.mark.parametrize(("model", "dataset"), CASES)
def test_every_config_follows_the_table(spaces, model, dataset, regime, schedule):
    optimizer, rate, decay, power, batch, crop = TABLE[model]
    config = made(spaces, model, dataset, regime, schedule=schedule)
    iterations = ITERATIONS[dataset, schedule]
    assert config.train_cfg.max_iters == config.experiment.iterations == iterations
    wrapper = config.optim_wrapper
    assert (wrapper.type, wrapper.optimizer.type, wrapper.optimizer.weight_decay) == ("OptimWrapper", optimizer, decay)
    assert wrapper.optimizer.lr == (rate / 2 if regime == "finetune" else rate)
    if optimizer == "SGD":
        assert wrapper.optimizer.momentum == 0.9
    # groups are tested below on ADE20K's real images; they are the same everywhere, but finetune's
    assert regime == "finetune" or wrapper == on_real_images(spaces, model).optim_wrapper
    assert "optimizer" not in config and "accumulative_counts" not in wrapper
    *warmup, poly = config.param_scheduler
    assert (poly.type, poly.power, poly.end) == ("PolyLR", power, iterations)
    steps = WARMUP[dataset, schedule] if model.startswith("segformer") else 0
    assert [(w.type, w.start_factor, w.begin, w.end) for w in warmup] == [("LinearLR", 1e-6, 0, steps)] * bool(steps)
    assert poly.begin == steps
    loader = config.train_dataloader
    assert (config.gpus, loader.batch_size, loader.sampler.batch_size) == (8, batch, batch)
    assert loader.dataset.lists == LISTS.get(regime, ["real.tsv"])
    assert loader.sampler.type == ("BalancedSampler" if regime == "joint" else "ShuffledSampler")
    crops = [step.crop_size for step in loader.dataset.pipeline if step.type == "RandomCrop"]
    assert [tuple(size) for size in [*crops, config.model.data_preprocessor.size]] == [(crop, crop)] * 2
    count = CLASSES[dataset]
    heads = list(found(config.model.to_dict(), "num_classes"))
    assert heads and set(heads) == {count}
    weights = [weight for weight in found(config.model.to_dict(), "class_weight") if weight is not None]
    assert weights == [[1.0] * count + [0.1]] * model.startswith("mask2former")


@pytest.mark.parametrize("regime", ["real", "finetune"])
@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.ops] * name.startswith("m")) for name in TABLE]
)
def test_rate_and_decay_of_every_parameter(spaces, model, regime):
    config = small_models.shrink(made(spaces, model, "ade20k", regime))
    segmentor = small_models.build(config)
    groups = build_optim_wrapper(segmentor, config.optim_wrapper).optimizer.param_groups
    given = {id(value): (group["lr"], group["weight_decay"]) for group in groups for value in group["params"]}
    base, rules = TABLE[model][1], RATES[model.partition("_")[0]]
    used = set()
    for name, value in segmentor.named_parameters():
        pattern, rate, decay = next(rule for rule in rules if re.match(rule[0], name))
        used.add(pattern)
        wanted = (base / 2 if regime == "finetune" else rate, decay)
        assert given.pop(id(value)) == pytest.approx(wanted), name
    assert not given and len(used) == len(rules)


@pytest.mark.parametrize("model", TABLE)
def test_initial_weights_are_those_of_the_shipped_config(spaces, model):
    import mmseg

    entry = read_model(model)
    path = Path(mmseg.__file__).parent / ".mim/configs" / entry["base"].removeprefix("mmseg::")
    shipped = str(Config.fromfile(path, import_custom_modules=False).model)
    url, digest = entry["initial_weights"]["url"], entry["initial_weights"]["sha256"]
    assert Path(url).name in shipped  # the host depends on the release
    assert url.endswith(f"-{digest}.pth")
    assert str(made(spaces, model, "ade20k").model).count(url) == 1
    local = made(spaces, model, "ade20k", initial_weights="weights/here.pth").model
    assert "weights/here.pth" in str(local) and url not in str(local)


@pytest.mark.parametrize("model", [*TABLE, "segformer_mini"])
def test_finetune_halves_the_rate_and_has_one_rate_for_all(spaces, model):
    dataset = "miniworld" if model == "segformer_mini" else "ade20k"
    real, finetune = made(spaces, model, dataset), made(spaces, model, dataset, "finetune")
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


def test_regimes_choose_tables_and_samplers(spaces):
    def data(regime, **options):
        return made(spaces, "segformer_mini", "miniworld", regime, **options).train_dataloader

    assert data("real").dataset.lists == data("finetune").dataset.lists == ["real.tsv"]
    assert data("synthetic").dataset.lists == ["synthetic.tsv"]
    assert data("joint").dataset.lists == ["real.tsv", "synthetic.tsv"]
    assert data("joint").sampler == {"type": "BalancedSampler", "accumulate": 1, "batch_size": 8, "seed": 7}
    assert data("joint", balance="repeat").sampler.repeat_real is True
    assert data("real").sampler == {"type": "ShuffledSampler", "accumulate": 1, "batch_size": 8, "seed": 7}


def test_fewer_gpus_accumulate_so_that_an_update_stays(spaces):
    config = made(spaces, "segformer_mit-b2", "ade20k", gpus=2)
    assert config.optim_wrapper.accumulative_counts == 4
    assert (config.train_cfg.max_iters, config.experiment.iterations) == (640_000, 160_000)
    assert [scheduler.end for scheduler in config.param_scheduler] == [6000, 640_000]
    with pytest.raises(InputError, match="divisor"):
        made(spaces, "segformer_mit-b2", "ade20k", gpus=3)


def test_masks_become_train_ids_right_after_loading(spaces):
    config = made(spaces, "mask2former_swin-t", "ade20k")
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        types = [step.type for step in loader.dataset.pipeline]
        assert types[types.index("LoadAnnotations") + 1] == "RawToTrainIds"
        assert loader.dataset.pipeline[types.index("LoadAnnotations")].reduce_zero_label is False


def test_precision(spaces):
    assert made(spaces, "segformer_mit-b2", "ade20k").optim_wrapper.type == "OptimWrapper"
    wrapper = made(spaces, "segformer_mit-b2", "ade20k", precision="fp16").optim_wrapper
    assert (wrapper.type, wrapper.dtype, wrapper.loss_scale) == ("AmpOptimWrapper", "float16", "dynamic")
    wrapper = made(spaces, "segformer_mit-b2", "ade20k", precision="bf16").optim_wrapper
    assert (wrapper.type, "loss_scale" in wrapper) == ("BFloat16OptimWrapper", False)


@pytest.mark.parametrize(
    ("entry", "config", "wanted"),
    [
        ({}, {}, "fp32"),
        ({}, {"training_precision": "bf16"}, "bf16"),
        ({"precision": "fp32"}, {"training_precision": "fp16"}, "fp32"),
    ],
)
def test_a_model_that_cannot_follow_keeps_its_own_precision(entry, config, wanted):
    assert precision(entry, config) == wanted


def test_mask2former_keeps_to_fp32():
    models = yaml.safe_load(MODELS.read_text())
    assert {name for name, entry in models.items() if entry.get("precision") == "fp32"} == {
        name for name in TABLE if name.startswith("mask2former")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regime": "jonit"}, "regime 'jonit'"),
        ({"regime": "finetune", "initial": None}, "finetune of segformer_mini needs initial"),
        ({"initial": "x.pth"}, r"starts from no pre-training.*\(x\.pth\)"),
        ({"regime": "joint", "synthetic": None}, "needs synthetic"),
        ({"schedule": 0}, "schedule 0"),
        ({"precision": "fp16"}, "segformer_mini: training_precision = fp16 needs GPUs"),
        ({"balance": "repeat"}, "balance repeat is for regimes that mix"),
    ],
)
def test_unsuitable_experiments_are_refused(spaces, change, message):
    with pytest.raises(InputError, match=message):
        made(spaces, "segformer_mini", "miniworld", **change)


def test_an_unknown_data_set_is_refused(spaces):
    with pytest.raises(InputError, match="no iterations for 'ade20k'"):
        made(spaces, "segformer_mini", "ade20k")


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


def test_a_config_of_an_earlier_version_is_refused(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("test_dataloader = {'dataset': {'type': 'PairListDataset', 'classes': 'a.tsv', 'ignored': 0}}\n")
    with pytest.raises(InputError, match=r"config\.py: made by an earlier version .*; delete it and run again"):
        read_config(path)
