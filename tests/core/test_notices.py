import warnings

import pytest

from retrank.core.errors import RetrankWarning
from retrank.core.notices import forget_warnings, warn_once


def test_a_text_is_given_once_although_others_catch_warnings():
    def tell(text):
        warn_once(text)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for text in ("five rows", "five rows", "six rows", "five rows"):
            tell(text)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
    assert [str(entry.message) for entry in caught] == ["five rows", "six rows"]
    assert all(entry.category is RetrankWarning and entry.filename == __file__ for entry in caught)


def test_it_is_given_again_once_forgotten_and_always_where_it_is_an_error():
    for _ in range(2):
        with pytest.raises(RetrankWarning, match="five"):  # tests turn warnings into errors
            warn_once("five rows")
    for _ in range(2):
        with pytest.warns(RetrankWarning, match="five"):
            warn_once("five rows")
        forget_warnings()
