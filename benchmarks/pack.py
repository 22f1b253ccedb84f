"""Pack what a machine with torch and transformers alone lacks to run benchmarks/gpu.sh; see `pack`."""

import tarfile
from importlib.metadata import distribution
from pathlib import Path

from freemask import cli

# Installed distributions that are pure Python, or whose compiled parts aren't needed here.
PACKAGES = (
    "diffusers", "onedl-mmcv", "onedl-mmengine", "onedl-mmsegmentation", "onedl-mmdetection", "addict", "yapf",
    "termcolor", "terminaltables", "prettytable", "ftfy", "wcwidth", "importlib_metadata", "zipp", "platformdirs",
    "cyclopts", "attrs", "docstring_parser", "rich_rst", "docutils",
)  # fmt: skip
# Compiled files are of this machine's Python; of mmdetection's and mmcv's data only what is read.
LEFT_OUT = ("__pycache__", "mmdet/.mim", "mmcv/ops/csrc/common/mlu", "mmcv/ops/csrc/parrots", "docutils/writers", "../")
KEPT_CUDA = ("ms_deform_attn", "_helper")  # of mmcv's sources: those of deformable attention


def pack(*, archive: Path = Path("build/gpu-packages.tar.gz")) -> None:
    """Pack the installed packages that a bare machine with torch lacks: copy the archive there beside the repository.

    benchmarks/gpu.sh unpacks it and puts it on PYTHONPATH. Python files of other versions of Python work, compiled ones
    don't and are left out; the machine needs its own numpy, scipy, pandas, pillow, opencv, tqdm, pyyaml and regex.

    Args:
        archive: Output.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=6) as packed:
        for name in PACKAGES:
            for file in distribution(name).files or []:
                if wanted(str(file)) and (path := Path(file.locate())).is_file():
                    packed.add(path.resolve(), str(file), recursive=False)
    cli.tell(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")


def wanted(name: str) -> bool:
    """Whether a file of a distribution is packed."""
    if any(part in name for part in LEFT_OUT) or name.endswith((".so", ".pyc")):
        return False
    if "/csrc/" in name:
        return any(part in name for part in KEPT_CUDA)
    return True


if __name__ == "__main__":
    cli.run(pack)
