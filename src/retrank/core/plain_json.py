"""Values of tables as JSON can have them."""

import datetime as dt
from typing import Any

__all__ = ["to_json"]


def to_json(value: Any) -> Any:
    """Return a value of a table as JSON can have it: NaN and infinities as null, dates and times in ISO 8601.

    Args:
        value: a scalar, list or dict, such as a polars row holds; other things (decimals, durations) become text.

    Example:
        >>> import datetime
        >>> from retrank.core.plain_json import to_json
        >>> to_json({"day": datetime.date(2020, 2, 1), "score": float("nan")})
        {'day': '2020-02-01', 'score': None}
    """
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    if isinstance(value, dict):
        return {name: to_json(one) for name, one in value.items()}
    if value is None or isinstance(value, str | int):
        return value
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
