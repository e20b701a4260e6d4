"""The supervisor's next step for a run, as a table."""

import pytest

from promptreel.api.jobs.next_step import Facts, Finish, Follow, GiveUp, Resume, Start, Wait, next_step
from promptreel.tables.manifest import Manifest

COMMIT = Manifest("run_a", 2, 1, "token", "completed", None, "2026-01-01T00:00:00Z", {})


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        (Facts(10.0, 10.5), Wait()),
        (Facts(10.5, 10.5), Start()),
        (Facts(10.5, 10.5, is_alive=True, commit=COMMIT, starts=9), Start()),
        (Facts(10.0, None, is_alive=True), Follow()),
        (Facts(10.0, None, is_alive=True, commit=COMMIT), Follow()),
        (Facts(10.0, None, commit=COMMIT, starts=1, last_start=5), Finish(COMMIT)),
        (Facts(10.0, None, commit=COMMIT, starts=5, last_start=5), Finish(COMMIT)),
        (Facts(10.0, None, starts=1, last_start=5), Resume(1)),
        (Facts(10.0, None, starts=4, last_start=5), Resume(4)),
        (Facts(10.0, None, starts=5, last_start=5), GiveUp()),
        (Facts(10.0, None, starts=6, last_start=5), GiveUp()),
    ],
)
def test_the_next_step_follows_from_the_facts(facts, step):
    assert next_step(facts) == step
