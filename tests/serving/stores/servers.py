"""Throw-away servers for tests: on a Unix socket in a folder of their own, started and ended as a test needs."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SECONDS = 60  # a busy machine may take long


class Server:
    """A server process that may be stopped, killed, paused and started again, with what it had on its disk."""

    def __init__(self, folder=None):
        # Not under pytest's folders: the path of a socket has little room.
        self.folder = Path(tempfile.mkdtemp(prefix="retrank-", dir=folder))
        self.folder.chmod(0o755)
        self.process = None
        self.options = ()
        self.identity = {}

    def start(self):
        deadline = time.monotonic() + SECONDS
        while True:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.identity
                )
            while self.process.poll() is None:
                if self.is_ready():
                    return self
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            # One that was killed may still hold its memory or socket.
            if time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")
                self.end()
                pytest.fail(f"the server does not start: {log[-2_000:]}")
            time.sleep(0.1)

    def stop(self, how=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
        if self.process is not None:
            self.process.wait(SECONDS)

    def kill(self):
        self.stop(signal.SIGKILL)

    def end(self):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Server):
    def __init__(self, folder=None):
        super().__init__(folder)
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"

    def command(self):
        durable = ("--appendonly", "yes", "--appendfsync", "always")
        place = ("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "")
        return ["redis-server", *place, *durable, *self.options]

    def ask(self, *command):
        line = ["redis-cli", "-s", str(self.socket), *command]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=SECONDS).stdout.strip()

    def is_ready(self):
        return self.ask("ping") == "PONG"

    def clear(self):
        self.ask("flushall")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


class Postgres(Server):
    def __init__(self, folder=None):
        super().__init__(folder)
        found = sorted(_debian_programs(), key=lambda p: int(p.parts[-3]))
        self.programs = found[-1].parent if found else Path(shutil.which("postgres")).parent
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        if os.geteuid() == 0:  # which PostgreSQL refuses
            shutil.chown(self.folder, "postgres", "postgres")
            self.identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
        line = [
            self.programs / "initdb",
            "-D",
            self.folder / "data",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "-N",
        ]
        subprocess.run(
            [*line, "-E", "UTF8", "--locale=C", "-N", "--wal-segsize=1"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            timeout=SECONDS,
            **self.identity,
        )

    def command(self):
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off"}
        settings |= {"max_connections": 50, "shared_buffers": "16MB", "min_wal_size": "2MB", "max_wal_size": "4MB"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.programs / "postgres", "-D", self.folder / "data", *options, *self.options]

    def ask(self, statement):
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def is_ready(self):
        psycopg = pytest.importorskip("psycopg")
        try:
            self.ask("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def clear(self):
        self.ask("drop schema if exists retrank cascade")

    def stop(self, how=signal.SIGINT):  # "fast": do not wait for those who are connected
        super().stop(how)

    def pause(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.processes():
            os.kill(pid, signal.SIGCONT)

    def processes(self):
        """The server and its children, one of which serves each connection."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]


def why_missing(kind):
    """Say why a kind of server cannot be started here; None if it can."""
    if kind is Redis and not (shutil.which("redis-server") and shutil.which("redis-cli")):
        return "redis-server is not installed"
    if kind is Postgres and not (any(_debian_programs()) or shutil.which("postgres")):
        return "PostgreSQL is not installed"
    if kind is Postgres and os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL refuses root, and there is no user 'postgres'"
    return None


def _debian_programs():
    return Path("/usr/lib/postgresql").glob("*/bin/postgres")
