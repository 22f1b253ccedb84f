"""Which shards are compiled, and what runs where compilation fails."""

import contextlib
import types

import pytest
import torch

from freemask.generation import compilation
from freemask.generation.compilation import PAYS_FROM, Captured, compile_network, decide

SHARDS = 24


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU that Triton makes code for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compilation, "obstacle", lambda: None)


def test_break_even_is_that_of_the_measurements():
    assert PAYS_FROM == 617  # 59.2 s / (0.3314 s - 0.2354 s) = 616.7


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


class FakeGraph:
    """Where torch captures launches: `replay` runs what was called in `graph` again, on the same tensors."""

    def replay(self):
        self.again()


@pytest.fixture
def captures(monkeypatch):
    """A machine without a GPU that captures; the graphs made so far."""
    made = []

    @contextlib.contextmanager
    def graph(captured, capture_error_mode):
        assert capture_error_mode == "thread_local"
        made.append(captured)
        yield

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "Stream": lambda: stream, "current_stream": lambda: stream, "CUDAGraph": FakeGraph, "graph": graph,
        "stream": lambda of: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return made


def test_calls_of_the_same_shapes_replay_one_graph(captures):
    calls = []

    def scaled(x, factor, more):
        calls.append(x.shape)
        result = {"sum": x * factor + more["y"][0]}
        if captures and not hasattr(captures[-1], "again"):
            captures[-1].again = lambda: result["sum"].copy_(x * factor + more["y"][0])
        return result

    function = Captured(scaled)
    for number in (1.0, 2.0):
        x, y = torch.full((2,), number), torch.full((2,), 10 * number)
        kept = function(x, 3, more={"y": [y]})
        assert kept["sum"].tolist() == [13 * number] * 2
    first = function(torch.zeros(2), 3, more={"y": [torch.zeros(2)]})
    assert kept["sum"].tolist() == [26.0] * 2 and first["sum"].tolist() == [0.0] * 2  # results are copies
    assert len(captures) == 1 and len(calls) == 3  # two to warm up, one captured
    assert function(torch.ones(4), 3, more={"y": [torch.ones(4)]})["sum"].tolist() == [4.0] * 4
    assert function(torch.ones(2), 5, more={"y": [torch.ones(2)]})["sum"].tolist() == [6.0] * 2
    assert len(captures) == 3  # another shape, another number
