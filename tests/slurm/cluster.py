"""A real Slurm on this machine, in one folder, on loopback: nodes of eight (pretended) V100s, a CPU node, accounts."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SLURM = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo"]
ACCOUNTING = ["slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db"]
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"

SLURM_CONF = """
ClusterName=freemask
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits for its credential to expire: 120 s by default.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={slurmctld}
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
JobAcctGatherFrequency=5
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=sched_interval=5,sched_min_interval=200000,bf_interval=5,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=5
MinJobAge=300
ReturnToService=2
PropagateResourceLimits=NONE
{accounting}
{nodes}
PartitionName=all Default=YES PriorityTier=1 DefMemPerCPU=1000 MaxTime=INFINITE State=UP Nodes=ALL
PartitionName=urgent PriorityTier=2 PreemptMode=OFF DefMemPerCPU=1000 MaxTime=INFINITE State=UP Nodes=ALL
PartitionName=short PriorityTier=1 DefMemPerCPU=1000 MaxTime=2 State=UP Nodes=ALL
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=64000 {gres}"
# AccountingStoragePass: the munge socket; without it clients hang for minutes.
WITH_ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations,limits
AccountingStorageTRES=gres/gpu
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=root
StorageLoc=slurm
"""


class Cluster:
    """Starts Slurm's daemons as root and stops them: `with Cluster(folder) as cluster: cluster.run([...])`.

    Partitions: all (the default), urgent (preempts jobs of the others, which are requeued), short (at most 2 minutes).
    Accounts, with accounting: lab (the default), few (at most 3 jobs at a time).

    Args:
        folder: An empty one, with a short path (a socket's may have 107 characters).
        gpu_nodes: Nodes of eight GPUs.
        accounting: Whether slurmdbd and its database run; a site without has no `sacct` that answers.
    """

    def __init__(self, folder: Path, gpu_nodes: int = 2, accounting: bool = True):
        """Find the daemons; RuntimeError says what is missing and how to get it."""
        self.folder, self.accounting = folder, accounting
        self.nodes = [*(f"gpu{number + 1}" for number in range(gpu_nodes)), "cpu1"]
        self.daemons: dict[str, subprocess.Popen] = {}
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        if problem := missing():
            raise RuntimeError(problem)
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
        """Stop jobs, then the daemons, the last one started first, then what is left of jobs."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run(["scancel", "--state=RUNNING", "--state=PENDING", "--user=root"], timeout=10, check=False)
        for name in reversed(list(self.daemons)):
            self.stop(name)
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def run(self, command: list[str], timeout: int = 20, check: bool = True, **options: object) -> str:
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

    def sleep(self, seconds: int, *options: str) -> str:
        """Submit a job of somebody else, that sleeps; returns its number."""
        command = ["sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", f"sleep {seconds}"]
        return self.run(command).strip()

    def stop(self, name: str) -> None:
        """Stop a daemon: slurmctld, slurmdbd or slurmd-<node>."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(timeout=8)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def start(self, name: str) -> None:
        """Start a daemon (again)."""
        folder = self.folder
        files = [f"--{kind}={folder}/munge/{kind}" for kind in ["socket", "pid-file", "log-file", "seed-file"]]
        options = {
            # --force: root may run it, and its folder may lie in a world-writable one.
            "munged": ["--foreground", "--force", f"--key-file={folder}/munge/key", *files],
            "mariadbd": [
                "--no-defaults", "--user=root", f"--datadir={folder}/database", f"--tmpdir={folder}",
                f"--socket={folder}/database.socket",
                f"--port={self.ports['mariadbd']}", "--bind-address=127.0.0.1", "--skip-name-resolve",
            ],
            "slurmdbd": ["-D"],
            "slurmctld": ["-D"],
        }  # fmt: skip
        program, _, node = name.partition("-")
        command = [shutil.which(program, path=self.env["PATH"]), *options.get(name, ["-D", "-N", node])]
        with open(folder / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(command, env=self.env, stdout=out, stderr=out, start_new_session=True)

    def crash(self, node: str) -> None:
        """End a node as a power cut does: its daemon and all processes of its jobs, at once."""
        self.daemons.pop(f"slurmd-{node}").kill()
        jobs = self.processes(f"SLURMD_NODENAME={node}")
        # What starts a job's first process would report its end.
        stepd = {_parent(job) for job in jobs} & set(self.processes("slurmstepd"))
        for process in [*stepd, *jobs]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def processes(self, *words: str) -> list[int]:
        """Processes of this cluster that have one of `words` (default: any) in their environment or command."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                text = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
                if str(self.folder).encode() in text and (not words or any(word.encode() in text for word in words)):
                    found.append(int(entry.name))
        return sorted(set(found) - {os.getpid()})

    def _configure(self) -> None:
        """Write configurations, a munge key, GPUs, and an srun that knows where this Slurm's configuration is."""
        folder = self.folder
        for name in ["bin", "munge", "state", "gpus", *(f"spool-{node}" for node in self.nodes)]:
            (folder / name).mkdir(mode=0o755)
        folder.chmod(0o755)
        daemons = ["slurmctld", "slurmdbd", "mariadbd", *self.nodes]
        self.ports = dict(zip(daemons, _free_ports(len(daemons)), strict=True))
        gres = {node: "Gres=gpu:v100:8" if node.startswith("gpu") else "" for node in self.nodes}
        nodes = [NODE.format(name=node, port=self.ports[node], gres=gres[node]) for node in self.nodes]
        values = {"folder": folder, **self.ports}
        accounting = WITH_ACCOUNTING.format(**values) if self.accounting else ""
        (folder / "slurm.conf").write_text(SLURM_CONF.format(**values, accounting=accounting, nodes="\n".join(nodes)))
        (folder / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName=gpu[1-{len(nodes) - 1}] Name=gpu Type=v100 File={folder}/gpus/nvidia[0-7]\n"
        )
        (folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))
        (folder / "slurmdbd.conf").chmod(0o600)
        # Character devices: Slurm refuses a GPU without a file, and counts no CUDA_VISIBLE_DEVICES for a plain one.
        for number in range(8):
            os.mknod(folder / f"gpus/nvidia{number}", 0o20666, os.makedev(195, number))
        (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge/key").chmod(0o400)

    def _start(self) -> None:
        self.start("munged")
        wait_until((self.folder / "munge/socket").exists, 10, "munged's socket")
        if self.accounting:
            self._start_accounting()
        self.start("slurmctld")
        for node in self.nodes:
            self.start(f"slurmd-{node}")
        wait_until(self.is_idle, 60, f"idle nodes; see {self.folder}/slurm*.log")

    def _start_accounting(self) -> None:
        """Make the database, and the accounts that jobs need."""
        data = f"--datadir={self.folder}/database"
        # Two that start at the same moment use the same names of temporary tables in /tmp.
        install = [
            "env",
            f"TMPDIR={self.folder}",
            "mariadb-install-db",
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
        ]
        self.run([*install, "--skip-test-db", "--skip-name-resolve", data], timeout=60)
        self.start("mariadbd")
        wait_until(lambda: _listens(self.ports["mariadbd"]), 30, f"the database; see {self.folder}/mariadbd.out")
        self.start("slurmdbd")
        wait_until(lambda: _listens(self.ports["slurmdbd"]), 60, f"slurmdbd; see {self.folder}/slurmdbd.log")
        for words in [
            "cluster freemask",
            "account lab cluster=freemask",
            "account few cluster=freemask",
            "user root account=lab defaultaccount=lab",
            "user root account=few maxsubmitjobs=3",
        ]:
            self.run(["sacctmgr", "--immediate", "add", *words.split()])

    def is_idle(self) -> bool:
        """Whether every node is up and has no job."""
        try:
            states = self.run(["sinfo", "-h", "-N", "-p", "all", "-o", "%T"], timeout=5, check=False).split()
        except subprocess.TimeoutExpired:
            return False
        return states == ["idle"] * len(self.nodes)


def missing() -> str | None:
    """What this machine lacks for a cluster, and how to get it; None where it lacks nothing."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    names = [name for name in SLURM + ACCOUNTING if not shutil.which(name, path=path)]
    if names:
        return f"no {', '.join(names)} here; on Debian: apt-get install {PACKAGES}"
    if os.geteuid() != 0:
        return "Slurm's daemons must start jobs as users: run these tests as root (in a container)"
    return None


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition. Raises: RuntimeError naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    """Free ports of loopback."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _parent(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
