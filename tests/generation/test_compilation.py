"""Which shards are compiled, and what runs where compilation fails."""

import pytest
import torch

from freemask.generation import compilation
from freemask.generation.compilation import PAYS_FROM, compile_network, decide

SHARDS = 24


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU that Triton makes code for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compilation, "obstacle", lambda: None)


def test_break_even_is_that_of_the_measurements():
    assert PAYS_FROM == 535  # 64 s / (51 calls * (0.0548 s - 0.0360 s) / 8 images) = 534.001


def test_auto_compiles_where_every_shard_has_enough_images(gpu, capsys):
    assert decide("auto", SHARDS * PAYS_FROM, f"1-of-{SHARDS}", "float16", None)
    assert decide("auto", SHARDS * PAYS_FROM - 1, f"{SHARDS}-of-{SHARDS}", "float16", None)  # one fewer than the others
    assert not decide("auto", SHARDS * (PAYS_FROM - 1), f"1-of-{SHARDS}", "float16", None)
    assert not decide("auto", SHARDS * PAYS_FROM, f"1-of-{SHARDS}", "float32", None)  # not measured
    assert f"not compiled: {PAYS_FROM - 1} images a shard" in capsys.readouterr().err


def test_auto_makes_the_rest_of_a_folder_as_what_is_there(gpu):
    assert decide("auto", 1, "1-of-1", "float16", {"compile": True})
    assert not decide("auto", 10**6, "1-of-1", "float16", {"dtype": "float16"})


def test_without_a_gpu_auto_never_compiles():
    assert not decide("auto", 10**6, "1-of-1", "float16", None)
    assert decide("always", 1, "1-of-1", "float16", None) and not decide("never", 10**6, "1-of-1", "float16", None)


def test_eager_runs_where_compilation_fails(monkeypatch, capsys):
    def refused(forward, **options):
        def fail(*given):
            raise torch._dynamo.exc.TorchDynamoException("no kernel image for this card")

        return fail

    monkeypatch.setattr(torch, "compile", refused)
    network = torch.nn.Linear(2, 1)
    given = torch.ones(1, 2)
    wanted = network(given)
    compile_network(network)
    assert torch.equal(network(given), wanted) and torch.equal(network(given), wanted)
    told = capsys.readouterr().err
    assert told.count("isn't compiled, eager runs") == 1 and "no kernel image" in told
