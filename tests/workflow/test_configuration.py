"""Every kind of wrong configuration: one message that names file, key, value and remedy, before any job starts."""

import json
import re
import shutil

import pytest
from tiny_run import CONFIG, change, read_yaml, run_snakemake, snakemake, write_yaml

from freemask.data.label_space import LabelSpace
from freemask.errors import InputError
from freemask.workflow import settings
from freemask.workflow.config import read_run
from freemask.workflow.dataset_settings import read_dataset
from freemask.workflow.sources import missing_raw_data

MODELS, EXPERIMENTS = "config/tiny_models.yaml", "config/tiny_experiments.tsv"
FACTS, CLASSES = "config/datasets/miniworld.yaml", "config/datasets/miniworld.tsv"


@pytest.fixture
def clone(fresh, tmp_path):
    """A configuration to break."""
    shutil.copytree(fresh / "config", tmp_path / "config")
    return tmp_path


def read(clone):
    return read_run(read_yaml(clone / CONFIG), CONFIG, clone)


def message(clone) -> str:
    with pytest.raises(InputError) as raised:
        read(clone)
    return str(raised.value).replace(f"{clone}/", "")


def replace(path, pattern, replacement) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count, f"{path} has no {pattern}"
    path.write_text(text)


SPARE = {"dataset": "miniwrld", "source": "pipeline", "path": "x", "image_size": 64, "scheduler": "plms", "steps": 20,
         "guidance_scale": 2.0, "dtype": "float32", "batch_size": 8, "jpeg_quality": 95}  # fmt: skip
TRAINING = {"steps": 2, "batch_size": 8, "learning_rate": 1e-4, "warmup": 0, "ema_decay": 0.9, "prompt_dropout": 0.1,
            "seed": 0}  # fmt: skip
STREAM = {"stream": {"scenes": 2, "seed": 1, "missing": 0.0}}


@pytest.mark.parametrize(
    ("training", "wanted"),
    [
        (
            STREAM,
            "generators.miniature.training.stream renders scenes of the miniature world, but the generator is for",
        ),
        ({}, "generators.miniature.training: give either init"),
        ({"init": "a"} | STREAM, "generators.miniature.training: give either init"),
        ({"init": "a", "gradient_accumulation": 3}, "gradient_accumulation = 3: want a divisor of batch_size = 8"),
    ],
)
def test_a_generator_training_is_checked_before_it_runs(clone, training, wanted):
    entry = {"source": "train", "training": TRAINING | training}
    change(clone / CONFIG, "generators", "miniature", value=SPARE | {"dataset": "miniworld"} | entry)
    facts = read_yaml(clone / FACTS)
    facts.pop("miniworld")
    write_yaml(clone / FACTS, facts)
    assert wanted in message(clone)


@pytest.mark.parametrize(("source", "scale"), [({}, 4), ({"source": "checkpoint", "path": "none.ckpt"}, 8)])
def test_images_are_whole_latents(clone, source, scale):
    """Of the shipped pipeline, whose autoencoder halves twice, and of Stable Diffusion's, which halves three times."""
    change(
        clone / CONFIG, "generators", "miniature", value=read_yaml(clone / CONFIG)["generators"]["miniature"] | source
    )
    for side in (3 * scale, 3 * scale + scale // 2):
        change(clone / FACTS, "mask_size", value=side)
        change(clone / CONFIG, "generators", "miniature", "image_size", value=side)
        if side % scale:
            assert f"image_size = {side}: its autoencoder wants a multiple of {scale}" in message(clone)
        else:
            read(clone)


@pytest.mark.parametrize("content", ["title: Café\n".encode("latin-1"), b"\xff\xfet\x00"])
def test_a_yaml_file_that_is_not_utf8_is_named(clone, content):
    (clone / FACTS).write_bytes(content)
    assert re.search(r"miniworld.yaml: not UTF-8 .*iconv", message(clone))


def test_every_pattern_of_the_schemas_has_words():
    texts = [path.read_text() for path in settings.SCHEMAS.glob("*.json")]
    written = [one for text in texts for one in re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', text)]
    found = set(map(json.loads, written))
    assert found == settings.PATTERNS.keys()


def test_the_tiny_configuration_is_right(clone):
    datasets, models, experiments = read(clone)
    assert (list(datasets), list(models), len(experiments)) == (["miniworld"], ["tiny", "other"], 5)


# keys of a YAML file, the value they get, what the message must hold
WRONG_KEYS = {
    "unknown key": (CONFIG, ["shard"], 3, ["tiny.yaml", "'shard'", "shards"]),
    "unknown key, deeper": (CONFIG, ["plans", "hardness-2", "nmax"], 3, ["plans.hardness-2", "'nmax'", "n_max"]),
    "unknown key of a generator": (
        CONFIG, ["generators", "miniature", "guidance"], 2, ["'guidance'", "guidance_scale"],
    ),  # fmt: skip
    "unknown key of a model": (MODELS, ["tiny", "lr"], 0.1, ["tiny_models.yaml", "tiny", "'lr'", "overrides"]),
    "unknown key of a data set": (FACTS, ["label"], 0, ["miniworld.yaml", "'label'", "ignored_label"]),
    "wrong type": (CONFIG, ["shards"], "two", ["tiny.yaml", "shards = 'two'", "integer", "Parts"]),
    "a list for a mapping": (CONFIG, ["plans"], ["a"], ["plans = ['a']", "object", "images each mask gets"]),
    "n_max 0": (CONFIG, ["plans", "hardness-2", "n_max"], 0, ["plans.hardness-2.n_max = 0", "minimum of 1"]),
    "quality 101": (CONFIG, ["generators", "miniature", "jpeg_quality"], 101, ["jpeg_quality = 101", "maximum"]),
    "unknown strategy": (CONFIG, ["plans", "hardness-2", "strategy"], "hard", ["strategy = 'hard'", "'hardness'"]),
    "id with a slash": (CONFIG, ["plans", "a/b"], {}, ["plans", "a/b", "want letters, digits"]),
    "no data set": (CONFIG, ["datasets"], [], ["datasets = []", "Data sets of this run"]),
    "unknown data set": (CONFIG, ["datasets"], ["ade"], ["datasets", "'ade'", "config/datasets", "ade20k"]),
    "data set without rows": (CONFIG, ["datasets"], ["ade20k"], ["tiny_experiments.tsv", "no experiment", "ade20k"]),
    "missing table": (CONFIG, ["experiments"], "config/none.tsv", ["config/none.tsv", "no such table"]),
    "missing models": (CONFIG, ["models"], "config/none.yaml", ["config/none.yaml", "no such file"]),
    "missing class table": (FACTS, ["classes"], "config/none.tsv", ["config/none.tsv", "no such table"]),
    "alpha between steps": (CONFIG, ["synthetic_sets", "filtered", "alpha"], 1.27,
                            ["synthetic_sets.filtered.alpha = 1.27", "multiple of 0.05", ".inf"]),
    "alpha 0": (CONFIG, ["synthetic_sets", "filtered", "alpha"], 0, ["synthetic_sets.filtered.alpha = 0", "multiple"]),
    "alpha nan": (CONFIG, ["synthetic_sets", "filtered", "alpha"], float("nan"), ["alpha = nan", "multiple of 0.05"]),
    "alpha as text": (CONFIG, ["synthetic_sets", "filtered", "alpha"], "inf", ["alpha = 'inf'", "number", ".inf"]),
    "alpha that codes don't reach": (CONFIG, ["synthetic_sets", "filtered", "alpha"], 13, ["alpha = 13", "12.75"]),
    "set with unknown plan": (CONFIG, ["synthetic_sets", "filtered", "plan"], "hard",
                              ["tiny.yaml", "synthetic_sets.filtered", "plan 'hard'", "hardness-2"]),
    "set with unknown generator": (CONFIG, ["synthetic_sets", "filtered", "generator"], "large",
                                   ["synthetic_sets.filtered", "generator 'large'", "miniature"]),
    "generator of another data set": (CONFIG, ["generators", "miniature", "dataset"], "ade20k",
                                      ["synthetic_sets.filtered", "'miniature'", "ade20k", "miniworld"]),
    "sizes that differ": (CONFIG, ["generators", "miniature", "image_size"], 128,
                          ["generators.miniature.image_size = 128", "mask_size 64", "agree"]),
    "prompt of an unknown label": (CONFIG, ["generators", "miniature", "prompt_parts"], [{"text": "red", "label": 250}],
                                   ["generators.miniature.prompt_parts", "label 250", "class table"]),
    "prompt of nothing": (CONFIG, ["generators", "miniature", "prompt_parts"], [{"text": " "}], ["want text"]),
    "scorer that isn't there": (CONFIG, ["scorers", "miniworld", "experiment"], "none",
                                ["scorers.miniworld", "'none'", "real, synthetic"]),
    "scorer that isn't real": (CONFIG, ["scorers", "miniworld", "experiment"], "joint",
                               ["scorers.miniworld", "joint", "real images", "regime joint"]),
    "scorer's seed": (CONFIG, ["scorers", "miniworld", "train_seed"], 7, ["scorers.miniworld", "train_seed 7", "(0,)"]),
    "scorers without the data set": (CONFIG, ["scorers"], {}, ["scorers", "'miniworld'"]),
    "comparison that isn't there": (CONFIG, ["report", "miniworld", "improved"], "best",
                                    ["report.miniworld", "improved 'best'", "joint-unfiltered"]),
    "sheet that isn't there": (CONFIG, ["report", "miniworld", "contact_sheet"], "best",
                               ["report.miniworld", "contact_sheet 'best'", "filtered, unfiltered"]),
    "data root of no data set": (CONFIG, ["data_roots"], {"miniwrld": "data"},
                                 ["tiny.yaml", "data_roots", "'miniwrld'", "config/datasets", "miniworld"]),
    "scorer of no data set": (CONFIG, ["scorers", "miniwrld"], {"experiment": "real", "train_seed": 0},
                              ["tiny.yaml", "scorers", "'miniwrld'", "config/datasets"]),
    "comparison of no data set": (CONFIG, ["report", "miniwrld"],
                                  {"baseline": "real", "improved": "joint", "contact_sheet": "filtered"},
                                  ["tiny.yaml", "report", "'miniwrld'", "config/datasets"]),
    "generator of no data set": (CONFIG, ["generators", "spare"], SPARE,
                                 ["tiny.yaml", "generators.spare.dataset", "'miniwrld'", "config/datasets"]),
    "GPUs that don't divide": (CONFIG, ["training_gpus"], 2, ["training_gpus = 2", "'tiny'", "gpus = 1", "divisor"]),
    "nodes that don't divide": (CONFIG, ["training_nodes"], 3, ["training_nodes = 3", "divisor of training_gpus"]),
    "nodes 0": (CONFIG, ["training_nodes"], 0, ["training_nodes = 0", "minimum of 1"]),
    "unknown precision": (CONFIG, ["training_precision"], "half", ["training_precision = 'half'", "fp32", "bf16"]),
    "fp16 on the CPU": (CONFIG, ["training_precision"], "fp16", ["training_precision = fp16", "GPUs", "bf16"]),
    "unknown layout of weights": (MODELS, ["tiny", "initial_weights"], {"path": "a.pth", "convert": "resnet"},
                                  ["tiny_models.yaml", "convert = 'resnet'", "swin"]),
    "odd joint batch": (MODELS, ["other", "batch_size"], 3,
                        ["tiny_experiments.tsv", "joint-unfiltered", "'other'", "= 3", "even"]),
    "iterations of no data set": (MODELS, ["other", "iterations"], {"ade20k": 9},
                                  ["experiment joint-unfiltered", "'other'", "miniworld", "tiny_models.yaml"]),
    "models that are a list": (MODELS, None, ["tiny"], ["tiny_models.yaml", "(top level)", "object"]),
    "models that are empty": (MODELS, None, None, ["tiny_models.yaml", "(top level) = None", "object"]),
    "facts that are text": (FACTS, None, "miniworld", ["miniworld.yaml", "(top level)", "object"]),
    "masks of train ids": (FACTS, ["mask_suffix"], "_labelTrainIds.png",
                           ["miniworld.yaml", "mask_suffix = _labelTrainIds.png", "train ids", "number the classes"]),
    "one class": (FACTS, ["classes"], [{"label": 1, "name": "sky", "color": "#80c0ff"}],
                  ["miniworld.yaml", "one class", "background"]),
    "unset variable": (CONFIG, ["data_roots"], {"miniworld": "$NO_SUCH/data"}, ["$NO_SUCH/data", "set it"]),
    "ignored label 256": (FACTS, ["ignored_label"], 256, ["miniworld.yaml", "ignored_label = 256", "255"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_keys(clone, case):
    path, keys, value, wanted = WRONG_KEYS[case]
    if keys is None:
        write_yaml(clone / path, value)
    else:
        change(clone / path, *keys, value=value)
    text = message(clone)
    assert [part for part in wanted if part not in text] == [], text
    assert len(text) < 600


def test_ids_may_be_numbers(clone):
    """Neither 7 for 07 nor, in a column with empty cells, 2024.0 for 2024."""
    for path, name, number in ((MODELS, "tiny", "07"), (CONFIG, "filtered", "2024")):
        replace(clone / path, rf"\b{name}\b", f"'{number}'")
        replace(clone / EXPERIMENTS, rf"\t{name}\t", f"\t{number}\t")
    replace(clone / EXPERIMENTS, "^joint-unfiltered.*\n", "")
    *_, experiments = read(clone)
    assert experiments.model.tolist() == ["07"] * 4 and experiments.synthetic_set.tolist() == ["", *["2024"] * 3]


REAL = "real\tminiworld\ttiny\treal\t1\t\t0"
# pattern in a table, what replaces it, what the message must hold
WRONG_LINES = {
    "unknown model": (EXPERIMENTS, r"^real\tminiworld\ttiny", "real\tminiworld\thuge",
                      ["tiny_experiments.tsv", "experiment real", "model 'huge'", "tiny, other"]),
    "unknown set": (EXPERIMENTS, "unfiltered\t0$", "best\t0", ["experiment joint-unfiltered", "'best'", "unfiltered"]),
    "unknown data set": (EXPERIMENTS, "^real\tminiworld", "real\tminiwrld",
                         ["tiny_experiments.tsv, line 2", "'miniwrld'", "miniworld"]),
    "unknown regime": (EXPERIMENTS, "\tjoint\t1\tfiltered", "\tboth\t1\tfiltered",
                       ["tiny_experiments.tsv, line 5", "regime = 'both'", "finetune"]),
    "real with a set": (EXPERIMENTS, "\treal\t1\t\t", "\treal\t1\tfiltered\t",
                        ["tiny_experiments.tsv", "experiment real", "'filtered'", "empty it"]),
    "synthetic without a set": (EXPERIMENTS, "\tsynthetic\t1\tfiltered", "\tsynthetic\t1\t",
                                ["experiment synthetic", "synthetic_set ''", "filtered"]),
    "finetune without pre-training": (EXPERIMENTS, "^synthetic\tminiworld\ttiny", "synthetic\tminiworld\tother",
                                      ["'finetune'", "regime synthetic", "'tiny'", "'filtered'", "add one"]),
    "finetune with another seed": (EXPERIMENTS, "^(finetune.*)0$", r"\g<1>0,1", ["'finetune'", "0,1", "add one"]),
    "the same baseline twice": (EXPERIMENTS, r"^joint-unfiltered.*", "real-again\tminiworld\ttiny\treal\t1\t\t1",
                                ["tiny_experiments.tsv", "real-again", "'tiny'", "schedule 1", "one row"]),
    "unknown balance": (EXPERIMENTS, r"(?s)train_seeds\n.*", f"train_seeds\tbalance\n{REAL}\thalf\n",
                        ["line 2", "balance = 'half'", "repeat"]),
    "repeat without synthetic images": (
        EXPERIMENTS, r"(?s)train_seeds\n.*", f"train_seeds\tbalance\n{REAL}\trepeat\n",
        ["experiment real", "balance repeat", "joint"],
    ),  # fmt: skip
    "unknown study": (EXPERIMENTS, r"(?s)train_seeds\n.*", f"train_seeds\tstudy\n{REAL}\tside\n",
                      ["line 2", "study = 'side'", "ablation"]),
    "experiment twice": (EXPERIMENTS, "^joint-unfiltered", "joint", ["tiny_experiments.tsv", "'joint'", "twice"]),
    "schedule 1.5": (EXPERIMENTS, "\treal\t1\t", "\treal\t1.5\t", ["line 2", "schedule = 1.5", "Multiple"]),
    "seed -1": (EXPERIMENTS, "^(real.*)0$", r"\g<1>-1", ["line 2", "train_seeds = '-1'", "commas"]),
    "no seed": (EXPERIMENTS, "^(real.*)0$", r"\g<1>", ["line 2", "train_seeds = ''", "commas"]),
    "no seed on a later line": (EXPERIMENTS, "^(joint\t.*)0$", r"\g<1>", ["line 5", "train_seeds = ''", "commas"]),
    "no seed in common": (EXPERIMENTS, "^(joint\t.*)0$", r"\g<1>1", ["report.miniworld", "'joint'", "seed"]),
    "column missing": (EXPERIMENTS, "^experiment\t", "name\t", ["tiny_experiments.tsv", "'experiment'", "name"]),
    "no rows": (EXPERIMENTS, "(?s)\n.*", "\n", ["tiny_experiments.tsv", "no experiment", "miniworld"]),
    "empty table": (EXPERIMENTS, "(?s).+", "", ["tiny_experiments.tsv", "tab-separated"]),
    "label twice": (CLASSES, r"^2\t", "3\t", ["miniworld.tsv", "label 3", "more than one line"]),
    "label 300": (CLASSES, r"^2\t", "300\t", ["miniworld.tsv", "300", "0..255"]),
    "label in words": (CLASSES, r"^2\t", "two\t", ["miniworld.tsv", "label", "whole number"]),
    "ignored label as a class": (CLASSES, r"^2\t", "0\t", ["miniworld.tsv", "label 0", "ignored"]),
    "colour": (CLASSES, "#......$", "red", ["miniworld.tsv", "'red'", "#rrggbb"]),
    "no word": (CLASSES, r"^(2\t[^\t]+\t)[^\t]+", r"\g<1>", ["miniworld.tsv", "label 2", "word", "prompt"]),
    "no name": (CLASSES, r"^(2\t)[^\t]+", r"\g<1>", ["miniworld.tsv", "label 2", "name"]),
    "no class": (CLASSES, "(?s)\n.*", "\n", ["miniworld.tsv", "no class"]),
    "colour of other digits": (CLASSES, "#......$", "#-1-1-1", ["miniworld.tsv", "'#-1-1-1'", "#rrggbb"]),
    "empty label": (CLASSES, r"^2\t", "\t", ["miniworld.tsv", "an empty label", "whole number"]),
    "decimal comma": (CLASSES, r"^2\t", "2,0\t", ["miniworld.tsv", "label '2,0'", "whole number"]),
    "quote": (EXPERIMENTS, "^joint\t", '"joint\t', ["tiny_experiments.tsv", "tab-separated", "mend it"]),
    "key twice": (FACTS, "^mask_size: 64", "mask_size: 32\nmask_size: 64", ["'mask_size' stands twice"]),
    "octal": (FACTS, "ignored_label: 0", "ignored_label: 010", ["miniworld.yaml", "010 would be read as 8"]),
    "whole number with a dot": (FACTS, "mask_size: 64", "mask_size: 64.0", ["mask_size = 64.0", "integer"]),
    "no number": (CONFIG, "seconds_per_image: .*", "seconds_per_image: .nan", ["seconds_per_image = nan", "number"]),
    "endless": (CONFIG, "guidance_scale: .*", "guidance_scale: .inf", ["guidance_scale = inf", "maximum"]),
    "seed of 20 digits": (CONFIG, "first_seed: 42", f"first_seed: {10**20}", ["first_seed", "maximum"]),
    "train seed of 10 digits": (EXPERIMENTS, "^(real.*)0$", r"\g<1>4294967296", ["train_seeds", "9 digits"]),
    "YAML": (FACTS, "^title:", "title: [", ["miniworld.yaml", "not valid YAML", "line"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_LINES)
def test_wrong_lines(clone, case):
    path, pattern, replacement, wanted = WRONG_LINES[case]
    replace(clone / path, pattern, replacement)
    text = message(clone)
    assert [part for part in wanted if part not in text] == [], text


@pytest.mark.parametrize("key", ["shards", "generators", "report"])
def test_missing_keys(clone, key):
    config = read_yaml(clone / CONFIG)
    del config[key]
    write_yaml(clone / CONFIG, config)
    assert re.search(f"tiny.yaml: .*'{key}' is a required property; add it", message(clone))


def test_a_model_has_iterations_for_data_sets_that_nobody_listed(clone):
    change(clone / MODELS, "tiny", "iterations", value={"default": 7, "elsewhere": 9})
    change(clone / MODELS, "other", "iterations", value={"default": 7, "miniworld": 9})
    models = read_run(read_yaml(clone / CONFIG), CONFIG, clone)[1]
    assert [models[name]["iterations"]["miniworld"] for name in ("tiny", "other")] == [7, 9]


def test_a_power_of_ten_without_a_dot_is_a_number(clone):
    """To YAML 1.1, 3e-3 is text."""
    replace(clone / MODELS, "lr: 0.003", "lr: 3e-3")
    assert settings.read_yaml(clone / MODELS)["tiny"]["overrides"]["optim_wrapper"]["optimizer"]["lr"] == 0.003


def test_utf_16_is_named(clone):
    (clone / CLASSES).write_text((clone / CLASSES).read_text(), encoding="utf-16")
    assert "iconv -f utf-16 -t utf-8" in message(clone)


def test_a_misspelt_key_is_named():
    """It is missing as well, which says less."""
    with pytest.raises(InputError, match=r"tiny\.yaml: .*unknown key 'thread'; remove it or use one of: .*threads"):
        settings.check_schema({"thread": 1}, "config", "tiny.yaml")


def test_a_renamed_key_is_named(clone):
    change(clone / CONFIG, "generators", "miniature", "kind", value="controlnet")
    assert "tiny.yaml: generators.miniature: key 'kind' is now called 'method'; rename it" in message(clone)


@pytest.mark.parametrize(("source", "key"), [("pipeline", "path"), ("checkpoint", "path"), ("train", "training")])
def test_a_source_without_what_it_needs(clone, source, key):
    config = read_yaml(clone / CONFIG)
    config["generators"]["miniature"] |= {"source": source}
    config["generators"]["miniature"].pop(key, None)
    write_yaml(clone / CONFIG, config)
    assert f"tiny.yaml: generators.miniature: source {source} needs the key '{key}'; add it" in message(clone)


def test_controlnet_is_a_pipeline_folder(clone):
    change(clone / CONFIG, "generators", "miniature", "method", value="controlnet")
    change(clone / CONFIG, "generators", "miniature", "source", value="checkpoint")
    assert "generators.miniature: method controlnet with source checkpoint; it takes source: pipeline" in message(clone)


OUTSIDE = "toy_package.module:thing"


@pytest.mark.parametrize(
    "keys",
    [
        ("plans", "hardness-2", "strategy"),
        ("generators", "miniature", "method"),
        ("generators", "miniature", "scheduler"),
        ("synthetic_sets", "filtered", "filter"),
    ],
    ids=lambda keys: keys[-1],
)
def test_names_of_plug_ins_are_accepted(clone, keys):
    change(clone / CONFIG, *keys, value=OUTSIDE)
    read(clone)
    change(clone / CONFIG, *keys, value="nothing")
    key = ".".join(keys)
    assert re.search(rf"{key} = 'nothing': 'nothing' is not one of \[.*package.module:object", message(clone))


def test_home_and_variables_in_paths(clone, monkeypatch):
    monkeypatch.setenv("HOME", "/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    change(clone / CONFIG, "data_roots", value={"miniworld": "$SCRATCH/world"})
    change(clone / CONFIG, "generators", "miniature", "path", value="~/generator")
    config = read_yaml(clone / CONFIG)
    datasets, *_ = read_run(config, CONFIG, clone)
    assert datasets["miniworld"]["root"] == "/scratch/world"
    assert config["generators"]["miniature"]["path"] == "/me/generator"


def test_options_reach_the_scripts(fresh, clone):
    change(clone / CONFIG, "generators", "miniature", "method", value="controlnet")
    change(clone / CONFIG, "generators", "miniature", "compile", value=True)
    change(clone / CONFIG, "training_gpus", value=4)
    for name in ("tiny", "other"):
        change(clone / MODELS, name, "gpus", value=8)
    change(clone / MODELS, "tiny", "iterations", "elsewhere", value=7)
    change(clone / CONFIG, "models", value=str(clone / MODELS))
    printed = snakemake(fresh, "-n", "-p", config=str(clone / CONFIG))
    assert "elsewhere" not in printed  # another data set's iterations are no parameter of this one's trainings
    assert re.search(r"prepare_generator\.py .* --method controlnet ", printed)
    assert re.search(r"synthesize\.py .* --method controlnet --compile always ", printed)
    launched = "python -m freemask.devices --gpus 4 -- torchrun --standalone --nproc-per-node 4 -- "
    assert f"{launched}{fresh}/scripts/train.py" in printed


def test_evaluation_reaches_the_scripts(fresh, clone):
    change(clone / CONFIG, "evaluation", value={"scales": [0.5, 1.0], "flip": True, "pictures": 2})
    change(clone / CONFIG, "models", value=str(clone / MODELS))
    printed = snakemake(fresh, "-n", "-p", config=str(clone / CONFIG))
    folder = "results/miniworld/training/joint-unfiltered/seed-0"
    options = r" --scales 0\.5 1\.0 --flip "
    assert re.search(rf"{folder}/weights\.pth --checkpoint last{options}.*/1\.png \S*/2\.png --threads", printed)
    assert re.search(rf"{folder}/best\.pth --checkpoint best{options}.*best/per_class_iou\.tsv +--threads", printed)
    assert printed.count("rule evaluate_best:") == 1  # only the model `other` is validated during training
    assert "--best joint-unfiltered " in printed
    change(clone / CONFIG, "evaluation", "scales", value=[])
    assert "evaluation.scales" in message(clone)


def test_a_table_of_real_rows_only(clone):
    """No synthetic set at all: an empty column isn't text to pandas."""
    rows = ["experiment\tdataset\tmodel\tregime\tschedule\tsynthetic_set\ttrain_seeds"]
    rows += [f"{name}\tminiworld\ttiny\treal\t{times}\t\t0" for name, times in [("real", 1), ("real-2x", 2)]]
    (clone / EXPERIMENTS).write_text("\n".join(rows) + "\n")
    change(clone / CONFIG, "report", "miniworld", "improved", value="real-2x")
    _, _, experiments = read(clone)
    assert experiments.synthetic_set.tolist() == ["", ""]
    assert experiments.train_seeds.tolist() == [(0,), (0,)]


@pytest.mark.parametrize("ignored", [-1, 256, 0.5, "1"])
def test_ignored_label_fits_in_8_bits(clone, ignored):
    with pytest.raises(InputError, match="0..255"):
        LabelSpace.of_class_table(clone / CLASSES, ignored)


def test_missing_raw_data_says_what_and_where_from(clone, tmp_path):
    config = read_yaml(clone / "config/config.yaml") | {"data_roots": {"ade20k": str(tmp_path / "ade")}}
    datasets = {"ade20k": read_dataset("ade20k", config, clone)}
    (tmp_path / "ade/images/training").mkdir(parents=True)
    lines = list(missing_raw_data(config, datasets).values())
    assert len(lines) == 2  # COCO-Stuff's generator isn't this run's
    assert f"{tmp_path}/ade/images/validation" in lines[0]
    assert "data_roots.ade20k" in lines[0]
    assert "http" in lines[0]
    assert "weights/freestyle-sd-v1-4-ade20k.ckpt; from https://" in lines[1]
    told = list(missing_raw_data(config, datasets, ["my runs/b.yaml", "c.yaml"]).values())
    assert "`snakemake --cores 1 --configfile 'my runs/b.yaml' c.yaml -- fetch_ade20k` fetches it" in told[0]


WRONG_RUNS = {
    "schema": (["plans", "hardness-2", "n_max"], 0, "plans.hardness-2.n_max = 0: 0 is less than the minimum of 1"),
    "reference": (["synthetic_sets", "filtered", "plan"], "hard", "synthetic_sets.filtered: plan 'hard' isn't defined"),
}


@pytest.mark.parametrize("case", WRONG_RUNS)
def test_snakemake_prints_one_clear_error(fresh, clone, case):
    keys, value, wanted = WRONG_RUNS[case]
    change(clone / CONFIG, *keys, value=value)
    done = run_snakemake(fresh, "-n", config=str(clone / CONFIG))
    assert done.returncode != 0
    assert len(re.findall(r"^\w*(?:Error|Exception)\b", done.stdout, flags=re.MULTILINE)) == 1, done.stdout
    assert f"tiny.yaml: {wanted}" in done.stdout
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout


@pytest.mark.parametrize("improved", ["joint", "joint-unfiltered"])
def test_the_authors_numbers_stand_beside_the_improved_rows_set(fresh, clone, improved):
    change(clone / CONFIG, "report", "miniworld", "improved", value=improved)
    done = run_snakemake(fresh, "-n", "-p", "results/miniworld/tables/miou.md", config=str(clone / CONFIG))
    chosen = {"joint": "filtered", "joint-unfiltered": "unfiltered"}[improved]
    assert re.findall(r"--reported-set (\S+)", done.stdout) == [chosen], done.stdout


def test_a_key_of_the_run_that_stands_twice_is_refused(fresh, clone):
    """Snakemake itself reads the last one without a word."""
    (clone / CONFIG).write_text((clone / CONFIG).read_text() + "shards: 3\n")
    done = run_snakemake(fresh, "-n", config=str(clone / CONFIG))
    assert done.returncode != 0 and "tiny.yaml: not valid YAML; mend it: the key 'shards' stands twice" in done.stdout


def test_snakemake_wants_a_mapping(fresh, clone):
    (clone / CONFIG).write_text("- a\n- b\n")
    done = run_snakemake(fresh, "-n", config=str(clone / CONFIG))
    assert done.returncode != 0
    assert re.search("Config file must be given as JSON or YAML with keys at top level", done.stdout), done.stdout
    assert "Traceback" not in done.stdout


ASKED = {"a": {"question": "?", "differences": [["joint", "real"], ["later", "real"]]}}
EVIDENCE = {"classes": ["joint", "real"], "judge": "real", "sheets": [], "questions": ASKED, "advice": []}


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("judge", "joint", "evidence.judge: joint isn't trained on real images alone"),
        ("judge", "best", "evidence, data set miniworld: experiment 'best' isn't defined; use one of: real, synth"),
        ("classes", ["joint", "reel"], "evidence, data set miniworld: experiment 'reel' isn't defined"),
        ("another_world", "other.tsv", "other.tsv: no such table"),
        ("another_world", "results/miniworld/evidence/differences.tsv", "differences.tsv is written by this run"),
        ("sheets", ["all"], "evidence.sheets: synthetic set 'all' isn't defined; use one of: filtered, unfiltered"),
        ("questions", {"a": {"question": "?", "differences": [["joint"]]}}, "evidence.questions.a.differences.0"),
        ("advice", [{"text": "!", "difference": ["joint", "real", "over"]}], "evidence.advice.0.difference.2 = 'over'"),
        (
            "advice",
            [{"text": "!", "difference": ["real", "joint", "below"]}],
            "evidence.advice: difference 'real over joint' isn't defined; use one of: joint over real, later over real",
        ),
    ],
)
def test_what_evidence_needs_is_there(clone, key, value, wanted):
    change(clone / CONFIG, "evidence", value=EVIDENCE)
    read(clone)
    change(clone / CONFIG, "evidence", key, value=value)
    assert wanted in message(clone)


def test_a_named_run_may_show_the_unnamed_one_but_not_itself(clone):
    change(clone / CONFIG, "run", value="b")
    for folder, wanted in (("miniworld", "no such table"), ("miniworld@b", "is written by this run")):
        other = f"results/{folder}/evidence/differences.tsv"
        change(clone / CONFIG, "evidence", value=EVIDENCE | {"another_world": other})
        assert wanted in message(clone)


@pytest.mark.parametrize(("of", "seeds", "accepted"), [("joint", 3, True), ("joint", 0, False), ("other", 3, False)])
def test_another_world_was_asked_the_same(clone, tmp_path, of, seeds, accepted):
    table = tmp_path / "other.tsv"
    values = "difference low high rare rare_low rare_high result".replace(" ", "\t")
    table.write_text(f"of\tover\tseeds\t{values}\n{of}\treal\t{seeds}" + "\t1" * 6 + "\tabove\n")
    change(clone / CONFIG, "evidence", value=EVIDENCE | {"another_world": str(table)})
    if accepted:
        read(clone)
    else:
        assert "evidence.another_world: other.tsv: no difference that is asked for" in message(clone)


def test_anchors_that_are_merged_twice_are_no_repeated_keys(tmp_path):
    """The second merge reads what the first one put together."""
    path = tmp_path / "run.yaml"
    path.write_text("base: &x {alpha: 1}\ndeep: {own: &y {<<: *x, alpha: 2}}\nshallow: {<<: *y}\n")
    assert settings.read_yaml(path)["shallow"] == {"alpha": 2}
    path.write_text("a: {alpha: 1, alpha: 2}\n")
    with pytest.raises(InputError, match="the key 'alpha' stands twice"):
        settings.read_yaml(path)
