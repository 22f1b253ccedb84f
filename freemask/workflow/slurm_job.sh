#!/bin/bash
# What a Slurm job of profiles/slurm runs: Snakemake's job script, as a process group of its own. Arguments: the script,
# and the folder for three files of this job:
#   <job id>.exit      exit code and a remark, written at the end, for status (slurm.py)
#   <job id>.continue  FREEMASK_CONTINUE: the rule's script touches it if it saved progress
#   <job id>.done      FREEMASK_DONE: the rule's script touches it when all its outputs are written
# Before the time limit Slurm sends SIGUSR1 (sbatch --signal). The rule's script then gets SIGTERM, and if it saved
# progress, the job goes back to the queue under its number.
script=$1
exit_file=$2/$SLURM_JOB_ID.exit
export FREEMASK_CONTINUE=$2/$SLURM_JOB_ID.continue
export FREEMASK_DONE=$2/$SLURM_JOB_ID.done
[ "${SLURM_RESTART_COUNT:-0}" = 0 ] && rm -f "$FREEMASK_DONE" # of an older job with this number
rm -f "$exit_file" "$FREEMASK_CONTINUE" # of a run before Slurm put the job back into the queue

end_in_time() {
    signalled=1 warned=1
    [ -e "$FREEMASK_DONE" ] && return
    echo "The time limit is near: SIGTERM to the job's processes. $(date)"
    if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
        scancel --signal=TERM "$SLURM_JOB_ID" # the steps on all nodes; srun itself would kill them
    else
        kill -TERM -- "-$child"
    fi
}
# Asks again while the controller is away.
back_to_queue() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        answer=$(scontrol requeue "$SLURM_JOB_ID" 2>&1) && return 0
        echo "$answer"
        [[ $answer =~ [Dd]enied|[Dd]isabled|[Ii]nvalid ]] && return 1
        sleep 10
    done
    return 1
}
# A signal that comes while a script ends makes Snakemake say "failed": its outputs would be deleted, a training's as well.
succeed() {
    echo "0 " >"$exit_file.tmp" && mv "$exit_file.tmp" "$exit_file"
    exit 0
}
[ -e "$FREEMASK_DONE" ] && succeed # put back into the queue when all was written

trap end_in_time USR1
# scancel and preemption: Slurm knows the job's state, and SIGTERM has gone to all its processes.
trap 'signalled=1 cancelled=1' TERM

if [ ! -e "$script" ]; then
    echo "$script is gone: the Snakemake that submitted this job has ended. Start it again."
    echo "1 the Snakemake that submitted this job has ended" >"$exit_file"
    exit 1
fi
set -m # a process group for the child
sh "$script" &
child=$!
set +m
code=1
while :; do
    signalled=
    wait "$child"
    now=$?
    [ "$now" = 127 ] || code=$now # 127: a signal came when the code was known already
    [ "$signalled" ] || break     # else the signal ended `wait`, not the child
done
# A shell or Snakemake between may end at once by SIGTERM, while the rule's script still saves.
for ((second = 0; second < 170; second++)); do
    [ "$warned$cancelled" ] && kill -0 -- "-$child" 2>/dev/null || break
    sleep 1
done

remark=
if [ "$cancelled" ]; then
    rm -f "$FREEMASK_CONTINUE"
    exit "$code"
elif [ "$warned" ] && [ -e "$FREEMASK_DONE" ]; then
    succeed
elif [ "$warned" ] && [ "$code" != 0 ]; then
    if [ ! -e "$FREEMASK_CONTINUE" ]; then
        remark="saved no progress before its time limit came near: it needs more time"
    elif back_to_queue; then
        echo "Progress is saved: the job waits in the queue and goes on from there."
        sleep 300 & # Slurm ends this process
        wait
        exit 0
    else
        remark="saved its progress, but this cluster doesn't let a job go back to the queue (scontrol requeue)"
    fi
fi
echo "$code $remark" >"$exit_file.tmp" && mv "$exit_file.tmp" "$exit_file"
exit "$code"
