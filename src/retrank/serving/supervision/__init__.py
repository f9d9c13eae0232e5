"""Keeping workers running: what `retrank serve` becomes when it has read its options.

`Supervisor` starts workers that accept on one socket, replaces those that die, stops them gently, and has them load a
new bundle in a `Reload`. `standalone` runs it with the standard library alone: 11 MB, where a process that has imported
torch takes 280. For the same reason workers are new processes and never forks.
"""

from retrank.serving.supervision.lines import Lines
from retrank.serving.supervision.reload import Reload
from retrank.serving.supervision.supervisor import Supervisor
from retrank.serving.supervision.worker_process import WorkerProcess

__all__ = ["Lines", "Reload", "Supervisor", "WorkerProcess"]
