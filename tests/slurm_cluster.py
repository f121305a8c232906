"""A real SLURM for the tests: munge, accounting, a controller and several virtual nodes on this machine.

Everything lives in one temporary folder and on ports of its own, runs in the foreground as a child of this
process and dies with it. Needs root and Debian's packages (``PACKAGES``), no configured SLURM and no systemd.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd slurm-wlm-mysql-plugin mariadb-server"
_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "mariadb-install-db")
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

_SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
# cred_expire also is how long a requeued job waits before it starts again.
AuthInfo=socket={root}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1
MpiDefault=none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/spool/%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MaxArraySize=1001
MaxJobCount=5000
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting_port}
AccountingStoragePass={root}/munge/socket
{nodes}
{partitions}
"""

_SLURMDBD_CONF = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounting_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=virtual
StorageLoc=slurm
LogFile={root}/log/slurmdbd.log
PidFile={root}/slurmdbd.pid
CommitDelay=1
"""

_DATABASE = (
    "create database slurm; create user slurm@'127.0.0.1' identified by 'virtual'; "
    "grant all on slurm.* to slurm@'127.0.0.1'"
)


def missing() -> str | None:
    """Say why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "a virtual SLURM needs root"
    absent = [program for program in _PROGRAMS if shutil.which(program, path=_SEARCH) is None]
    return f"no {', '.join(absent)} here: apt-get install --no-install-recommends {PACKAGES}" if absent else None


class Cluster:
    """A cluster of ``nodes`` (name: processors) and ``partitions`` (name: the rest of its line)."""

    def __init__(self, nodes: Mapping[str, int], partitions: Mapping[str, str]) -> None:
        self.nodes = dict(nodes)
        self.root = Path(tempfile.mkdtemp(prefix="ailft-slurm-"))
        self.configuration = self.root / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.configuration), "PATH": _SEARCH}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._first_port = _free_ports(len(nodes) + 3)
        self._partitions = dict(partitions)

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a client command and return what it prints."""
        result = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout

    def kill_node(self, name: str) -> None:
        """Let a node vanish: its daemon, its step managers and its jobs get SIGKILL, nobody is told."""
        self._kill(f"slurmd-{name}")
        for pid in _processes(f"SLURM_CONF={self.configuration}", f"SLURMD_NODENAME={name}"):
            _send(pid, signal.SIGKILL)
        for entry in (self.root / "spool" / name).glob(f"{name}_*"):
            job = entry.name.removeprefix(f"{name}_")
            for pid in _named(f"slurmstepd: [{job}]"):
                _send(pid, signal.SIGKILL)
        for pid in _processes(f"SLURM_CONF={self.configuration}", f"SLURMD_NODENAME={name}"):
            _send(pid, signal.SIGKILL)

    def cut_off_node(self, name: str) -> None:
        """Let a node lose the network: only its daemon dies, its jobs work on."""
        self._kill(f"slurmd-{name}")

    def start_node(self, name: str) -> None:
        """Start a node, or bring it back."""
        (self.root / "spool" / name).mkdir(exist_ok=True)
        self._daemon(f"slurmd-{name}", "slurmd", "-D", "-N", name, "-f", str(self.configuration))

    def kill_controller(self) -> None:
        """SIGKILL the controller: jobs that it has not saved yet (some seconds' worth) are forgotten."""
        self._kill("slurmctld")

    def stop_controller(self) -> None:
        """Stop the controller in good order."""
        self._daemons["slurmctld"].terminate()
        self._daemons["slurmctld"].wait()

    def start_controller(self) -> None:
        """Start the controller, with the state of the one before, and wait until it answers."""
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.configuration))
        self._until(lambda: self._answers("scontrol", "ping"))

    def stop(self) -> None:
        """End what this cluster started, and nothing else."""
        if "slurmctld" in self._daemons:
            self._answers("scancel", "--user=root")
        # Jobs first: a step manager that loses its daemon goes on.
        for pid in _processes(f"SLURM_CONF={self.configuration}"):
            if pid not in {daemon.pid for daemon in self._daemons.values()}:
                _send(pid, signal.SIGKILL)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _start(self) -> None:
        self.root.chmod(0o755)
        for folder in ("munge", "state", "spool", "log", "database"):
            (self.root / folder).mkdir()
        values = {
            "root": self.root,
            "host": socket.gethostname().partition(".")[0],
            "controller_port": self._first_port,
            "accounting_port": self._first_port + 1,
            "database_port": self._first_port + 2,
        }
        nodes = [
            f"NodeName={name} NodeHostname={values['host']} NodeAddr=127.0.0.1 Port={self._first_port + 3 + index} "
            f"CPUs={processors} RealMemory=100000 State=UNKNOWN"
            for index, (name, processors) in enumerate(self.nodes.items())
        ]
        partitions = [f"PartitionName={name} {rest}" for name, rest in self._partitions.items()]
        lines = {"nodes": "\n".join(nodes), "partitions": "\n".join(partitions)}
        self.configuration.write_text(_SLURM_CONF.format(**values, **lines))
        self._start_munge()
        self._start_accounting(values)
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)
        self._until(lambda: set(self.run("sinfo", "-h", "-N", "-o", "%t").split()) == {"idle"})

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        options = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "munged", "-F", f"--socket={folder / 'socket'}", *options, user="munge")
        self._until(lambda: self._answers("munge", "-S", str(folder / "socket"), "-n"))

    def _start_accounting(self, values: Mapping[str, object]) -> None:
        data, sock = self.root / "database", self.root / "database" / "socket"
        shutil.chown(data, "mysql", "mysql")
        common = ("--no-defaults", "--user=mysql", f"--datadir={data}")
        authentication = "--auth-root-authentication-method=socket"
        self.run("mariadb-install-db", *common, authentication, "--skip-test-db")
        address = ("--bind-address=127.0.0.1", f"--port={values['database_port']}", "--skip-name-resolve")
        self._daemon(
            "mariadbd",
            "mariadbd",
            *common,
            *address,
            f"--socket={sock}",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
            "--skip-log-bin",
            # A daemon that changes its user by itself would outlive this process.
            user="mysql",
        )
        client = ("--no-defaults", "-S", str(sock))
        self._until(lambda: self._answers("mariadb-admin", *client, "ping"))
        self.run("mariadb", *client, "-e", _DATABASE)
        path = self.root / "slurmdbd.conf"
        path.touch(0o600)
        path.write_text(_SLURMDBD_CONF.format(**values))
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._until(lambda: self._answers("sacctmgr", "-n", "show", "cluster"))
        self.run("sacctmgr", "-i", "add", "cluster", "virtual", check=False)

    def _daemon(self, name: str, *command: str, user: str | None = None) -> None:
        with open(self.root / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=user,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _kill(self, name: str) -> None:
        self._daemons[name].kill()
        self._daemons[name].wait()

    def _answers(self, *command: str) -> bool:
        try:
            return subprocess.run(command, env=self.environment, capture_output=True, timeout=5).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"the cluster does not start: {self._last_words()}"
            time.sleep(0.1)

    def _last_words(self) -> str:
        logs = sorted((self.root / "log").iterdir())
        return "; ".join(f"{log.name}: {log.read_text(errors='replace')[-300:]}" for log in logs)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _free_ports(count: int) -> int:
    """Return the first of ``count`` neighbouring free ports."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, count):
        taken = False
        for port in range(first, first + count):
            with socket.socket() as probe:
                taken |= probe.connect_ex(("127.0.0.1", port)) == 0
        if not taken:
            return first
    raise AssertionError("no free ports")


def _processes(*variables: str) -> list[int]:
    """Find the processes that have all of these environment variables, this one excepted."""
    wanted: Sequence[bytes] = [variable.encode() for variable in variables]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            if all(variable in environment for variable in wanted) and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def _named(title: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().decode(errors="replace").startswith(title):
                found.append(int(folder.name))
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
