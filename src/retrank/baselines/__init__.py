"""What a learned model must beat: counting, neighbours, and a linear model in closed form.

All are fitted on an interaction table and recommend to known queries; unknown queries get the popular list. One that
wins is put into production as any model is: `rr.Recommender(rr.baselines.EASE().fit(train), catalogue=, history=)`.
"""

from retrank.baselines.baseline import Baseline
from retrank.baselines.ease import EASE
from retrank.baselines.interactions import InteractionMatrix
from retrank.baselines.item_knn import ItemKNN
from retrank.baselines.popularity import Popularity

__all__ = ["Baseline", "EASE", "InteractionMatrix", "ItemKNN", "Popularity"]
