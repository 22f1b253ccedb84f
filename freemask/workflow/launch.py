"""The command that starts the processes of one training: one, one per GPU of a node, or those of several nodes."""


def training(gpus: int, nodes: int = 1) -> str:
    """Command prefix of scripts/train.py: python; torchrun for two or more GPUs; srun torchrun for two or more nodes.

    On several nodes it runs in a Slurm job's batch step, on the job's first node: that is where ranks meet, at a port
    that follows from the job's number. One torchrun per node; each starts the node's share of the processes.
    It ends in --: torchrun would take --log for an option of its own.
    The shell must have set `threads`, a node's share of CPUs: srun doesn't take the job's --cpus-per-task over.
    Args: gpus: of the training, all nodes together (0: the CPU); nodes: a divisor of gpus.
    """
    if gpus <= 1:
        return "python"
    if nodes == 1:
        torchrun = f"torchrun --standalone --nproc-per-node {gpus} --"
        return f"python -m freemask.devices --gpus {gpus} -- {torchrun}"
    return (
        f"srun --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task=$threads --kill-on-bad-exit=1"
        f" torchrun --nnodes {nodes} --nproc-per-node {gpus // nodes} --rdzv-backend c10d"
        ' --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$(hostname):$((20000 + SLURM_JOB_ID % 10000))" --'
    )
