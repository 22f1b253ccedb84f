#!/bin/sh
# Status of a Slurm job for Snakemake, every few seconds for every job: `running`, `success` or `failed`.
# While Slurm's last answer is young, jobs in it that simply run or wait need no Python: their numbers are in the file
# <run>.calm, whose time is when the answer gets old (slurm.py).
# A status command that fails ends the run, and so does one that Ctrl-C ends; hence trap and ||.
trap '' INT TERM HUP
run=".snakemake/slurm/$FREEMASK_SLURM_RUN"
if [ -e "$run.calm" ] && : >"$run.now" && [ "$run.calm" -nt "$run.now" ] \
    && [ ! -e ".snakemake/slurm/$1.exit" ] && grep -qx "$1" "$run.calm"; then
    echo running
else
    "$FREEMASK_PYTHON" -IS "$FREEMASK_SLURM/slurm.py" status "$1" || echo running
fi
