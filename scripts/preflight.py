"""Check the submitting machine before a run; see `preflight`."""

from pathlib import Path

from freemask import cli


def preflight(
    *,
    folder: Path,
    files: list[Path] | None = None,
    downloads: list[str] | None = None,
    pairs: cli.NotNegative,
    plans: cli.Json,
    mask_size: cli.Positive,
    result: Path,
) -> None:
    """Check files, disk, inodes, clocks and Slurm where a run is started; ends with all that is wrong, in words.

    Args:
        folder: results/<dataset>.
        files: Raw data and weights that exist: noted, so that nodes can check that they see the same.
        downloads: Addresses of weights that the run fetches.
        pairs: Number of training pairs.
        plans: Settings of each plan and generator, JSON: {"synthesis/<generator>/<plan>": {"n_max": 20, ...}, ...}.
        mask_size: Side of an image [pixels].
        result: Output: what was found, JSON.
    """
    import json
    import os

    from freemask.selection.estimates import BYTES_PER_PIXEL
    from freemask.workflow import preflight as checks
    from freemask.workflow import site

    findings = checks.Findings()
    checks.versions(findings)
    checks.note_files(findings, files or [])
    checks.downloads(findings, downloads or [])
    if checks.writable(findings, folder):
        images = checks.missing_images(folder, pairs, plans)
        # an image is one file; a square mask of each training image
        what = f"synthesis of {images:,.0f} more images"
        checks.room(findings, folder, images * mask_size**2 * BYTES_PER_PIXEL, images + pairs, what)
    checks.local_room(findings, shared=False)
    if asked := json.loads(os.environ.get("FREEMASK_ASKED") or "{}"):  # of Slurm (freemask.workflow.site.export)
        site.check(findings, asked)
    cli.tell(findings.write(result, "the submitting machine"))


if __name__ == "__main__":
    cli.run(preflight)
