"""Keeping workers running: what `retrank serve` becomes when it has read its options.

`Supervisor` starts workers that accept on one socket, replaces those that die, stops them gently, and has them load a
new bundle in a `Reload`. `standalone` runs it with the standard library alone: 15 MB, where a process that has imported
torch takes 280. Workers are new processes and never forks, which torch's threads do not survive.

Workers are processes rather than threads: what is Python in an answer runs under one lock, a process that dies takes
only its own requests along, and a list costs the same, 0.43 ms in batches of 16. The price is memory, 290 to 360 MB for
each with the quickstart's bundle, and smaller batches: with 16 clients a request took 0.84 ms of processor time in one
worker and 1.1 in two (batches of 9.0 and 4.7), with 64 clients 0.67 in both. So one worker is the default, and one for
each core is the most that helps. (Processor time of the workers, `wrk` on the same two busy cores.)
"""

from retrank.serving.supervision.lines import Lines
from retrank.serving.supervision.reload import Reload
from retrank.serving.supervision.supervisor import Supervisor

__all__ = ["Lines", "Reload", "Supervisor"]
