"""Check the made files of a data set; see `verify`."""

import shlex
from pathlib import Path

from freemask import cli
from freemask.errors import InputError

SHOWN = 10  # findings on the terminal; the table lists all


def verify(*, folder: Path, report: Path, report_only: bool = False, threads: cli.Positive = 1) -> None:
    """Check tables, and every square mask, synthetic image and margin map against the table that names it.

    Masks, also those written as labels, and images are compared by SHA-256. A margin map must be in a pack with the
    stamp of its row's image and mask, be readable to the last byte, and have the right size. Damaged files are set
    aside in <folder>/verify/damaged/, and tables that name a missing or damaged file are removed, so that the next run
    that needs them makes exactly those files again. check_dataset checks the raw data set.

    Args:
        folder: results/<dataset>.
        report: Output: table of missing and damaged files: path, what, tables (that name it).
        report_only: Move and remove nothing.
        threads: Processes.
    """
    from freemask.generation import verify
    from freemask.tables import write_table

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; nothing was made yet, or the path is wrong")
    checked, findings = verify.find(folder, threads)
    named = verify.naming(folder, findings)
    write_table(report, verify.report(findings, named))
    if not findings:
        cli.tell(f"{folder}: {checked} files, all there and whole")
        return
    damaged = sum(finding.damaged for finding in findings)
    lines = [f"{finding.path}: {finding.what}" for finding in findings[:SHOWN]]
    more = [f"... and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
    head = f"{folder}: {len(findings) - damaged} of {checked} files missing, {damaged} damaged; all in {report}:"
    cli.tell("\n  ".join([head, *lines, *more]))
    if not report_only:
        target = verify.set_aside(folder, findings, named)
        cli.tell(
            f"{len(named)} table(s) that name them are removed, damaged files lie in {target};"
            " `snakemake synthesis_all` makes exactly these again: run it before any other target"
        )
        broken = [finding.path for finding in findings if finding.path.endswith(".tsv")]
        if broken := broken + [str(table) for table in named if table.parent.name == "index"]:
            # Snakemake makes no missing table again whose results are there
            cli.tell(f"before it, make the tables among them: snakemake {shlex.join(broken)}")


if __name__ == "__main__":
    cli.run(verify)
