"""Runs a supervisor with the standard library alone; `launching` starts this file by its path.

To import a module of a package runs the package's `__init__`, and that of retrank loads torch. So the three packages
around the supervisor stand here as bare names with a path.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

__all__ = ["main"]


def main() -> int:
    """Run the plan in the file whose descriptor is the first argument.

    Returns:
        The exit code.
    """
    place = Path(__file__).parent
    bare = {"retrank": place.parents[1], "retrank.serving": place.parent, "retrank.serving.supervision": place}
    for name, path in bare.items():
        module = ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    with open(int(sys.argv[1]), encoding="utf-8") as file:  # noqa: PTH123 (a descriptor is no path)
        file.seek(0)
        plan = json.load(file)
    return int(import_module("retrank.serving.supervision.supervisor").Supervisor(plan).run())


if __name__ == "__main__":
    sys.exit(main())
