"""Storms of scripted service behaviour through the call policy, in virtual time.

A patient caller calls each operation until it answers, so it loses only what never answers. The minimum of calls is what
such a caller needs if it also wastes nothing: for each operation its answer and the faults that the script draws for it;
for each outage the calls that arrive before its first failure can be known, and one probe per MAX_PROBE_INTERVAL_S; no
call beyond a quota. Operations that never answer count with the calls that were made.

The bound holds for runs of some length: an outage costs the calls that show it, whether 24 or 600 operations are left.
"""

import itertools
import random
from dataclasses import replace

import pytest

from promptreel.providers.service_health import DOWN_CALLS, RECENT_CALLS
from tests.providers.storm import Script, minimum_calls, run_storm

SEEDS = range(10)
WASTE = 1.15


def outages(seed):
    """Two outages of 60 s, at random times while calls are in progress."""
    draw = random.Random(f"outages {seed}")
    first = draw.uniform(2, 15)
    second = first + 60 + draw.uniform(40, 55)
    return (first, first + 60), (second, second + 60)


def quotas(seed):
    """A quota that falls, grants nothing for a while, and rises."""
    draw = random.Random(f"quotas {seed}")
    fall = draw.uniform(5, 10)
    stop = fall + draw.uniform(10, 20)
    return (0.0, None), (fall, draw.choice([8.0, 15.0])), (stop, 0.0), (stop + 45, 12.0), (stop + 70, None)


STORMS = {
    "30 percent faults": lambda seed: Script(seed),
    "outages": lambda seed: Script(seed, fault_share=0, outages=outages(seed)),
    "outages and faults": lambda seed: Script(seed, outages=outages(seed)),
    "quota changes": lambda seed: Script(seed, fault_share=0.05, quotas=quotas(seed)),
    "everything": lambda seed: Script(
        seed,
        outages=outages(seed),
        quotas=((0.0, None), (100.0, 12.0)),
        poison=frozenset({"op 5", "op 300"}),
        rejected=frozenset({"op 7", "op 8", "op 9", "op 400"}),
    ),
}
FAST = [(name, 1) for name in STORMS]
SLOW = [(name, seed) for name in STORMS for seed in SEEDS if seed != 1]


def check_storm(name, seed):
    script = STORMS[name](seed)
    result = run_storm(script)
    assert result.lost() == script.poison | script.rejected
    assert result.model.calls <= WASTE * minimum_calls(result)
    check_states(result)
    return result


def check_states(result):
    """Check that an outage is published once many calls failed, that it is one (at most one of RECENT_CALLS was answered
    since its start), and that the last state is None."""
    model = result.model
    for start, end in model.script.outages:
        failed = [moment for moment in model.failed_in_outages if start <= moment < min(end, start + 10)]
        if len(failed) >= 2 * RECENT_CALLS:
            assert result.state_at(start + 10).status in ("overloaded", "unreachable")
    for moment, state, since in result.states:
        assert state is None or state.status != "halted"
        if state is not None and state.status in ("overloaded", "unreachable"):
            assert sum(since < sent and ended < moment for sent, ended in model.answered) <= RECENT_CALLS - DOWN_CALLS
    assert result.state_at(result.seconds) is None


@pytest.mark.parametrize(("name", "seed"), FAST)
def test_storm_loses_nothing_and_wastes_few_calls(name, seed):
    check_storm(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), SLOW)
def test_storm_of_every_seed_loses_nothing(name, seed):
    check_storm(name, seed)


SHAPES = list(itertools.product([24, 200, 600], [1, 4, 16, 64], [(0.2, 0.6), (10, 30)]))


def check_shape(name, operations, in_flight, latency_s, seeds):
    for seed in seeds:
        script = replace(STORMS[name](seed), latency_s=latency_s)
        result = run_storm(script, operations, max_in_flight=in_flight)
        assert result.lost() <= script.poison | script.rejected, seed
        if operations >= 600:
            assert result.model.calls <= WASTE * minimum_calls(result), seed


@pytest.mark.parametrize("name", STORMS)
def test_slow_storm_of_few_calls_at_once_loses_nothing(name):
    check_shape(name, 24, 1, (10, 30), [0, 8])


@pytest.mark.slow
@pytest.mark.parametrize(("operations", "in_flight", "latency_s"), SHAPES)
@pytest.mark.parametrize("name", STORMS)
def test_storm_of_every_shape_loses_nothing(name, operations, in_flight, latency_s):
    check_shape(name, operations, in_flight, latency_s, SEEDS)


@pytest.mark.parametrize("count", [1, 2, 3, 24])
def test_few_operations_survive_an_outage(count):
    result = run_storm(Script(3, fault_share=0, outages=((0.0, 60.0),)), operations=count)
    assert not result.lost()
    assert result.model.calls <= count * 6 + 10
