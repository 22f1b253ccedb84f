"""The house: pins that agree, one version number, compiled ops where the tests promise them; make."""

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ["constraints.txt", "requirements-openmmlab.txt", "requirements-mask2former.txt"]
# GPU environments keep the last torch with kernels for V100s.
GPU_TORCH = "2.10.0"


def pins(name: str) -> dict[str, str]:
    """Return package -> version of all package==version in a file."""
    found = re.findall(r"([A-Za-z0-9_.-]+)==([0-9][\w.]*)", (ROOT / name).read_text())
    return {package.lower().replace("_", "-"): pinned for package, pinned in found}


def all_pins() -> dict[str, str]:
    return {package: pinned for name in REQUIREMENTS for package, pinned in pins(name).items()}


def test_one_version_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_installed_is_what_is_pinned(name):
    wanted = pins(name)
    assert wanted, f"{name} pins nothing"
    assert {package: version(package).partition("+")[0] for package in wanted} == wanted


def test_every_direct_requirement_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for names in project["optional-dependencies"].values() for name in names),
    ]
    assert {re.match(r"[\w.-]+", name)[0] for name in wanted} <= set(all_pins())


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.*")), ids=lambda path: path.name)
def test_cluster_environments_agree_with_the_pins(path):
    wanted = all_pins() | {"torch": GPU_TORCH}
    found = pins(f"envs/{path.name}")
    assert found == {package: wanted.get(package) for package in found}


@pytest.mark.ops
def test_compiled_ops_run():
    """The IoU of two unit squares that share half: 0.5 / 1.5."""
    import torch
    from mmcv.ops import box_iou_rotated

    square, shifted = torch.tensor([[0.5, 0.5, 1, 1, 0.0]]), torch.tensor([[1.0, 0.5, 1, 1, 0.0]])
    assert box_iou_rotated(square, shifted).item() == pytest.approx(1 / 3)


def test_make_names_a_missing_configuration():
    done = subprocess.run(["make", "help", "CONFIG=none.yaml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "CONFIG: no such file: none.yaml" in done.stderr


def test_make_clean_leaves_no_plan_to_status(tmp_path):
    """Its jobs would count as done."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/plan.json").touch()
    subprocess.run(["make", "-f", ROOT / "Makefile", "clean", "CONFIG="], cwd=tmp_path, check=True)
    assert not list((tmp_path / "logs").iterdir())
