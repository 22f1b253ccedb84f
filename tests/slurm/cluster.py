"""A real Slurm on this machine, in one folder: two nodes of eight (pretended) V100s and a CPU node, on loopback."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ["munged", "slurmctld", "slurmd"]
CLIENTS = ["sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"]
NODES = {"gpu1": "gpu", "gpu2": "gpu", "cpu1": "cpu"}

SLURM_CONF = """
ClusterName=freemask
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=sched_interval=5,sched_min_interval=200000,bf_interval=5,batch_sched_delay=0
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=5
MinJobAge=300
ReturnToService=2
PropagateResourceLimits=NONE
NodeName=gpu[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=16 RealMemory=64000 \
Gres=gpu:v100:8
NodeName=cpu1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[3]} CPUs=16 RealMemory=64000
PartitionName=all Nodes=gpu[1-2],cpu1 Default=YES DefMemPerCPU=1000 MaxTime=INFINITE State=UP
"""


class Cluster:
    """Starts Slurm's daemons as root and stops them: `with Cluster(folder) as cluster: cluster.run([...])`.

    folder: an empty one, with a short path (a socket's may have 107 characters).
    """

    def __init__(self, folder: Path):
        """Find the daemons; RuntimeError says what is missing and how to get it."""
        self.folder = folder
        self.daemons: list[subprocess.Popen] = []
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        missing = [name for name in DAEMONS + CLIENTS if not shutil.which(name, path=path)]
        if missing:
            raise RuntimeError(f"no {', '.join(missing)} here; on Debian: apt-get install slurm-wlm munge")
        if os.geteuid() != 0:
            raise RuntimeError("Slurm's daemons must start jobs as users: run this test as root (in a container)")
        self.env = os.environ | {"PATH": f"{folder}/bin:{path}", "SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Cluster":
        try:
            self._configure()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop jobs, then the daemons, the last one started first."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(["scancel", "--state=RUNNING", "--state=PENDING", "--user=root"], timeout=10, check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=8)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, command: list[str], timeout: int, check: bool = True, **options: object) -> str:
        """Run a client (or Snakemake) against this cluster; returns stdout and stderr. Killed after `timeout` s."""
        done = subprocess.run(
            command,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            **options,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def _configure(self) -> None:
        """Write configurations, a munge key, GPUs, and an srun that knows where this Slurm's configuration is."""
        folder = self.folder
        for name in ["bin", "munge", "state", "gpus", *(f"spool-{node}" for node in NODES)]:
            (folder / name).mkdir(mode=0o755)
        folder.chmod(0o755)
        (folder / "slurm.conf").write_text(SLURM_CONF.format(folder=folder, ports=_free_ports()))
        (folder / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName=gpu[1-2] Name=gpu Type=v100 File={folder}/gpus/nvidia[0-7]\n"
        )
        # Character devices: Slurm refuses a GPU without a file, and counts no CUDA_VISIBLE_DEVICES for a plain one.
        for number in range(8):
            os.mknod(folder / f"gpus/nvidia{number}", 0o20666, os.makedev(195, number))
        # The plugin strips SLURM_* from the environment of the srun inside a job.
        (folder / "bin/srun").write_text(
            f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
        )
        (folder / "bin/srun").chmod(0o755)
        (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge/key").chmod(0o400)

    def _start(self) -> None:
        munge = self.folder / "munge"
        files = [f"--{name}={munge}/{name}" for name in ["socket", "pid-file", "log-file", "seed-file"]]
        # --force: root may run it, and its folder may lie in a world-writable one.
        self._daemon(["munged", "--foreground", "--force", f"--key-file={munge}/key", *files])
        _wait_until((munge / "socket").exists, seconds=10, what="munged's socket")
        self._daemon(["slurmctld", "-D"])
        for node in NODES:
            self._daemon(["slurmd", "-D", "-N", node])
        _wait_until(self._is_idle, seconds=60, what=f"idle nodes; see {self.folder}/slurm*.log")

    def _daemon(self, command: list[str]) -> None:
        with open(self.folder / f"{Path(command[0]).name}-{len(self.daemons)}.out", "wb") as out:
            program = shutil.which(command[0], path=self.env["PATH"])
            self.daemons.append(
                subprocess.Popen([program, *command[1:]], env=self.env, stdout=out, stderr=out, start_new_session=True)
            )

    def _is_idle(self) -> bool:
        try:
            states = self.run(["sinfo", "-h", "-N", "-o", "%T"], timeout=5, check=False).split()
        except subprocess.TimeoutExpired:
            return False
        return states == ["idle"] * len(NODES)


def _free_ports() -> list[int]:
    """Four free ports of loopback, the second and third in a row (one range in slurm.conf)."""
    while True:
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(4)]
            try:
                for index in [0, 1, 3]:
                    sockets[index].bind(("127.0.0.1", 0))
                sockets[2].bind(("127.0.0.1", sockets[1].getsockname()[1] + 1))
            except OSError:
                continue
            return [each.getsockname()[1] for each in sockets]


def _wait_until(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)
