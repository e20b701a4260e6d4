"""`promptreel open`: show runs in a browser on this machine, without an API key."""

from __future__ import annotations

import signal
import socket
import threading
import webbrowser
from typing import Any, Final
from urllib.parse import quote

import click

from promptreel.cli.options import command_line, data_dir_option, open_data_dir
from promptreel.cli.service_settings import database_errors, service_config
from promptreel.schemas.errors import RunNotFound
from promptreel.tables.request import iter_run_ids, read_request
from promptreel.tables.storage import Storage

_LOOPBACK: Final = "127.0.0.1"


@click.command("open")
@click.argument("run_id", required=False)
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@data_dir_option
def open_pages(run_id: str | None, no_browser: bool, data_dir: str) -> None:
    """Show RUN_ID, or all runs of the command line, in a browser.

    The pages are served until Ctrl-C, on this machine only. The printed link signs one browser in; it works once, within
    two minutes. Runs of other accounts of a service are not shown.
    """
    storage = open_data_dir(data_dir)
    _check_run(storage, run_id)
    config = service_config(data_dir)
    for ending in (signal.SIGTERM, signal.SIGHUP):  # end like Ctrl-C, so that the key is deleted
        signal.signal(ending, lambda number, frame: signal.raise_signal(signal.SIGINT))
    with socket.create_server((_LOOPBACK, 0)) as listener:
        try:
            _serve(config, listener, run_id, no_browser)
        except KeyboardInterrupt:
            click.echo("closed", err=True)


def _check_run(storage: Storage, run_id: str | None) -> None:
    """Check that the folder has the run, or any run, before a database is created in it.

    Raises:
        RunNotFound: it has not.
    """
    if run_id is not None:
        read_request(storage, run_id)
    elif next(iter_run_ids(storage), None) is None:
        raise RunNotFound(f"no run in {storage.root}; start one with: {command_line(storage, 'run', 'FOLDER')}")


def _serve(config: Any, listener: socket.socket, run_id: str | None, no_browser: bool) -> None:
    """Serve the pages on a listening socket until a signal ends the process."""
    import uvicorn

    from promptreel.api.jobs.local_runs import LocalRuns
    from promptreel.api.local_app import create_local_app, find_local_run, owner_of_local_runs, temporary_key
    from promptreel.api.site.open_link import OPEN_PATH
    from promptreel.api.web.http_protocol import server_options
    from promptreel.api.web.one_time_link import OneTimeLink

    port: int = listener.getsockname()[1]
    with database_errors(config.sqlalchemy_url):
        app = create_local_app(config, port)
    database = app.state.database
    account_id = owner_of_local_runs(database, config)
    runs = LocalRuns(database, app.state.storage, config)
    if run_id is not None:
        find_local_run(database, runs, account_id, run_id)
    target = "/runs" if run_id is None else f"/runs/{quote(run_id, safe='')}"
    with temporary_key(database, account_id) as key_hash:
        link = app.state.sign_in_link = OneTimeLink(key_hash, target)
        url = f"http://{_LOOPBACK}:{port}{OPEN_PATH}/{link.token}"
        click.echo(url)
        click.echo("The link works once, within two minutes. Ctrl-C closes the pages.", err=True)
        if not no_browser:  # in a thread, because a browser in the terminal returns only when it is closed
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        options = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, **server_options(config))
        runs.start()
        try:
            uvicorn.Server(options).run(sockets=[listener])
        finally:
            runs.stop()
