"""Helpers of supervisor tests; their fixtures are in `tests/api/supervisor_fixtures.py`."""

import subprocess
import sys
import threading
import time

from sqlalchemy import text

from promptreel.api.db.models import RunRecord, Video
from promptreel.api.jobs.supervisor import Supervisor
from promptreel.api.runs.statuses import FINAL
from promptreel.api.web.middleware import Metrics
from tests.pipeline_runs import wait_for
from tests.synthetic_runs import Catalogue


class Bench:
    """A service without a supervisor; tests create supervisors and call their steps."""

    def __init__(self, server):
        self.server, self.config = server, server.config
        self.database, self.storage = server.app.state.database, server.app.state.storage
        self.caller = server.caller()
        self.catalogue = Catalogue(server, self.caller.account_id)

    def supervisor(self):
        return Supervisor(self.database, self.storage, self.config, Metrics())

    def run(self, run_id):
        """Return the current row of a run."""
        with self.database.read() as session:
            return session.get(RunRecord, run_id)

    def update(self, run_id, **values):
        with self.database.write() as session:
            run = session.get(RunRecord, run_id)
            for name, value in values.items():
                setattr(run, name, value)

    def status_of(self, video_id):
        with self.database.read() as session:
            return session.get(Video, video_id).status

    def pending_run(self, api_media):
        """Create a pending run of an image; return the ids of run and image."""
        video_id = self.caller.video(api_media / "c.png")
        target = {"type": "videos", "video_ids": [video_id]}
        return self.caller.start(self.caller.prompt(), target), video_id

    def step_until(self, supervisor, is_done, seconds=60):
        def step():
            time.sleep(0.05)
            supervisor.step()
            return is_done()

        wait_for(step, seconds)

    def run_to_end(self, supervisor, run_id):
        self.step_until(supervisor, lambda: self.run(run_id).status in FINAL)
        return self.run(run_id)

    def start_blocked(self, action):
        """Call an action in a new thread; return the thread when it has ended or waits for a database lock."""
        thread = threading.Thread(target=action)
        thread.start()
        blocked = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

        def is_settled():
            time.sleep(0.02)
            with self.database.read() as session:
                return not thread.is_alive() or session.scalar(blocked) > 0

        wait_for(is_settled, 30)
        return thread


def once(monkeypatch, module, name, before):
    """Patch a function to call `before` at the start of its next call."""
    original, pending = getattr(module, name), [before]

    def call(*arguments, **options):
        if pending:
            pending.pop()()
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, call)


DYING_RUNNER = "import os, sys; print('error: out of luck', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"


def kill_runners(monkeypatch, deaths):
    """Make the next `deaths` runners die immediately; return the list of all started commands."""
    commands, popen = [], subprocess.Popen

    def start(command, **options):
        commands.append(command)
        return popen([sys.executable, "-c", DYING_RUNNER] if len(commands) <= deaths else command, **options)

    monkeypatch.setattr("promptreel.api.jobs.supervisor.subprocess.Popen", start)
    return commands
