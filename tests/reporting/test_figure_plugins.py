"""A figure is one file: a script whose function says what it needs, also from outside the repository."""

import re
import shutil

import pytest
import tiny_run
from tiny_run import ROOT, change, planned, rules

from freemask.errors import InputError
from freemask.workflow.figures import options, read_figure, read_figures

TOY = '''"""A toy."""

from pathlib import Path

from freemask import cli
from freemask.data.label_space import LabelSpace
from freemask.reporting.figures import new_figure, save


def plot_toy(*, label_space: Path, plan_names: list[str], size: int = 2, title: str, figures: list[Path]) -> None:
    """How many classes there are, in *words*:
    not many.

    Args:
        label_space: The data set's label space.
        plan_names: Name of each plan.
        size: Of the figure [inches].
        title: Name of the data set.
        figures: Outputs.
    """
    figure = new_figure(size, size)
    figure.text(0, 0, f"{title}, {plan_names}: {len(LabelSpace.read(label_space))}")
    save(figure, figures)


if __name__ == "__main__":
    cli.run(plot_toy)
'''
ARTEFACTS = ("label_space", "plan_names", "title", "size")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "figures of mine" / "plot_toy.py"
    path.parent.mkdir()
    path.write_text(TOY)
    return path


@pytest.mark.slow
def test_a_script_from_outside_is_a_figure_of_the_report(script, tmp_path):
    """One new file, and its path in the configuration; another beside it is told apart."""
    shutil.copy(ROOT / "config/demo.yaml", tmp_path / "my.yaml")
    arguments = ["-s", f"{ROOT}/Snakefile", "--directory", str(tmp_path)]

    def run(*more):
        return tiny_run.snakemake(tmp_path, *more, *arguments, config="my.yaml")

    change(tmp_path / "my.yaml", "figures", value=["figures of mine/plot_toy.py", "figures of mine/plot_zoo.py"])
    script.with_name("plot_zoo.py").write_text(TOY.replace("plot_toy", "plot_zoo").replace("How many", "So many"))
    jobs = planned(run("-n"))
    assert {("plot_toy", "dataset=miniworld"), ("plot_hardness", "dataset=miniworld")} <= jobs
    target = "results/miniworld/figures/toy.png"
    assert rules(planned(run(target, "--report", "report.html", "--report-after-run"))) == {
        "plot_toy": 1
    }  # fmt: skip
    assert (tmp_path / target).exists() and (tmp_path / target).with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert "--plan-names hardness-8 '--title=Miniature world'" in (tmp_path / "logs/miniworld/plot_toy.log").read_text()
    assert "How many classes there are, in <em>words</em>" in (tmp_path / "report.html").read_text()
    script.write_text(TOY.replace("not many", "a dozen"))
    assert "Nothing to be done" in run(target, "-n")
    script.write_text(TOY.replace("(0, 0,", "(0, 1,"))
    assert rules(planned(run(target, "-n"))) == {"plot_toy": 1}
    script.write_text(TOY.replace("label_space: Path", "label_spaces: Path"))
    done = tiny_run.run_snakemake(tmp_path, "-n", *arguments, config="my.yaml")
    assert done.returncode != 0
    assert "no artefact 'label_spaces'" in done.stdout
    table = (ROOT / "docs/reporting.md").read_text().partition("| parameter |")[2]
    listed = re.findall(
        r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    )
    assert f"use {', '.join(sorted(listed))}" in " ".join(done.stdout.split())


def test_parameters_are_read_without_importing(script):
    figure = read_figure(script, ARTEFACTS)
    assert (figure.name, figure.suffixes) == ("toy", ("png", "pdf"))
    assert figure.parameters == ("label_space", "plan_names", "size", "title")
    assert figure.caption == "How many classes there are, in *words*:\nnot many."
    assert figure.choose({"title": 1, "other": 2}) == {"title": 1}
    script.write_text(TOY.replace("figures: list[Path]", "figure: Path"))
    assert read_figure(script, ARTEFACTS[:-1]).suffixes == ("png",)
    assert "size" not in read_figure(script, ARTEFACTS[:-1]).parameters  # its default holds


def test_options_are_quoted():
    values = {"plan_names": ["a b", "c"], "title": "-x", "top": 3, "work": []}
    assert options(values) == "--plan-names 'a b' c --title=-x --top=3 --work"


WRONG = {
    "an unknown artefact": (
        ("label_space", "hardnes"),
        "no artefact 'hardnes'; use label_space, plan_names, size, title",
    ),
    "no output": ((", figures: list[Path]", ""), "takes its outputs as"),
    "no caption": (('    """How many', '    figure = """How many'), "no docstring"),
    "another name": (("def plot_toy", "def draw_toy"), "name the script plot_<name>.py, and its function the same"),
    "no Python": (("def plot_toy", "def"), "not Python"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_scripts_are_refused(script, case):
    change, message = WRONG[case]
    script.write_text(TOY.replace(*change))
    with pytest.raises(InputError, match=f"plot_toy.py: .*{re.escape(message)}"):
        read_figure(script, ARTEFACTS)


def test_scripts_must_be_there_and_of_different_names(script, tmp_path):
    everything = {*ARTEFACTS, *(name for path in (ROOT / "scripts").glob("plot_*.py")
                                for name in re.findall(r"(\w+):", path.read_text()))}  # fmt: skip
    with pytest.raises(InputError, match="absent.py: No such file"):
        read_figures([tmp_path / "absent.py"], everything)
    assert [one.name for one in read_figures([script], everything)][-1] == "toy"
    with pytest.raises(InputError, match="have the same name; rename one"):
        read_figures([script, script], everything)
