"""Run scripts as command lines: real arguments, exit codes and standard error, without a second's imports each time.

One process (this file as a program) imports what scripts need and forks for every command.
"""

import contextlib
import json
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Commands:
    """The process that forks; use it in a with statement."""

    def __enter__(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, script: str, arguments: list[str], folder: Path) -> tuple[int, str]:
        """Exit code and standard error of scripts/<script>.py, run in a folder."""
        stderr = folder.parent / f"{folder.name}.stderr"
        job = {"script": str(ROOT / "scripts" / f"{script}.py"), "arguments": arguments, "folder": str(folder),
               "stderr": str(stderr)}  # fmt: skip
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), stderr.read_text()


def serve() -> None:
    """Fork for every job that comes in; answer with exit codes."""
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for answers
        import freemask.segmentation.inference  # noqa: F401 - imports numpy, pandas, torch, mmseg

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(execute(job))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def execute(job: dict) -> int:
    """What `python script arguments` does."""
    os.chdir(job["folder"])
    os.dup2(os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = [job["script"], *job["arguments"]]
    code = 0
    try:
        runpy.run_path(job["script"], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
