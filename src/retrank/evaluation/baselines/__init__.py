"""What a learned model must beat: counting, neighbours, and a linear model in closed form.

All are fitted on an interaction table and recommend to known queries; unknown queries get the popular list.
"""

from retrank.evaluation.baselines.baseline import Baseline
from retrank.evaluation.baselines.ease import EASE
from retrank.evaluation.baselines.item_knn import ItemKNN
from retrank.evaluation.baselines.popularity import Popularity

__all__ = ["Baseline", "EASE", "ItemKNN", "Popularity"]
