"""Values of DuckDB as JSON holds them, without loss where JSON can."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from typing import Any, Final

_EXACT: Final = 2**53  # beyond it a JavaScript reader rounds an integer


def json_value(value: Any) -> Any:
    """A value as JSON: instants, dates, intervals and UUIDs as text; blobs in base64; NaN and infinity as null; an integer
    beyond 2^53, and a decimal that no float equals, as text; keys of maps as text.

    >>> json_value([1, 2**60, float("nan"), b"ab", decimal.Decimal("0.10")])
    [1, '1152921504606846976', None, 'YWI=', 0.1]
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -_EXACT <= value <= _EXACT else str(value)
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
    near = float(value)
    return near if decimal.Decimal(repr(near)) == value else str(value)
