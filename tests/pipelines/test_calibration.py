"""Ratios of recorded and estimated usage."""

import pytest

from promptreel.pipelines.calibration import Ratio, _ratio


def test_ratio_weighs_operations_by_their_size():
    ratio = _ratio([(200, 100), (1000, 1000)])
    assert ratio.value == pytest.approx(1200 / 1100)
    assert ratio.operations == 2


def test_more_operations_and_less_variation_narrow_the_spread():
    def width(pairs, operations):
        spread = _ratio(pairs).spread(operations)
        assert spread.low <= spread.expected <= spread.high
        return spread.high - spread.low

    noisy = [(80, 100), (120, 100)]
    assert width(noisy * 50, 100) < width(noisy * 5, 100) < width(noisy, 100)
    assert width(noisy * 50, 100) < width(noisy * 50, 2)
    assert width([(100, 100)] * 100, 100) < width([(50, 100), (150, 100)] * 50, 100)


def test_one_operation_is_not_taken_as_certain():
    spread = _ratio([(150, 100)]).spread(10)
    assert (spread.low, spread.expected, spread.high) == (0.75, 1.5, 2.25)


def test_nothing_recorded_is_certainly_nothing():
    assert _ratio([(0, 1.0)] * 3) == Ratio(0.0, 3, 0.0)
    assert _ratio([(0, 1.0)]).spread(5).high == 0
