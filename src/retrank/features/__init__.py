"""Features: what a column means, what is learned from it, and the tensor it becomes.

A `FeatureSpace` names the features of a table. Its kinds: `Categorical`, `CategoricalList` and `Text` keep a
`Vocabulary`; `Hashed` and `Cross` hash to buckets; `Recent` holds what a query did last, in the vocabulary of the
candidates, and `Seen` what it has, in no order; `Discretized` and `Bucketized` cut numbers into bins; `TimestampPart`
takes what comes around in time; `Rescaled`, `Normalized`, `Log` and `Passthrough` stay numbers, and `BagOfWords` makes
texts numbers. In every id column 0 is padding and 1 unknown. A space learns through mergeable `statistics`, so a
streamed or sharded table teaches what the whole table does; it grows without renumbering and is saved as JSON and
Parquet.

A `Catalogue` is the table of candidates with a row each, a `History` who interacted with which of them.
"""

from retrank.features import hashing, statistics
from retrank.features.bag_of_words import BagOfWords
from retrank.features.bins import BinFeature, Bucketized, Discretized
from retrank.features.candidate_lists import CandidateLists
from retrank.features.catalogue import Catalogue
from retrank.features.categorical import Categorical, CategoricalList, VocabularyFeature
from retrank.features.cross import Cross
from retrank.features.fitting import TableSummary
from retrank.features.hashed import Hashed
from retrank.features.history import History
from retrank.features.kinds import Feature
from retrank.features.numeric import Log, Normalized, NumberFeature, Rescaled
from retrank.features.passthrough import Passthrough
from retrank.features.recent import Recent
from retrank.features.seen import Seen
from retrank.features.space import FeatureSpace
from retrank.features.text import Text
from retrank.features.time import TimestampPart
from retrank.features.vocabulary import Vocabulary

__all__ = [
    "BagOfWords",
    "BinFeature",
    "Bucketized",
    "CandidateLists",
    "Catalogue",
    "Categorical",
    "CategoricalList",
    "Cross",
    "Discretized",
    "Feature",
    "FeatureSpace",
    "Hashed",
    "History",
    "Log",
    "Normalized",
    "NumberFeature",
    "Passthrough",
    "Recent",
    "Rescaled",
    "Seen",
    "TableSummary",
    "Text",
    "TimestampPart",
    "Vocabulary",
    "VocabularyFeature",
    "hashing",
    "statistics",
]
