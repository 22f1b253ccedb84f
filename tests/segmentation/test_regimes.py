"""The tables of regimes and samplers, and entries from outside the package."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
from tiny_training import ROOT, call, configure

from freemask.errors import InputError
from freemask.segmentation.regimes import REGIMES, Regime, find_regime

TOY = '''
from mmseg.registry import DATA_SAMPLERS
from freemask.segmentation.regimes import Regime
from freemask.segmentation.samplers import PositionSampler

# joint training that starts from the synthetic one, at a tenth of the rate
GENTLE = Regime("synthetic, then both", real=True, synthetic=True, pretrained="synthetic", rate=0.1, sampler=None)
ORDERED = Regime("real, in order", real=True, sampler="toy_plugins:InOrder")


class InOrder(PositionSampler):
    """All pairs in the order of their tables."""

    def pair(self, position):
        return position % sum(self.sizes)
'''


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A working directory with a model that trains in a second, and a module of plug-ins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    tiny_training.write_world(3)
    Path("toy_plugins.py").write_text(TOY)
    yield tmp_path
    sys.modules.pop("toy_plugins", None)


def test_every_regime_trains_on_something_and_starts_from_one_that_exists():
    assert list(REGIMES) == ["real", "synthetic", "finetune", "joint"]
    for regime in REGIMES.values():
        assert regime.real or regime.synthetic
        assert regime.pretrained is None or regime.pretrained in REGIMES
    assert {name for name, regime in REGIMES.items() if regime.needs_synthetic_set} == {
        "synthetic",
        "finetune",
        "joint",
    }
    assert {name for name, regime in REGIMES.items() if regime.only_real} == {"real"}


def test_a_regime_that_starts_from_real_images_needs_no_synthetic_set():
    assert Regime("longer", real=True, pretrained="real").only_real


def test_an_unknown_regime_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match=r"regime 'jonit' isn't known; use one of real, synthetic, finetune, joint"):
        find_regime("jonit")


def test_the_table_imports_neither_torch_nor_mmengine():
    code = (
        "import sys, freemask.segmentation.experiments as e; sys.exit(bool({'torch', 'mmengine'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_regime_from_outside(world):
    assert find_regime("toy_plugins:GENTLE").needs_synthetic_set
    with pytest.raises(InputError, match="regime toy_plugins:GENTLE of a needs initial"):
        configure("a", "toy_plugins:GENTLE")
    config = configure("b", "toy_plugins:GENTLE", initial="start.pth")
    from freemask.segmentation.runner import read_config

    plain, gentle = read_config(configure("c", "real")), read_config(config)
    assert gentle.train_dataloader.dataset.lists == ["real.tsv", "synthetic.tsv"]
    assert gentle.train_dataloader.sampler.type == "BalancedSampler" and gentle.load_from == "start.pth"
    assert gentle.optim_wrapper.optimizer.lr == plain.optim_wrapper.optimizer.lr * 0.1


def test_a_regime_and_a_sampler_from_outside_train(world):
    """By the scripts' own command lines, which find them in the working directory."""
    config = configure("ordered", "toy_plugins:ORDERED")
    assert "'type': 'toy_plugins.InOrder'" in config.read_text()
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", config, "--weights", "ordered.pth"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path("ordered.pth").exists()


def test_a_sampler_from_outside_is_a_balance(world):
    config = configure("mixed", "joint", balance="toy_plugins:InOrder")
    call("train", config=config, weights="mixed.pth", threads=1)
    assert Path("mixed.pth").exists()
    with pytest.raises(InputError, match="balance 'half' isn't known; use one of shuffled, exact, repeat"):
        configure("unknown", "joint", balance="half")
