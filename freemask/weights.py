"""Weights: files read without executing anything that they hold, and the arithmetic that GPUs support.

mmengine's own loader falls back to full unpickling, and what it allows contains getattr. Here torch's weights-only
unpickler is used. Beside tensors and plain values it accepts the names in PLACEHOLDERS and of the packages in
TRAINING_PROGRAMS, and makes a Placeholder of each.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from freemask.errors import InputError


class Placeholder:
    """Replaces a value beside the weights: takes any arguments and ignores them."""

    def __new__(cls, *_arguments: Any) -> "Placeholder":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, _state: Any) -> None:
        """Ignore the state."""


# Names in mmengine's message hub (histories of loss and learning rate) and in NumPy's scalars. None is ever called.
PLACEHOLDERS = (
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"{core}.multiarray.{name}" for core in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in ("Bool", "Int32", "Int64", "Float32", "Float64")),
)
TRAINING_PROGRAMS = ("pytorch_lightning.", "lightning.")  # Lightning saves the states of callbacks by their classes


def load_safely(path: str | Path, mmap: bool = False) -> Any:
    """Load the content of a PyTorch file to the CPU.

    Args: mmap: map the tensors from the file where its format allows it, so that they take memory when they are used.
    Raises: InputError for a file that is missing or damaged, or holds anything but tensors, plain values and what
        Placeholder stands for.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with _only([*PLACEHOLDERS, *(name for name in names if name.startswith(TRAINING_PROGRAMS))]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check the path, or run the rule that makes it") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|`?([\w.]+)`? whose module|Unsupported class (\S+)", str(error))
        what = next(name for name in found.groups() if name) if found else str(error).partition("\n")[0]
        raise InputError(
            f"{path}: not only weights: {what} would be executed by loading it, so it isn't loaded. If you trust its "
            "makers, save the state_dict alone elsewhere, and give that file"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{path}: no PyTorch checkpoint, or damaged ({error}); fetch it again") from None


@contextmanager
def _only(names: Sequence[str]) -> Iterator[None]:
    """Allow these names, each as a placeholder, and nothing that other libraries have allowed in this process."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals([(Placeholder, name) for name in names])
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def refuse_emulated_bfloat16() -> None:
    """Raises: InputError on a GPU that emulates bfloat16, slowly (torch.cuda.is_bf16_supported() is true there)."""
    if torch.cuda.is_available() and (found := torch.cuda.get_device_capability()) < (8, 0):
        name, capability = torch.cuda.get_device_name(), ".".join(map(str, found))
        raise InputError(f"bfloat16 needs compute capability 8.0, {name} has {capability}; use float16 or float32")
