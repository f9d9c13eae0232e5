"""A worker that does nothing but what its supervisor says, and starts at once: the plan says how it behaves."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path


def main():
    channel = socket.socket(fileno=int(sys.argv[2]))
    lines = channel.makefile("rw")
    plan = json.loads(lines.readline())
    folder = Path(plan["folder"])
    says = plan.get("says", {})

    def tell(text):
        with (folder / "told").open("a") as file:
            file.write(f"{os.getpid()} {text}\n")

    def send(**message):
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    def version():
        return (folder / "bundle" / "manifest.json").read_text()

    if says.get("fails"):
        send(event="failed", error=says["fails"])
        sys.exit(2)
    if says.get("dies") and (not says.get("once") or not (folder / "told").exists()):
        sys.exit(says["dies"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if says.get("is_stubborn") else lambda *_: sys.exit(0))
    bundle, loaded = version(), None
    tell(f"ready {bundle} {os.environ['PROMETHEUS_MULTIPROC_DIR']}")
    send(event="ready", bundle=bundle)
    for line in lines:
        message = json.loads(line)
        tell(f"{message['do']} {version()}")
        if message["do"] == "load":
            loaded = version()
            if loaded == "deadly":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(says.get("slowness", 0))
            if loaded.startswith("bad"):
                send(event="refused", error=f"{loaded} is no good")
            else:
                send(event="loaded", bundle=loaded)
        elif message["do"] == "take":
            bundle = loaded
            send(event="taken", bundle=bundle)
    tell("orphan")


if __name__ == "__main__":
    main()
