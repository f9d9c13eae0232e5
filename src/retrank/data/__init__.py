"""Tables in, batches out.

`source` reads any data frame and Parquet or CSV files, whole or piece by piece; the `require_` checks name the column
and row of bad input. `Loader` gives batches of columns in memory, `StreamingLoader` of a table that does not fit; both
are `Batches`: the same seed gives the same order, and an epoch can be resumed in its middle. The splits divide a table
into train and test at random, at a point in time, or at some rows of each query, the last or any.
`with_recent_candidates` adds to each interaction what its query did before, `with_seen_candidates` what else its query
has, and `sample_lists` puts some rows of a query side by side.
"""

from retrank.data.batches import Batches
from retrank.data.checks import (
    require_columns,
    require_flat,
    require_keys,
    require_no_nulls,
    require_rows,
    require_time,
    require_unique,
)
from retrank.data.events import EventLog
from retrank.data.file_source import FileSource
from retrank.data.frame_source import FrameSource
from retrank.data.key_index import KeyIndex
from retrank.data.list_sampling import sample_lists
from retrank.data.loader import Loader
from retrank.data.recent_candidates import latest_candidates, with_recent_candidates
from retrank.data.seen_candidates import with_seen_candidates
from retrank.data.source import Source, shard_range
from retrank.data.sources import ArrowCapsule, TableLike, frame, source
from retrank.data.splits import leave_last_split, leave_random_split, random_split, time_split
from retrank.data.streaming import StreamingLoader

__all__ = [
    "ArrowCapsule",
    "Batches",
    "EventLog",
    "FileSource",
    "FrameSource",
    "KeyIndex",
    "Loader",
    "Source",
    "StreamingLoader",
    "TableLike",
    "frame",
    "latest_candidates",
    "leave_last_split",
    "leave_random_split",
    "random_split",
    "require_columns",
    "require_flat",
    "require_keys",
    "require_no_nulls",
    "require_rows",
    "require_time",
    "require_unique",
    "sample_lists",
    "shard_range",
    "source",
    "time_split",
    "with_recent_candidates",
    "with_seen_candidates",
]
