"""Each environment holds what its jobs import, and nothing else; the container is made from the same files."""

import ast
import hashlib
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
from snakemake.deployment.conda import Env

from freemask import plugins
from freemask.workflow.code import code_files
from rules import ROOT, load_rules

ENVIRONMENTS = ["cpu", "segmentation", "synthesis", "workflow"]
# packages whose import name is another
PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "huggingface_hub": "huggingface-hub",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmengine": "onedl-mmengine",
    "mmseg": "onedl-mmsegmentation",
    "snakemake_interface_executor_plugins": "snakemake",
    "snakemake_interface_logger_plugins": "snakemake",
    "yaml": "pyyaml",
}
OPENMMLAB = ["onedl-mmcv", "onedl-mmdetection", "onedl-mmengine", "onedl-mmsegmentation"]
# Packages that no code here imports, each with the text in the code, rules or environments that needs it.
INDIRECT = {
    "jinja2": r"\.to_latex\(|\.style\b",  # pandas
    "tabulate": r"\.to_markdown\(",  # pandas
    "tensorboard": r"TensorboardVisBackend",  # torch.utils.tensorboard
    "tokenizers": r"CLIPTokenizer|AutoTokenizer",  # transformers
    "ninja": r"--no-build-isolation",  # these three build mmcv's ops
    "setuptools": r"--no-build-isolation",
    "wheel": r"--no-build-isolation",
    "onedl-mmdetection": r"mmseg::mask2former/",  # mmsegmentation's Mask2Former
    "snakemake": r"min_version\(",
    "snakemake-executor-plugin-cluster-generic": r"executor: cluster-generic",
    "pygments": r"^report: ",  # Snakemake's reports
}


@cache
def scripts() -> dict[str, set[str]]:
    """The scripts that the rules of each environment run, for the demo's and the paper's configuration."""
    found: dict[str, set[str]] = {name: set() for name in ENVIRONMENTS}
    for rule in [*load_rules("config/demo.yaml").values(), *load_rules().values()]:
        if rule.shellcmd:
            script = re.search(r"/(\w+)\.py\b", rule.shellcmd)
            name = script[1] if script else rule.name  # a figure's rule has the name of its script
            assert rule.conda_env, f"rule {rule.name} names no environment"
            found[Path(rule.conda_env).stem].add(name)
            if rule.name.startswith("fetch_"):  # also run without environments, on a login node
                found["workflow"].add(name)
    return found


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Packages outside this project that statements import."""
    tops = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            tops |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops.add(node.module.partition(".")[0])
    return {PACKAGES.get(top, top) for top in tops - set(sys.stdlib_module_names) - {"freemask"}}


def of_snakemake_process() -> set[str]:
    """Packages that the Snakefile's parts import, themselves or through modules of freemask that are loaded then."""
    smk = "\n".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").rglob("*.smk")])
    lines = re.findall(r"^(?:from|import) .+$", smk, re.MULTILINE)
    own = [line for line in lines if "freemask" in line]
    show = (
        "import sys; print(*(m.__file__ for name, m in sys.modules.items() if name.startswith('freemask')), sep='\\n')"
    )
    command = [sys.executable, "-c", "\n".join([*own, show])]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return imported(ast.parse("\n".join(lines)).body).union(*(imported(parsed(Path(path)).body) for path in loaded))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def needed(environment: str) -> set[str]:
    """Packages that the code of an environment's jobs imports."""
    paths = {path for script in scripts()[environment] for path in code_files(script)}
    own = of_snakemake_process() if environment == "workflow" else set()
    return own.union(*(imported(ast.walk(parsed(path))) for path in paths))


def pinned(environment: str) -> set[str]:
    """Packages that an environment's files install with pip."""
    texts = [path.read_text() for path in (ROOT / "envs").glob(f"{environment}.*")]
    return set(re.findall(r"([\w-]+)==", "\n".join(texts)))


def of_openmmlab() -> set[str]:
    """What OpenMMLab's packages require: they are installed without their requirements."""
    names = {re.match(r"[\w-]+", line)[0].lower() for package in OPENMMLAB for line in requires(package)}
    return names | {"opencv-python-headless"}  # for opencv-python, which needs libGL


@cache
def project_text() -> str:
    paths = [ROOT / "Snakefile", *(path for part in ("freemask", "scripts", "rules", "config", "envs", "profiles")
             for path in (ROOT / part).rglob("*") if path.suffix in {".py", ".smk", ".yaml", ".sh"})]  # fmt: skip
    return "\n".join(path.read_text() for path in paths)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_it_holds_what_its_jobs_import(environment):
    assert scripts()[environment]
    assert needed(environment) - pinned(environment) == set()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_it_holds_nothing_else(environment):
    further = pinned(environment) - needed(environment)
    if "onedl-mmengine" in pinned(environment):
        further -= of_openmmlab()
    unused = {name for name in further if not re.search(INDIRECT.get(name, r"(?!)"), project_text(), re.MULTILINE)}
    assert unused == set()


def test_every_script_has_an_environment():
    assert set().union(*scripts().values()) == {path.stem for path in (ROOT / "scripts").glob("*.py")}


def test_an_environment_of_every_file():
    assert {path.stem.partition(".")[0] for path in (ROOT / "envs").glob("*.yaml")} == set(ENVIRONMENTS)


def test_the_container_repeats_no_pin():
    """Its environments are made from envs/*.yaml, the packages that these need from constraints.txt."""
    lines = [line for line in (ROOT / "envs/Containerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines)
    assert "==" not in text.replace("^torch==", "")
    assert not re.search(r"\b(pip|conda|mamba) install\b", text)
    copied = set(re.findall(r"^COPY (\S+) ", text, re.MULTILINE))
    assert copied == {*tiny_run.PARTS, "constraints.txt"}


def test_snakemake_outside_the_image_finds_its_environments(tmp_path):
    """The image's links have the names that Snakemake looks for; their targets those that it made."""
    text = (ROOT / "envs/Containerfile").read_text()
    command = re.search(r"^RUN (mkdir /conda-envs.*?[^\\])$", text, re.MULTILINE | re.DOTALL)[1].replace("\\\n", "\n")
    prefix, links = tmp_path / "environments", tmp_path / "conda-envs"
    place = os.path.realpath(prefix).encode()
    digests = {}
    for name in ["cpu", "synthesis", "segmentation"]:
        rule = next(rule for rule in load_rules().values() if rule.conda_env and f"/{name}.yaml" in str(rule.conda_env))
        files = [ROOT / f"envs/{name}.post-deploy.sh", ROOT / f"envs/{name}.yaml"]
        content = b"".join(path.read_bytes() for path in files if path.exists())
        digests[name] = [hashlib.md5(part).hexdigest() for part in (content, place + content)]
        (prefix / f"{digests[name][1]}_").mkdir(parents=True)
        workflow = SimpleNamespace(
            sourcecache=rule.workflow.sourcecache,
            persistence=SimpleNamespace(conda_env_path=prefix),
            deployment_settings=SimpleNamespace(apptainer_args=""),
            runtime_paths=[],
        )
        env = Env(workflow, env_file=ROOT / f"envs/{name}.yaml")
        env._content_pin = b""  # there is none; looking for one needs conda
        assert [env.content_hash, env.hash] == digests[name]
    shell = command.replace("/conda-envs", str(links))
    subprocess.run(
        shell, shell=True, cwd=ROOT, env=os.environ | {"SNAKEMAKE_CONDA_PREFIX": str(place.decode())}, check=True
    )
    assert {path.name: path.resolve().name for path in links.iterdir()} == {
        content: f"{made}_" for content, made in digests.values()
    }


def test_jobs_of_segmentors_hide_what_their_libraries_import_unused():
    """Mmengine imports transformers where it is installed, which takes seconds."""
    of_segmentors = ROOT / "freemask/segmentation/checkpoints.py", ROOT / "freemask/segmentation/config.py"
    for path in (ROOT / "scripts").glob("*.py"):
        needs = any(file in code_files(path.stem) for file in of_segmentors)
        assert needs == ("hidden=segmentation.HIDDEN" in path.read_text()), path


def test_plug_ins_find_what_is_hidden_from_libraries(tmp_path, monkeypatch):
    (tmp_path / "seen_by_all.py").write_text("")
    (tmp_path / "plug_in.py").write_text("import seen_by_all\n\nRULE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "seen_by_all", None)
    with pytest.raises(ImportError):
        importlib.import_module("seen_by_all")
    assert plugins.find({}, "plug_in:RULE", "filter") == 7
