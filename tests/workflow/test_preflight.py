"""Preflight: every fault is said in words, all at once; an old or missing preflight makes no result old."""

import base64
import json
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
import torch
from command_line import run_script

from freemask.errors import InputError
from freemask.workflow import gpu_checks, preflight, site
from freemask.workflow.preflight import Findings

VOLTA_TO_HOPPER = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
FROM_TURING = ["sm_75", "sm_80", "sm_90", "compute_90"]


def only(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]


# ---- findings --------------------------------------------------------------------------------------------------------


def test_all_errors_and_warnings_are_listed_and_nothing_is_written(tmp_path):
    findings = Findings(errors=["no GPU", "no disk"], warnings=["slow"])
    with pytest.raises(InputError, match=r"(?s)failed:\n  error: no GPU\n  error: no disk\n  warning: slow$"):
        findings.write(tmp_path / "r.json", "synthesis")
    assert not list(tmp_path.iterdir())


def test_warnings_stop_nothing(tmp_path):
    message = Findings({"gpu": "none"}, ["slow"]).write(tmp_path / "r.json", "synthesis")
    assert message.endswith("ready\n  warning: slow")
    assert json.loads((tmp_path / "r.json").read_text())["warnings"] == ["slow"]


# ---- files, disk, clocks ---------------------------------------------------------------------------------------------


def test_a_node_must_see_the_same_files(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("images/a.jpg", "weights.pth", "other.pth"):
        (tmp_path / name).write_bytes(b"four")
    noted = Findings()
    preflight.note_files(noted, [folder, tmp_path / "weights.pth", tmp_path / "other.pth"])
    assert not noted.errors
    (tmp_path / "weights.pth").unlink()
    (tmp_path / "other.pth").write_bytes(b"another")
    (folder / "a.jpg").unlink()
    findings = Findings()
    preflight.same_files(findings, noted.facts | {"host": "login1"})
    empty, missing, differs = findings.errors
    assert "images: an empty folder on" in empty and "login1 reads it; put it on a file system" in empty
    assert "weights.pth: No such file" in missing
    assert "other.pth: 7 bytes on" in differs and "4 on login1" in differs


def test_other_versions_than_where_it_is_submitted():
    findings = Findings({"python": "3.11.7", "torch": "2.10.0"})
    preflight.same_versions(findings, {"python": "3.11.9", "torch": "2.13.0", "host": "login1", "pandas": "3"})
    assert "torch 2.10.0 here, 2.13.0 on login1" in only(findings.warnings)
    preflight.same_versions(findings, {"python": "3.12.1", "host": "login1"})
    assert "python 3.11.7 here, 3.12.1" in findings.warnings[1]


@pytest.mark.parametrize(("shift", "said"), [(0, None), (-40, "40 s ahead of"), (40, "40 s behind")])
def test_clocks_are_compared(tmp_path, monkeypatch, shift, said):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + shift)
    findings = Findings()
    assert preflight.writable(findings, tmp_path)
    assert said in only(findings.warnings) if said else not findings.warnings
    assert not findings.errors and not list(tmp_path.iterdir())


def test_a_folder_that_cant_be_written(tmp_path):
    (tmp_path / "file").touch()
    findings = Findings()
    assert not preflight.writable(findings, tmp_path / "file/results")
    assert "can't be written (Not a directory)" in only(findings.errors)


@pytest.mark.parametrize(
    ("blocks", "inodes", "said"),
    [
        (10**9, 10**9, []),
        (2_000_000, 10**9, ["8.2 GB free, synthesis needs about 50.0 GB"]),
        (10**9, 999, ["999 inodes free, synthesis makes about 1,000 files"]),
        (0, 0, ["0.0 GB free", "0 inodes free"]),
    ],
)
def test_room(monkeypatch, tmp_path, blocks, inodes, said):
    found = SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_files=10**9, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    findings = Findings()
    preflight.room(findings, tmp_path, 50e9, 1000, "synthesis")
    assert len(findings.errors) == len(said)
    assert all(words in line for words, line in zip(said, findings.errors, strict=True))


def test_inodes_that_a_file_system_doesnt_count(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=9, f_frsize=9, f_files=0, f_favail=0))
    findings = Findings()
    preflight.room(findings, tmp_path, 0, 1000, "synthesis")
    assert not findings.errors


def test_temporary_files_and_shared_memory(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 10**6))
    findings = Findings()
    preflight.local_room(findings, shared=True)
    temporary, shared = findings.warnings
    assert "64 MB free for temporary files; set TMPDIR" in temporary
    assert "/dev/shm: 64 MB" in shared and "--shm-size" in shared


def test_images_yet_to_make(tmp_path):
    """By hand: the plan of a has 5 rows, 2 are made; b isn't planned: 10 masks of 3 images; generators add up."""
    for name, lines in {"plans/a.tsv": 6, "synthesis/g/a/1-of-2.tsv": 3}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("row\n" * lines)
    of, b = preflight.missing_images, {"strategy": "all", "n_max": 3}
    assert of(tmp_path, 10, {"synthesis/g/a": b}) == 3
    assert of(tmp_path, 10, {"synthesis/g/a": b, "synthesis/g/b": b}) == 30
    assert of(tmp_path, 10, {"synthesis/g/a": b, "synthesis/h/b": b}) == 33


# ---- GPUs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch):
    """A made-up GPU: card(name, capability, architectures of torch's kernels). Computing is left out."""

    def put(name, capability, kernels, memory=32e9, free=31e9):
        for function, value in {
            "is_available": True, "device_count": 1, "get_device_name": name, "get_device_capability": capability,
            "get_arch_list": kernels, "mem_get_info": (free, memory),
            "get_device_properties": SimpleNamespace(total_memory=memory),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, function, lambda *_, value=value: value)

    computed = []
    monkeypatch.setattr(gpu_checks, "computes", lambda findings, device, dtypes: computed.append((device, dtypes)))
    put.computed = computed
    return put


@pytest.mark.parametrize(
    ("capability", "kernels", "expected"),
    [
        ((7, 0), VOLTA_TO_HOPPER, True),
        ((7, 0), FROM_TURING, False),  # torch for CUDA 13 on a V100
        ((8, 9), ["sm_80"], True),  # machine code runs on a higher minor version
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90"], False),
        ((12, 0), FROM_TURING, True),  # through compute_90
        ((9, 0), ["sm_90a"], False),
    ],
)
def test_kernels_for_a_card(capability, kernels, expected):
    assert gpu_checks.has_kernels(capability, kernels) == expected


def test_a_v100_with_a_torch_that_dropped_it(card):
    card("Tesla V100-SXM2-32GB", (7, 0), FROM_TURING)
    findings = Findings()
    assert gpu_checks.check(findings, 8, ["float32"], "envs/synthesis.yaml")
    line = only(findings.errors)
    assert "Tesla V100-SXM2-32GB has compute capability 7.0" in line and "sm_75" in line
    assert "envs/synthesis.yaml" in line
    assert not card.computed


def test_bfloat16_asked_of_a_v100(card):
    card("Tesla V100", (7, 0), VOLTA_TO_HOPPER)
    findings = Findings()
    gpu_checks.check(findings, 8, ["bfloat16", "float32"], "envs/segmentation.yaml")
    assert "bfloat16 needs compute capability 8.0, Tesla V100 has 7.0" in only(findings.errors)
    assert card.computed == [("cuda", ["float32"])]


def test_a_card_that_does(card):
    card("H100", (9, 0), VOLTA_TO_HOPPER)
    findings = Findings()
    assert gpu_checks.check(findings, 8, ["bfloat16"], "envs/segmentation.yaml")
    assert not findings.lines() and findings.facts["gpu"] == "H100"


def test_fewer_gpus_than_given(card, monkeypatch):
    card("H100", (9, 0), VOLTA_TO_HOPPER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    findings = Findings()
    gpu_checks.check(findings, 8, [], "envs/segmentation.yaml")
    assert "torch sees 1 GPUs, CUDA_VISIBLE_DEVICES names 2 (0,1)" in only(findings.errors)


@pytest.fixture
def no_card(monkeypatch):
    """No GPU, whatever this machine has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_driver_too_old(no_card, monkeypatch):
    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.")

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "init", init)
    findings = Findings()
    assert not gpu_checks.check(findings, 8, ["float32"], "envs/synthesis.yaml")
    assert "driver on your system is too old (found version 11040); torch" in only(findings.errors)
    assert "wants a driver for CUDA 12.8" in findings.errors[0] and "training_gpus: 0" in findings.errors[0]


def test_a_torch_without_cuda_on_a_gpu_node(no_card, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    findings = Findings()
    gpu_checks.check(findings, 8, [], "envs/synthesis.yaml")
    assert "is built without CUDA; install the one of envs/synthesis.yaml" in only(findings.errors)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    findings = Findings()
    gpu_checks.check(findings, 0, [], "envs/synthesis.yaml")
    assert "GPU 0 is given to this job, but isn't used" in only(findings.warnings) and not findings.errors


def test_a_run_on_the_cpu_passes(no_card):
    findings = Findings()
    assert not gpu_checks.check(findings, 0, ["float32", "float16", "bfloat16"], "envs/synthesis.yaml")
    assert not findings.lines() and findings.facts["gpu"] == "none"


def test_an_empty_file_lets_a_run_continue(no_card, tmp_path):
    (tmp_path / "submitting.json").touch()
    run_script(
        "preflight_gpu", kind="synthesis", submitting=tmp_path / "submitting.json", gpus=0, dtypes="float32",
        result=tmp_path / "synthesis.json",
    )  # fmt: skip
    assert json.loads((tmp_path / "synthesis.json").read_text())["gpu"] == "none"


def test_wrong_or_failing_arithmetic(monkeypatch):
    right = torch.nn.functional.conv2d
    findings = Findings()
    gpu_checks.computes(findings, "cpu", ["float32", "bfloat16"])
    assert not findings.errors

    def wrong(image, *arguments, **options):
        if image.dtype == torch.bfloat16:
            raise RuntimeError("CUDA error: no kernel image is available\nfor execution on the device")
        return right(image, *arguments, **options) * (1 if image.dtype == torch.float64 else 2)

    monkeypatch.setattr(torch.nn.functional, "conv2d", wrong)
    gpu_checks.computes(findings, "cpu", ["float32", "bfloat16"])
    doubled, failed = findings.errors
    assert "float32 on cpu is wrong by" in doubled and "--exclude=<node>" in doubled
    assert "bfloat16 fails on cpu: CUDA error: no kernel image is available for execution" in failed


def test_memory_that_is_clearly_too_small(card, tmp_path):
    """By hand: 8 images of 512x512 are 2.1 million pixels, 2.1 GB; weights of 4 GB take 2 GB in 16 bits."""
    weights = tmp_path / "weights.ckpt"
    weights.touch()
    os.truncate(weights, 4 * 10**9)
    for memory, free, said in ((4.2e9, 4.2e9, 0), (4e9, 4e9, "4.0 GB of GPU memory, a batch of 8 images needs 4.1 GB"),
                               (32e9, 8e9, "24.0 of 32.0 GB of GPU memory is in use")):  # fmt: skip
        card("A card", (8, 0), VOLTA_TO_HOPPER, memory, free)
        findings = Findings()
        gpu_checks.fits(findings, 8, 512, "float16", [weights])
        assert said in only(findings.warnings) if said else not findings.warnings


def test_ops_compiled_for_another_card(monkeypatch):
    def op(*_):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setitem(sys.modules, "mmcv.ops", SimpleNamespace(box_iou_rotated=op))
    findings = Findings({"compute_capability": "8.0"})
    gpu_checks.runs_ops(findings, "cpu")
    assert "TORCH_CUDA_ARCH_LIST=8.0" in only(findings.errors)
    monkeypatch.setitem(sys.modules, "mmcv.ops", None)  # can't be imported
    findings = Findings()
    gpu_checks.runs_ops(findings, "cpu")
    assert "envs/mmcv_ops.sh" in only(findings.errors)


# ---- Slurm -----------------------------------------------------------------------------------------------------------

CONFIG = "JobRequeue              = {requeue}\nAccountingStorageType   = {accounting}\n"
WANTED = {"jobs": 100, "minutes": 2880, "partitions": ["gpu"], "seconds": 46.4}


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Made-up clients of Slurm: slurm(partitions, requeue, accounting, associations) puts them on PATH."""

    def put(sinfo="gpu|2-00:00:00|up", requeue=1, accounting="accounting_storage/slurmdbd", sacctmgr="|1000"):
        answers = {"sinfo": sinfo, "scontrol": CONFIG.format(requeue=requeue, accounting=accounting),
                   "sacctmgr": sacctmgr}  # fmt: skip
        for name, answer in answers.items():
            command = f"cat <<'END'\n{answer}\nEND" if answer is not None else "exit 1"
            (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        findings = Findings()
        site.check(findings, WANTED)
        return findings

    return put


def test_a_site_that_fits(slurm):
    assert not slurm().lines()


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"sinfo": "gpu|4:00:00|up"}, "errors", "allows 240 minutes, jobs ask for 2880"),
        ({"sinfo": ""}, "errors", "partition 'gpu' is unknown to Slurm; set PARTITION"),
        ({"sinfo": "gpu|infinite|down"}, "warnings", "partition gpu is down"),
        ({"requeue": 0}, "warnings", "JobRequeue = 0"),
        ({"accounting": "(null)"}, "warnings", "keeps no accounts"),
        ({"accounting": "accounting_storage/none"}, "warnings", "keeps no accounts"),
        ({"sacctmgr": None}, "warnings", "slurmdbd) doesn't answer"),
        (
            {"sacctmgr": "|1000\ngpu|3\ncpu|2"},
            "warnings",
            "3 jobs submitted at a time (MaxSubmitJobs)",
        ),
    ],
)
def test_what_a_site_lacks(slurm, change, kind, said):
    findings = slurm(**change)
    assert said in only(getattr(findings, kind))
    assert len(findings.lines()) == 1


def test_a_limit_below_one_batch(slurm):
    findings = slurm("gpu|00:00:30|up")
    assert "one batch of images takes 46 s" in findings.errors[1]


def test_no_slurm_here(monkeypatch):
    monkeypatch.setenv("PATH", "")
    findings = Findings()
    site.check(findings, WANTED)
    assert "no sinfo on this machine" in only(findings.errors)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [(90, 90), ("90m", 90), ("48h", 2880), ("2d", 2880), ("2-00:00:00", 2880), ("1-12:30:00", 2190), ("30:00", 30),
     ("infinite", 10**6), (None, 0)],
)  # fmt: skip
def test_times(text, minutes):
    assert site.minutes_of(text) == minutes


@pytest.mark.parametrize("command", ["x submit 4h", '"$P" -IS "$F/slurm.py" submit "4h"', "sbatch"])
def test_what_slurm_is_asked(command):
    """The longest job of a GPU rule, but no longer than WALLTIME; partitions of GPU rules."""
    resources = {"train": {"gpu": 8, "runtime": "72h", "slurm_partition": "gpu"}, "tables": {"runtime": 60}}
    rules = [SimpleNamespace(name=name, resources=one) for name, one in resources.items()]
    workflow = SimpleNamespace(local_exec=False, dryrun=False, rules=rules,
                               executor_settings=SimpleNamespace(submit_cmd=command),
                               resource_settings=SimpleNamespace(nodes=100))  # fmt: skip
    minutes = 72 * 60 if command == "sbatch" else 240
    assert site.asked(workflow, 5.8) == {"jobs": 100, "minutes": minutes, "partitions": ["gpu"], "seconds": 5.8}
    workflow.local_exec = True
    assert site.asked(workflow, 5.8) == {}


# ---- in the workflow -------------------------------------------------------------------------------------------------


def test_expensive_jobs_wait_for_it(fresh):
    blocks = re.findall(r"^rule (\w+):\n    input: (.*)$", tiny_run.snakemake(fresh, "-n"), flags=re.MULTILINE)
    waiting = {rule for rule, inputs in blocks if {"synthesis", "segmentation"} <= {*map(checked, inputs.split(", "))}}
    assert waiting == {"train", "class_loss", "synthesize"}


def test_a_real_run_says_all_that_is_wrong(fresh, tmp_path):
    """A weight that is empty, and a partition that no cluster has; nothing else is started."""
    folder = tiny_run.copy_repository(tmp_path / "clone")
    tiny_run.configure(folder)
    for path in (folder / "resources/miniature-generator").glob("*/*.safetensors"):
        path.write_bytes(b"")
    done = tiny_run.run_snakemake(folder, "preflight")
    assert done.returncode != 0
    assert done.stdout.count("error: resources/miniature-generator/") >= 3, done.stdout
    assert "an empty file" in done.stdout and "Traceback" not in done.stdout
    assert not list((folder / "results").rglob("preflight/*.json"))


def checked(path: str) -> str:
    """The kind of a preflight, by its file."""
    return Path(path).stem if "/preflight/" in path else ""


def records(folder: Path, pattern: str) -> list[Path]:
    """Snakemake's records of results."""
    paths = [str(path.relative_to(folder)) for path in folder.glob(pattern)]
    assert paths
    return [folder / ".snakemake/metadata" / base64.urlsafe_b64encode(path.encode()).decode() for path in paths]


def test_results_from_before_it_stay(rerun):
    """Results that were made without preflight, or whose preflight is gone, are up to date."""
    folder = rerun / "results/miniworld/preflight"
    for path in folder.iterdir():
        path.unlink()
    assert "Nothing to be done" in tiny_run.snakemake(rerun, "-n")
    weights = "results/miniworld/training/*/seed-0/weights.pth"
    for record in [*records(rerun, weights), *records(rerun, "results/miniworld/class_loss/*.tsv")]:
        content = json.loads(record.read_text())
        kept = [path for path in content["input"] if "/preflight/" not in path]
        assert len(kept) == len(content["input"]) - 2
        record.write_text(json.dumps(content | {"input": kept}))
    assert "Nothing to be done" in tiny_run.snakemake(rerun, "-n")
