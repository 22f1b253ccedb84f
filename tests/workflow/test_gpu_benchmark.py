"""benchmarks/gpu.sh without a GPU: the options of every part are those of its script, the table is made."""

import importlib
from pathlib import Path

import pytest

from freemask import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


@pytest.mark.parametrize("dry", [True, False])
def test_every_part_has_a_command_that_its_script_takes(gpu, tmp_path, dry):
    parts = gpu.plan(tmp_path / "gpu.json", dry, 16)
    assert list(parts)[-4:] == ["compiled", "again", "training_compiled", "regional"]  # compilation comes last
    for _, words in parts.values():
        if words[0] == "deformable_attention.py":
            words = [Path(words[2]).name, *words[3:]]
        name = words[0].removesuffix(".py")
        app = cli.command_line(getattr(importlib.import_module(name), name))
        options = app(words[1:], print_error=False, exit_on_error=False, result_action="return_value")
        assert options["json"].parent == tmp_path


def test_the_table_shows_ratios_and_shares(gpu, capsys):
    gpu.table({
        "machine": {"gpu": "a card", "torch": "2"},
        "rates": {"matmul_float16": 700e12, "unet_flop": 0.8e12},
        "eager": {"image_float16_8": 0.36},
        "training_a": {"theirs_iterations_a_second": 3.0, "ours_iterations_a_second": 6.0},
        "scoring_a": {"seconds": 2.0, "plain_seconds": 7.0},
    })  # fmt: skip
    shown = capsys.readouterr().err
    assert "| 0.360 | 32 % |" in shown  # 102 * 0.8 TFLOP / 0.36 s / 700 TFLOP/s
    assert "training_a, ours: iterations/s, times theirs | 6.00 | 2.00 |" in shown and "| 2.00 | 3.50 |" in shown
