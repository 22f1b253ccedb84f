"""The conda environment of each rule holds what its script imports, also inside functions and through freemask."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# packages whose import name is another
PACKAGES = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "cv2": "opencv-python-headless",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmengine": "onedl-mmengine",
    "mmseg": "onedl-mmsegmentation",
    "yaml": "pyyaml",
}


def rules() -> list[tuple[str, str, str]]:
    """Return (rule, environment, script) of every rule that runs a script."""
    found = []
    for path in sorted((ROOT / "rules").glob("*.smk")):
        parts = re.split(r"^rule (\w+)", path.read_text(), flags=re.MULTILINE)[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            script, environment = re.search(r"scripts/(\w+)\.py", body), re.search(r"envs/(\w+)\.yaml", body)
            if script:
                found.append((name, environment[1] if environment else "none", script[1]))
    return found


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path, seen: set[Path]) -> set[str]:
    """Return the packages that a file needs, itself or through modules of freemask."""
    if path in seen:
        return set()
    seen.add(path)
    needed = set()
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "freemask":
            for depth in range(len(rest) + 1):
                module = ROOT.joinpath(top, *rest[:depth])
                for file in (module.with_suffix(".py"), module / "__init__.py"):
                    needed |= packages(file, seen) if file.exists() else set()
        elif top not in sys.stdlib_module_names:
            needed.add(PACKAGES.get(top, top))
    return needed


@pytest.mark.parametrize(("rule", "environment", "script"), rules())
def test_environment_holds_what_the_script_imports(rule, environment, script):
    # segmentation.post-deploy.sh completes segmentation.yaml
    files = sorted((ROOT / "envs").glob(f"{environment}.*"))
    assert files, f"rule {rule} names no environment of envs/"
    held = set(re.findall(r"([\w-]+)==", "\n".join(file.read_text() for file in files)))
    assert packages(ROOT / "scripts" / f"{script}.py", set()) <= held
