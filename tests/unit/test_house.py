"""The house: pins that agree, one version number, compiled ops where the tests promise them."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, str]:
    """Return the package -> version of a file with lines package==version."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / name).read_text(), flags=re.MULTILINE))


def test_one_version_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["constraints.txt", "requirements-openmmlab.txt", "requirements-mask2former.txt"])
def test_installed_is_what_is_pinned(name):
    wanted = pins(name)
    assert wanted, f"{name} pins nothing"
    assert {package: version(package).partition("+")[0] for package in wanted} == wanted


@pytest.mark.ops
def test_compiled_ops_run():
    """The box IoU of two unit squares that share half: 0.5 / 1.5."""
    import torch
    from mmcv.ops import box_iou_rotated

    square, shifted = torch.tensor([[0.5, 0.5, 1, 1, 0.0]]), torch.tensor([[1.0, 0.5, 1, 1, 0.0]])
    assert box_iou_rotated(square, shifted).item() == pytest.approx(1 / 3)
