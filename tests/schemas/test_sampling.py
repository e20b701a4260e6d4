"""Random samples: reproducible, nested, evenly spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreel.schemas.errors import SettingsError
from promptreel.schemas.sampling import SampleSettings, random_order, share_out
from promptreel.schemas.settings import RunSettings, settings_from_dict

CAPACITIES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted), min_size=1, max_size=8)


@given(st.lists(st.text(), unique=True), st.integers())
def test_order_depends_only_on_seed_and_names(names, seed):
    order = random_order(names, seed)
    assert sorted(order) == list(range(len(names)))
    chosen = [names[at] for at in order]
    assert [names[::-1][at] for at in random_order(names[::-1], seed)] == chosen
    fewer = [name for name in names if name != chosen[-1]]
    assert [fewer[at] for at in random_order(fewer, seed)] == chosen[:-1]


def test_seeds_choose_differently_and_evenly():
    names = [f"film {number}" for number in range(10)]
    first = [random_order(names, seed)[0] for seed in range(2000)]
    assert all(120 < first.count(number) < 290 for number in range(10))  # 200 on average


@given(st.integers(1, 60), CAPACITIES)
def test_shares_fill_capacities_evenly(count, capacities):
    least, most = [low for low, _ in capacities], [high for _, high in capacities]
    shares = share_out(count, least, most)
    assert sum(shares) == min(count, sum(most))
    assert all(share <= high for share, high in zip(shares, most, strict=True))
    if count <= sum(least):
        assert all(share <= low for share, low in zip(shares, least, strict=True))
        open_shares = [share for share, low in zip(shares, least, strict=True) if share < low]
        assert not open_shares or max(shares) - min(open_shares) <= 1


@given(st.integers(1, 30), CAPACITIES)
def test_larger_counts_give_no_item_less(count, capacities):
    bounds = [low for low, _ in capacities], [high for _, high in capacities]
    shares, more = share_out(count, *bounds), share_out(count + 1, *bounds)
    assert all(before <= after for before, after in zip(shares, more, strict=True))


@pytest.mark.parametrize(
    ("values", "problem"),
    [((0,), "sample is 0"), ((True,), "sample is True"), ((1, "hours"), "unit is 'hours'; use segments or items")],
)
def test_invalid_samples_are_rejected_with_the_value(values, problem):
    with pytest.raises(SettingsError, match=problem):
        SampleSettings(*values)


def test_settings_with_and_without_sample_are_stored():
    settings = RunSettings(sample=SampleSettings(5, "items", 3))
    assert settings_from_dict(settings.to_dict()) == settings
    older = {name: value for name, value in RunSettings().to_dict().items() if name != "sample"}
    assert settings_from_dict(older).sample is None
