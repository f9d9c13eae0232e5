"""`Machine`: a compiler and a cache of a test's own, where kernels are built as in a new process."""

import subprocess
import sys
from pathlib import Path

from retrank.core import native
from retrank.core.native import build

FOLDER = Path(build.__file__).parent
BUILT = native.library()

LOADER = "import runpy, sys; print(runpy.run_path(sys.argv[1])['library']())"


class Machine:
    """A machine with a compiler that writes down how it was called, and an empty cache."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.cache = folder, folder / "cache"
        self.compiler, self.calls = folder / "my-c++", folder / "calls"
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        for name in ("RETRANK_NATIVE", "RETRANK_NATIVE_FOR"):
            monkeypatch.delenv(name, raising=False)
        self.install('cp "$built" "$to"')

    def install(self, produce, *, version="1.0", quickly=True):
        """Make it produce something else than the kernels; `$built` are those, `$to` is where they should go."""
        self.compiler.write_text(f"""#!/bin/sh
            if [ "$1" = --version ]; then echo {version}; exit; fi
            echo "$@" >> "{self.calls}"
            built="{getattr(BUILT, "_name", "")}"
            options="$*"
            while [ "$1" != -o ]; do shift; done
            to="$2"
            {"" if quickly else "sleep 0.3"}
            {produce}
        """)
        self.compiler.chmod(0o755)
        self.monkeypatch.setenv("CXX", str(self.compiler))

    def library(self):
        return self.build().library

    def build(self, **options):
        return build.find_or_build(**options)  # as in a new process

    def start(self, script=FOLDER / "build.py"):
        return subprocess.Popen([sys.executable, "-c", LOADER, script], stdout=subprocess.PIPE, text=True)

    @property
    def num_compiled(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    @property
    def kept(self):
        return sorted(path.name for path in self.store.glob("*.so"))

    @property
    def store(self):
        return self.cache / "retrank" / "kernels"
