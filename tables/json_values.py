"""Convert DuckDB values to JSON values, losslessly where possible."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from typing import Any, Final

_MAX_EXACT_INT: Final = 2**53  # JavaScript rounds larger integers


def json_value(value: Any) -> Any:
    """Convert a value to JSON.

    Timestamps, dates, intervals and UUIDs become text; blobs, base64; NaN and infinity, null; integers beyond 2^53 and
    decimals without an exact float, text; map keys, text.

    >>> json_value([1, 2**60, float("nan"), b"ab", decimal.Decimal("0.10")])
    [1, '1152921504606846976', None, 'YWI=', 0.1]
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -_MAX_EXACT_INT <= value <= _MAX_EXACT_INT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(json_value(key)): json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(part) for part in value]
    return str(value)


def _decimal(value: decimal.Decimal) -> float | int | str | None:
    if not value.is_finite():
        return None
    if value == value.to_integral_value():
        return json_value(int(value))  # type: ignore[no-any-return]
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else str(value)
