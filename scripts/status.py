"""Show how far a run is; see `status`."""

from pathlib import Path

from freemask import cli


def status(*, folder: Path = Path(), page: Path | None = None, every: cli.Positive = 30) -> None:
    """Print how far a run is: jobs of each stage, GPU hours, remaining time, images a second. Reads files only.

    Takes no lock and writes nothing but the page: for another terminal during a run, and for another user's folder.

    Args:
        folder: Where the run was started.
        page: Write this HTML page as well, again and again until Ctrl-C; it reloads itself.
        every: Seconds between two pages.
    """
    import contextlib
    import os
    import time

    from freemask.files import write_atomic
    from freemask.reporting import status

    page = page and page.resolve()
    os.chdir(folder)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            text = status.Status().text()
            if page is None:
                cli.tell(text)
                return
            write_atomic(page, status.page(text, every).encode())
            time.sleep(every)


if __name__ == "__main__":
    cli.run(status, watched=False)
