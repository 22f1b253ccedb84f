"""Files of weights are read without executing anything; bfloat16 only where GPUs compute in it."""

import contextlib

import numpy as np
import pytest
import torch

from freemask.errors import InputError
from freemask.weights import Placeholder, load_safely, refuse_emulated_bfloat16


@pytest.mark.parametrize(("capability", "refused"), [((7, 0), True), ((8, 0), False)])
def test_bfloat16_needs_capability_8(monkeypatch, capability, refused):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    expected = pytest.raises(InputError, match="V100 has 7.0") if refused else contextlib.nullcontext()
    with expected:
        refuse_emulated_bfloat16()


class _Attack:
    def __reduce__(self):
        return (print, ("code was run",))


@pytest.mark.parametrize("mmap", [False, True])
def test_tensors_and_placeholders_beside_them(tmp_path, mmap):
    torch.save({"state_dict": {"a": torch.ones(3)}, "best": np.float64(0.5)}, tmp_path / "a.pth")
    loaded = load_safely(tmp_path / "a.pth", mmap)
    assert loaded["state_dict"]["a"].tolist() == [1, 1, 1] and isinstance(loaded["best"], Placeholder)


def test_code_is_not_run(tmp_path, capsys):
    torch.save({"a": torch.ones(3), "attack": _Attack()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: not only weights: .*print would be executed"):
        load_safely(tmp_path / "a.pth")
    assert "code was run" not in capsys.readouterr().out


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_safely(tmp_path / "none.pth")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(InputError, match=r"not only weights|no PyTorch checkpoint"):
        load_safely(tmp_path / "page.pth")
