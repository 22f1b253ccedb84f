"""Several processes and nodes, precision and initial weights of real trainings, a few iterations long."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from test_segmentation import ROOT, call, configure, load, same, train, world  # noqa: F401 - a fixture

from freemask.errors import InputError
from freemask.segmentation import optimizers
from freemask.workflow import launch

# A srun that starts its command as often as --ntasks says, each as on a node of its own.
SRUN = """#!/usr/bin/env python3
import subprocess, sys
options = [word for word in sys.argv[1:] if word.startswith("--")]
start = next(number for number, word in enumerate(sys.argv[1:], 1) if not word.startswith("--"))
tasks = int(next(word for word in options if word.startswith("--ntasks=")).partition("=")[2])
assert {"--ntasks-per-node=1", "--cpus-per-task=2", "--kill-on-bad-exit=1"} <= set(options), options
running = [subprocess.Popen(sys.argv[start:]) for _ in range(tasks)]
sys.exit(max(process.wait() for process in running))
"""
POISONED = """
import runpy, sys
from freemask.segmentation import datasets
original = datasets.PairListDataset.prepare_data
def poisoned(self, index):
    pair = original(self, index)
    pair["inputs"] = pair["inputs"].float() * (float("nan") if index == 3 else 1)
    return pair
datasets.PairListDataset.prepare_data = poisoned
script = sys.argv.pop(1)
runpy.run_path(script, run_name="__main__")
"""


def resolved(name, ranks, batch):
    """A config of two images an update in which nothing depends on a rank's own batch."""
    entry = yaml.safe_load(Path("models.yaml").read_text())["tiny"]
    overrides = entry["overrides"]
    overrides["model"]["backbone"]["drop_path_rate"] = 0.0
    overrides["model"]["decode_head"] |= {"dropout_ratio": 0.0, "norm_cfg": {"type": "GN", "num_groups": 8}}
    overrides["optim_wrapper"]["optimizer"] = {"_delete_": True, "type": "SGD", "lr": 0.01, "weight_decay": 0.0}
    overrides["train_cfg"]["val_interval"], overrides["val_dataloader"]["batch_size"] = 3, 1
    settings = json.dumps(entry | {"batch_size": batch, "gpus": ranks})
    call("training_config", settings=settings, gpus=ranks, config=f"{name}/seed-0/config.py", dataset="tiny",
         label_space="label_space.json", regime="joint", train="real.tsv", synthetic="synthetic.tsv",
         val="val.tsv", train_seed=0)  # fmt: skip
    return f"{name}/seed-0/config.py"


def environment(**more):
    paths = {"PYTHONPATH": str(ROOT), "PATH": f"{Path.cwd()}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1", **more}


def test_the_command_of_one_process_of_one_node_and_of_several():
    assert launch.training(0) == launch.training(1) == "python"
    one = launch.training(8)
    assert one == "python -m freemask.devices --gpus 8 -- torchrun --standalone --nproc-per-node 8 --"
    assert "srun --ntasks=2 " in launch.training(8, 2) and " --nnodes 2 --nproc-per-node 4 " in launch.training(8, 2)


def test_two_nodes_train_as_one_process_does(world):  # noqa: F811
    """The rule's own command line, under a srun that starts both nodes' torchruns here."""
    call("train", config=resolved("one-node", 1, 2), weights="one-node.pth", threads=1)
    Path("srun").write_text(SRUN)
    Path("srun").chmod(0o755)
    command = f"threads=2; {launch.training(2, 2)} {ROOT}/scripts/train.py --config {resolved('two-nodes', 2, 1)}"
    subprocess.run(
        ["bash", "-c", f"{command} --weights two-nodes.pth --threads 1 --log two-nodes.log"],
        env=environment(SLURM_JOB_ID=str(os.getpid())),
        check=True,
        timeout=180,
    )
    one, two = load("one-node.pth"), load("two-nodes.pth")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)
    # Validations in the middle: each process takes its share of the five images, and all of them count.
    (images, wanted), (share, found) = validations("one-node"), validations("two-nodes")
    assert (images, share) == (5, 3) and len(wanted) == 2
    assert found == pytest.approx(wanted, abs=0.5)  # percent: a pixel of 5,000 may tip


def validations(name):
    """Images that the first process of a training takes in a validation, and the mIoU of each validation [percent]."""
    (log,) = Path(name, "seed-0/work").glob("*/*.log")
    images = {int(last) for last in re.findall(r"Iter\(val\) \[ *\d+/(\d+)\]    eta", log.read_text())}
    (scalars,) = Path(name, "seed-0/work").glob("*/vis_data/scalars.json")
    rows = map(json.loads, scalars.read_text().splitlines())
    (count,) = images
    return count, [row["mIoU"] for row in rows if "mIoU" in row]


def test_all_ranks_stop_where_one_has_a_loss_that_is_not_finite(world):  # noqa: F811
    """Started without torchrun, which would end the others: each must end by itself, and name the other's images."""
    config = resolved("poisoned-ranks", 2, 1)
    Path("poisoned.py").write_text(POISONED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "poisoned.py", str(ROOT / "scripts/train.py"), "--config", config, "--weights", "p.pth"]
    ranks = [
        subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                         text=True, env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                                                    MASTER_ADDR="127.0.0.1", MASTER_PORT=port))
        for rank in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    try:
        printed = [process.communicate(timeout=max(1, deadline - time.monotonic()))[1] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [1, 1], printed
    for text in printed:
        assert "loss is nan" in text and "Batch: real/3.jpg" in text and text.count(".jpg") == 1, text
    assert not Path("p.pth").exists()
    # a checkpoint of before may be there, one with spoiled weights not
    for path in Path("poisoned-ranks/seed-0/work").glob("iter_*.pth"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


def test_bfloat16_trains_on_the_cpu(world):  # noqa: F811
    single, half = load(train("in-fp32")), load(train("in-bf16", precision="bf16"))
    assert not same(single, half)
    assert all(value.dtype == single[name].dtype and torch.isfinite(value).all() for name, value in half.items())


def test_a_training_in_bfloat16_is_refused_on_a_v100(world, monkeypatch):  # noqa: F811
    config = configure("on-v100", precision="bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(InputError, match="bfloat16 needs .* Tesla V100 has 7.0"):
        call("train", config=config, weights="on-v100.pth")


def test_forward_passes_are_in_bfloat16_and_steps_in_float32():
    layer = torch.nn.Linear(3, 2)
    wrapper = optimizers.BFloat16OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.5))
    with wrapper.optim_context(layer):
        out = layer(torch.ones(1, 3))
    assert out.dtype == torch.bfloat16
    before = layer.bias.detach().clone()
    wrapper.update_params(out.float().sum())
    torch.testing.assert_close(layer.bias, before - 0.5)  # d sum / d bias = 1
    assert layer.bias.dtype == torch.float32


def test_initial_weights_reach_a_training(world):  # noqa: F811
    """Two iterations' weights with and without; a file of another model ends the run before its first iteration."""
    backbone = {name.removeprefix("backbone."): value for name, value in load(train("scratch")).items()
                if name.startswith("backbone.")}  # fmt: skip
    torch.save(backbone, "start.pth")
    entry = yaml.safe_load(Path("models.yaml").read_text())["tiny"]
    entry["iterations"] = {"tiny": 1}
    entry["overrides"]["optim_wrapper"]["optimizer"]["lr"] = 1e-9
    options = {"dataset": "tiny", "label_space": "label_space.json", "regime": "real", "train": "real.tsv",
               "val": "val.tsv", "train_seed": 0}  # fmt: skip

    def run(name, **weights):
        settings = json.dumps(entry | {"initial_weights": weights})
        call("training_config", settings=settings, config=f"{name}/seed-0/config.py", **options)
        call("train", config=f"{name}/seed-0/config.py", weights=f"{name}.pth", threads=1)
        return load(f"{name}.pth")

    begun = run("begun", path="start.pth")
    for name, value in backbone.items():
        torch.testing.assert_close(begun[f"backbone.{name}"], value, rtol=1e-3, atol=1e-6)
    backbone.pop("layers.1.0.projection.weight")
    torch.save(backbone, "short.pth")
    with pytest.raises(InputError, match=r"short\.pth: .*it lacks layers\.1\.0\.projection\.weight"):
        run("short", path="short.pth")
    with pytest.raises(InputError, match=r"start\.pth: SHA-256 is"):
        run("digest", path="start.pth", sha256="0" * 64)
    with pytest.raises(InputError, match=r"start\.pth: not weights in the layout 'mit'.*leave it out"):
        run("layout", path="start.pth", convert="mit")
    with pytest.raises(InputError, match=r"absent\.pth: no such file"):
        run("absent", path="absent.pth")


def test_configure_writes_the_balance(world):  # noqa: F811
    assert "'repeat_real': True" in configure("repeated", "joint", balance="repeat").read_text()
    assert "BalancedSampler" in configure("exact", "joint").read_text()
