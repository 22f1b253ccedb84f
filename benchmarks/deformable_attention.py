"""mmcv's deformable attention where mmcv is installed without compiled ops, so that Mask2Former trains there."""

import os
import runpy
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

BINDING = """
#include <torch/extension.h>
at::Tensor ms_deform_attn_cuda_forward(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                       const at::Tensor&, const int);
void ms_deform_attn_cuda_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                  const at::Tensor&, const at::Tensor&, at::Tensor&, at::Tensor&, at::Tensor&,
                                  const int);
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("ms_deform_attn_forward", &ms_deform_attn_cuda_forward, py::arg("value"), py::arg("value_spatial_shapes"),
        py::arg("value_level_start_index"), py::arg("sampling_locations"), py::arg("attention_weights"),
        py::arg("im2col_step"));
  m.def("ms_deform_attn_backward", &ms_deform_attn_cuda_backward, py::arg("value"), py::arg("value_spatial_shapes"),
        py::arg("value_level_start_index"), py::arg("sampling_locations"), py::arg("attention_weights"),
        py::arg("grad_output"), py::arg("grad_value"), py::arg("grad_sampling_loc"), py::arg("grad_attn_weight"),
        py::arg("im2col_step"));
}
"""


def build(folder: Path) -> Any:
    """Compile the one op from the sources that mmcv brings; a minute, with CUDA's compiler and ninja."""
    import mmcv
    from torch.utils.cpp_extension import load

    sources = Path(mmcv.__file__).parent / "ops/csrc"
    folder.mkdir(parents=True, exist_ok=True)
    atomics = folder / "THC/THCAtomics.cuh"  # its place in older versions of torch
    atomics.parent.mkdir(exist_ok=True)
    atomics.write_text("#include <ATen/cuda/Atomic.cuh>\n")
    binding = folder / "binding.cpp"
    binding.write_text(BINDING)
    return load(
        "deformable_attention",
        [str(binding), str(sources / "pytorch/cuda/ms_deform_attn_cuda.cu")],
        extra_include_paths=[str(folder), str(sources / "common"), str(sources / "common/cuda")],
        extra_cflags=["-DMMCV_WITH_CUDA", "-O2"],
        extra_cuda_cflags=["-DMMCV_WITH_CUDA", "-O2", "-D__CUDA_NO_HALF_OPERATORS__", "-D__CUDA_NO_HALF_CONVERSIONS__"],
        build_directory=str(folder),
        verbose=True,
    )


def provide(folder: Path) -> str:
    """Make mmcv.ops importable; returns what computes deformable attention: mmcv, compiled or PyTorch.

    mmdetection imports every op of mmcv and Mask2Former calls one. The others, and packages that mmdetection imports
    and this doesn't call, are replaced by names.
    """
    for name in ("pycocotools", "pycocotools.mask", "pycocotools.coco", "pycocotools.cocoeval", "shapely",
                 "shapely.geometry"):  # fmt: skip
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = _Names(name)
    try:
        import mmcv._ext

        return "mmcv"
    except ImportError:
        pass
    made = sys.modules["mmcv._ext"] = _Names("mmcv._ext")
    import mmcv

    mmcv._ext = made
    try:
        op = build(folder)
    except Exception as error:  # no compiler, or one that doesn't fit
        sys.stderr.write(f"deformable attention isn't compiled: {str(error)[-2000:]}\n")
        from mmcv.ops import multi_scale_deform_attn as own

        own.IS_CUDA_AVAILABLE = False  # takes its PyTorch implementation
        return "PyTorch"
    made.ms_deform_attn_forward, made.ms_deform_attn_backward = op.ms_deform_attn_forward, op.ms_deform_attn_backward
    return "compiled"


class _Names(types.ModuleType):
    """A module that has every name; nothing of it may be called."""

    __path__: list[str] = []

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


if __name__ == "__main__":  # deformable_attention.py FOLDER SCRIPT OPTIONS...: before mmseg looks for mmdetection
    os.environ["DEFORMABLE_ATTENTION"] = provide(Path(sys.argv[1]).resolve())
    sys.argv = sys.argv[2:]
    if sys.argv:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
