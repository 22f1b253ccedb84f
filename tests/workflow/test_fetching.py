"""The rules that fetch: they run although data are missing, on this machine, and a run without data names them."""

import hashlib
import io
import re
import zipfile

import pytest
import tiny_run
from file_server import FileServer, Page
from hub_server import COMMIT, CONTENTS, Hub, pointing_to
from tiny_run import change, copy_repository, planned, read_yaml, run_snakemake, snakemake, write_yaml

FACTS, MODELS, RUN = "config/datasets/ade20k.yaml", "config/models.yaml", "config/config.yaml"
WEIGHTS = "weights/mit_b2_20220624-66e8bf70.pth"


def archive() -> bytes:
    """ADE20K's folders with a file in each."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for folder in ("images/training", "images/validation", "annotations/training", "annotations/validation"):
            zipped.writestr(f"ADEChallengeData2016/{folder}/1.txt", folder)
    return buffer.getvalue()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The paper's run on ADE20K with addresses on this machine, and what serves them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder, server = copy_repository(tmp_path / "clone"), FileServer()
    server.pages = {"ade.zip": Page(archive()), "mit_b2_20220624-66e8bf70.pth": Page(b"initial"),
                    "freestyle.ckpt": Page(b"checkpoint")}  # fmt: skip
    facts = read_yaml(folder / FACTS)
    facts["archives"] = [{"url": server.url("ade.zip"), "folder": "ADEChallengeData2016", "unpack_to": "."}]
    write_yaml(folder / FACTS, facts)
    source = {"url": server.url("mit_b2_20220624-66e8bf70.pth"), "sha256": hashlib.sha256(b"initial").hexdigest()[:8]}
    change(folder / MODELS, "segformer_mit-b2", "initial_weights", value=source)
    config = read_yaml(folder / RUN) | {"datasets": ["ade20k"]}
    config["generators"]["freestyle-ade20k"]["address"] = server.url("freestyle.ckpt")
    write_yaml(folder / RUN, config)
    yield folder
    server.close()


def test_fetch_then_plan(clone):
    checkpoint = "weights/freestyle-sd-v1-4-ade20k.ckpt"
    refused = run_snakemake(clone, "table_ade20k", config=None)
    assert refused.returncode != 0
    assert "`snakemake --cores 1 fetch_ade20k` fetches it" in refused.stdout
    assert f"`snakemake --cores 1 {checkpoint}` fetches it" in refused.stdout
    printed = snakemake(clone, "fetch_ade20k", WEIGHTS, checkpoint, config=None)
    assert "missing" not in printed
    # local: no cluster job
    assert len(re.findall(r"^localrule fetch_", printed, flags=re.MULTILINE)) == 3
    assert (clone / "data/ade20k/ADEChallengeData2016/annotations/validation/1.txt").exists()
    assert (clone / WEIGHTS).read_bytes() == b"initial"
    assert (clone / checkpoint).read_bytes() == b"checkpoint"
    output = snakemake(clone, "ade20k_segformer_mit-b2_joint", "-n", config=None)
    assert "issing, nothing can run" not in output
    jobs = planned(output)
    # the joint training and the segmentor that scores: one's initial weights are here, the other's are fetched for it
    fetched = [wildcards for rule, wildcards in jobs if rule == "fetch_weights_file"]
    assert fetched == ["file=mit_b4_20220624-d588d980.pth"]
    block = re.search(r"^rule train:(?:\n    .*)*mit-b2_joint(?:\n    .*)*", output, flags=re.MULTILINE)[0]
    assert WEIGHTS in block


def test_every_weight_of_the_configuration(clone):
    jobs = planned(snakemake(clone, "fetch_weights", "-n", config=None))
    files = {wildcards for rule, wildcards in jobs if rule == "fetch_weights_file"}
    assert len(files) == 8  # seven models and a generator
    assert "file=freestyle-sd-v1-4-ade20k.ckpt" in files


def test_stable_diffusion_for_a_generator_that_is_trained(clone, monkeypatch):
    """Asked for by name or with all weights, never by itself: the run that needs it says where to get it."""
    config = read_yaml(clone / RUN)
    training = dict.fromkeys(("steps", "batch_size", "warmup"), 1) | {
        "learning_rate": 1e-5,
        "ema_decay": 0.9,
        "seed": 0,
    }
    training |= {"prompt_dropout": 0.1, "init": "weights/sd", "init_address": f"hf://someone/sd@{COMMIT}"}
    released = config["generators"]["freestyle-ade20k"]
    kept = {key: value for key, value in released.items() if key not in ("path", "address")}
    config["generators"]["mine"] = kept | {"source": "train", "training": training}
    write_yaml(clone / RUN, config)
    jobs = planned(snakemake(clone, "fetch_weights", "-n", config=None))
    assert ("fetch_weights_file", "file=sd/model_index.json") in jobs
    target = "results/ade20k/generator_training/mine/pipeline/model_index.json"
    printed = snakemake(clone, target, "-n", config=None)
    command = "`snakemake --cores 1 weights/sd/model_index.json` fetches it"
    assert f"generator mine: weights/sd; from hf://someone/sd@{COMMIT}; {command}" in printed
    assert not [wildcards for rule, wildcards in planned(printed) if rule == "fetch_weights_file"]
    hub = Hub()
    usual = tiny_run.environment
    monkeypatch.setattr(tiny_run, "environment", lambda folder: usual(folder) | pointing_to(hub, folder / "cache"))
    snakemake(clone, "weights/sd/model_index.json", config=None)
    hub.close()
    assert all((clone / "weights/sd" / path).read_bytes() == content for path, content in CONTENTS.items())
    assert "generator mine" not in snakemake(clone, target, "-n", config=None)
