"""Check every square mask, synthetic image, margin map and filtered mask against the table that names it.

Masks and images by their SHA-256; margin maps must be readable to the last byte, have the right size and be stamped
with the image and the mask of their row.
Makes a table of what is missing or damaged: path, what, tables (that name it). Damaged files are moved to
<folder>/verify/damaged/, and the tables that name a missing or damaged file are removed, so that the next run that
needs them makes exactly those files again. The raw data set is check_dataset's.
"""

import argparse
from pathlib import Path

from freemask import cli

SHOWN = 10  # findings on the terminal; the table lists all


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="results/<dataset>")
    parser.add_argument("--report", type=Path, required=True, help="output: path, what, tables")
    parser.add_argument("--report-only", action="store_true", help="move and remove nothing")
    parser.add_argument("--threads", type=int, default=1, help="processes (default: 1)")
    return parser


def main(arguments: argparse.Namespace) -> None:
    """Check, report, set aside."""
    from freemask import tables
    from freemask.errors import InputError
    from freemask.generation import verify

    if not arguments.folder.is_dir():
        raise InputError(f"{arguments.folder}: no such folder; nothing was made yet, or the path is wrong")
    checked, findings = verify.find(arguments.folder, arguments.threads)
    named = verify.naming(arguments.folder, findings)
    tables.write_table(arguments.report, verify.report(findings, named))
    if not findings:
        cli.tell(f"{arguments.folder}: {checked} files, all there and whole")
        return
    damaged = sum(finding.damaged for finding in findings)
    lines = [f"{finding.path}: {finding.what}" for finding in findings[:SHOWN]]
    more = [f"... and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
    head = f"{arguments.folder}: {len(findings) - damaged} of {checked} files missing, {damaged} damaged; all in"
    cli.tell("\n  ".join([f"{head} {arguments.report}:", *lines, *more]))
    if not arguments.report_only:
        target = verify.set_aside(arguments.folder, findings, named)
        cli.tell(
            f"{len(named)} table(s) that name them are removed, damaged files lie in {target};"
            " `snakemake synthesis_all` makes exactly these again: run it before any other target"
        )


if __name__ == "__main__":
    cli.run(main, options().parse_args())
