"""Files of weights read without executing anything that they hold.

mmengine's own loader falls back to full unpickling, and what it allows contains getattr. Here torch's weights-only
unpickler is used: beside tensors and plain values it knows the names in HARMLESS only, and makes a placeholder of each.
"""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from freemask.errors import InputError


class Placeholder:
    """Stands for a value beside the weights: takes whatever it is made from and does nothing with it."""

    def __new__(cls, *_arguments: Any) -> "Placeholder":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *_arguments: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, _state: Any) -> None:
        """Ignore the state."""


# What mmengine's message hub (histories of loss and learning rate) is pickled with; none of these is ever called.
HARMLESS = (
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(f"{core}.multiarray.{name}" for core in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")),
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in ("Bool", "Int32", "Int64", "Float32", "Float64")),
)


def load_harmless(path: str | Path) -> Any:
    """What a PyTorch file holds, on the CPU.

    Raises: InputError for a file that isn't there, is damaged, or holds anything but tensors, plain values and what
    HARMLESS names.
    """
    try:
        with _only_harmless():
            return torch.load(path, map_location="cpu", weights_only=True)
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
def _only_harmless() -> Iterator[None]:
    """Allow HARMLESS, each name as a placeholder, and nothing that other libraries have allowed in this process."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals([(Placeholder, name) for name in HARMLESS])
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
