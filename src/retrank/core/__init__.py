"""The ground floor: errors, batches, schema, seeds, files, configuration, optional extras.

`Batch` and `Jagged` are what flows through every model. `errors` is the family of everything that is raised.
`files` and `directories` write atomically; `config` rebuilds objects from JSON.
`add_penalty` lets a layer add to the loss of a step.
`gather_rows` is what processes that train together exchange.
"""

from retrank.core import directories, errors, files
from retrank.core.batch import Batch, Column
from retrank.core.collectives import gather_rows, gather_sizes, process_rank, world_size
from retrank.core.config import Configurable, from_config, to_config
from retrank.core.extras import optional
from retrank.core.jagged import Jagged
from retrank.core.penalties import Penalties, add_penalty, collecting_penalties
from retrank.core.regularized import Regularized
from retrank.core.schema import NUM_SPECIAL_IDS, PADDING_ID, UNKNOWN_ID, ColumnSchema, Schema
from retrank.core.seeds import derive_seed, generator, seed_everything

__all__ = [
    "Batch",
    "Column",
    "ColumnSchema",
    "Configurable",
    "Jagged",
    "NUM_SPECIAL_IDS",
    "PADDING_ID",
    "Penalties",
    "Regularized",
    "Schema",
    "UNKNOWN_ID",
    "add_penalty",
    "collecting_penalties",
    "derive_seed",
    "directories",
    "errors",
    "files",
    "from_config",
    "gather_rows",
    "gather_sizes",
    "generator",
    "optional",
    "process_rank",
    "seed_everything",
    "to_config",
    "world_size",
]
