"""Services as programs: started, listened to, and stopped at the end whatever happens."""

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import retrank as rr

__all__ = ["Load", "Running", "ask", "children", "service"]

SECONDS = 60  # for what takes a moment on an idle machine


class Running:
    """A program whose lines on standard error are read as they come."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, text=True, **{"stderr": subprocess.PIPE, **options})
        self.lines, self._queue = [], queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._next = 0

    def _read(self):
        if self.process.stderr is None:
            return
        with self.process.stderr:
            for line in self.process.stderr:
                self._queue.put(line)
        self._queue.put(None)

    def heard(self, message):
        """Wait for a logged message, after the ones that were waited for before."""
        until = time.monotonic() + SECONDS
        while True:
            while self._next < len(self.lines):
                self._next += 1
                found = self.lines[self._next - 1]
                if message in found["message"]:
                    return found
            line = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            assert line is not None, f"it ended without {message!r}: {self.lines}"
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))
                continue
            self.lines.append({"message": line})

    def signal(self, kind):
        self.process.send_signal(kind)

    def ended(self):
        """Wait for the end and return the exit code."""
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def running(command, **options):
    one = Running(command, **options)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.signal(signal.SIGTERM)
            try:
                one.process.wait(20)
            except subprocess.TimeoutExpired:
                one.process.kill()
        one.process.wait()
        one.reader.join(20)  # to the end of the pipe, which workers hold open too


class Load(threading.Thread):
    """Asks again and again on one connection, as long as it may; a connection that was ended is made anew."""

    def __init__(self, url):
        super().__init__()
        self.place, self.stop, self.answers, self.failures = urlsplit(url), threading.Event(), [], []

    def run(self):
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=60)
        with contextlib.closing(connection):
            while not self.stop.is_set():
                try:
                    if connection.sock is None:  # at first, and when an answer has said that the connection ends
                        connection.connect()
                except ConnectionError:
                    return  # nobody accepts any more
                query = {"query": f"u{len(self.answers) % 12}"}
                try:
                    self.answers.append(ask(self.place.geturl(), "/recommend", query, connection))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(error)
                    connection.close()


@contextlib.contextmanager
def service(bundle, *options):
    """Run `retrank serve`; `url` is where it answers."""
    source = str(Path(rr.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    plain = ["--port", "0", "--deadline", str(SECONDS)]  # no request fails because the machine is busy
    command = [sys.executable, "-m", "retrank", "serve", str(bundle), *plain, *map(str, options)]
    with running(command, env=environment, stdout=subprocess.DEVNULL) as one:
        one.start = one.heard("serving")
        one.url = one.start["url"]
        yield one


def ask(url, path, body=None, connection=None):
    """Send one request; return status and content."""
    place = urlsplit(url)
    one = connection or http.client.HTTPConnection(place.hostname, place.port, timeout=SECONDS)
    if body is None:
        one.request("GET", path)
    else:
        one.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    reply = one.getresponse()
    content = reply.read()
    if connection is None:
        one.close()
    return reply.status, json.loads(content) if reply.headers["content-type"] == "application/json" else content


def children(pid):
    """Return the process ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = stat.read_text().rpartition(")")[2].split()
            if int(rest[1]) == pid and rest[0] != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)
