"""`promptreel serve` and `promptreel keys`: the prompt-run API and its keys."""

from __future__ import annotations

import logging
import socket
import sys
from datetime import timedelta
from typing import Any

import click

from promptreel.cli.options import data_dir_option, json_option
from promptreel.cli.output import print_json, print_table
from promptreel.cli.service_settings import database_errors, service_config
from promptreel.schemas.errors import InvalidInput


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@click.option(
    "--media-root",
    "media_roots",
    multiple=True,
    metavar="DIR",
    help="Folder under which file:// media may be registered; repeatable.",
)
@data_dir_option
def serve(host: str, port: int, media_roots: tuple[str, ...], data_dir: str) -> None:
    """Serve the prompt-run API under /api/v2, and execute its runs.

    Further settings are environment variables, listed in docs/api.md. DATABASE_URL selects a PostgreSQL database;
    without it, the service uses a SQLite file in the data folder.
    """
    import uvicorn

    from promptreel.api.app import create_app
    from promptreel.api.runs.local_models import check_local_models
    from promptreel.api.runs.service_models import setting_warnings
    from promptreel.api.web.http_protocol import server_options
    from promptreel.api.web.middleware import JsonFormatter

    config = service_config(data_dir, media_roots)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    _check_port(host, port)
    warnings = [*check_local_models(config), *setting_warnings(config)]
    with database_errors(config.sqlalchemy_url):
        app = create_app(config)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    _print_first_steps(app.state.database, data_dir)
    # An event stream never ends by itself, so a shutdown closes open streams after a few seconds.
    options = server_options(config)
    uvicorn.run(app, host=host, port=port, log_config=None, timeout_graceful_shutdown=5, **options)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys, directly in the service's database."""


@keys.command("create")
@click.option("--name", default="default", show_default=True, help="Purpose of the key.")
@click.option("--account", metavar="ID", help="Account of the key. [default: the only account; created if none exists]")
@click.option("--new-account", metavar="NAME", help="Create an account with this name for the key.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["search", "read", "write", "admin"]),
    help="Scope of the key; each includes those listed before it; repeatable. [default: admin]",
)
@click.option("--expires-in-days", type=click.IntRange(1, 3650), metavar="N", help="Lifetime of the key in days.")
@data_dir_option
@json_option
def create(
    name: str,
    account: str | None,
    new_account: str | None,
    scopes: tuple[str, ...],
    expires_in_days: int | None,
    data_dir: str,
    as_json: bool,
) -> None:
    """Create a key and print its secret, shown only once."""
    from promptreel.api.db.clock import now
    from promptreel.api.web.auth import create_account, create_key

    database = _database(data_dir)
    with database.write() as session:
        owner = create_account(session, new_account) if new_account else _account(session, account)
        expires = None if expires_in_days is None else now() + timedelta(days=expires_in_days)
        record, secret = create_key(session, owner.account_id, name, list(scopes) or ["admin"], expires)
        created = {"key_id": record.key_id, "account_id": owner.account_id, "scopes": record.scopes, "key": secret}
    if as_json:
        print_json(created)
    else:
        click.echo(secret)
        click.echo(f"key {created['key_id']} of {created['account_id']}, scopes {', '.join(record.scopes)}", err=True)


@keys.command("list")
@data_dir_option
@json_option
def list_keys(data_dir: str, as_json: bool) -> None:
    """List keys, without their secrets."""
    from sqlalchemy import select

    from promptreel.api.db.models import ApiKey
    from promptreel.api.routes.api_keys import key_body

    with _database(data_dir).read() as session:
        records = session.scalars(select(ApiKey).order_by(ApiKey.created_at)).all()
        rows = [{"account_id": record.account_id, **key_body(record)} for record in records]
    if as_json:
        print_json(rows)
        return
    columns = ["key_id", "account_id", "name", "key_prefix", "scopes", "is_active", "created_at", "last_used_at"]
    print_table("API keys", columns, ([row[column] for column in columns] for row in rows))


@keys.command("revoke")
@click.argument("key_id")
@data_dir_option
def revoke(key_id: str, data_dir: str) -> None:
    """Revoke a key immediately."""
    from promptreel.api.db.clock import now
    from promptreel.api.db.models import ApiKey

    with _database(data_dir).write() as session:
        record = session.get(ApiKey, key_id)
        if record is None:
            raise InvalidInput(f"key {key_id} does not exist; list the keys with: promptreel keys list")
        record.revoked_at = record.revoked_at or now()
    click.echo(f"key {key_id} is revoked")


def _database(data_dir: str) -> Any:
    from promptreel.api.db.engine import Database
    from promptreel.api.db.migrate import migrate

    url = service_config(data_dir).sqlalchemy_url
    with database_errors(url):
        database = Database(url)
        migrate(database)
        return database


def _check_port(host: str, port: int) -> None:
    """Raise InvalidInput if the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(
            f"cannot listen on {host} port {port} ({reason}); choose another with --host or --port"
        ) from error


def _account(session: Any, account_id: str | None) -> Any:
    from sqlalchemy import select

    from promptreel.api.db.models import Account
    from promptreel.api.web.auth import create_account

    if account_id is not None:
        found = session.get(Account, account_id)
        if found is None:
            raise InvalidInput(f"account {account_id} does not exist; create one with --new-account NAME")
        return found
    accounts = session.scalars(select(Account).limit(2)).all()
    if len(accounts) > 1:
        raise InvalidInput("several accounts exist; select one with --account, or create one with --new-account")
    return accounts[0] if accounts else create_account(session, "default")


def _print_first_steps(database: Any, data_dir: str) -> None:
    from sqlalchemy import select

    from promptreel.api.db.models import ApiKey

    with database.read() as session:
        if session.scalars(select(ApiKey.key_id).limit(1)).first() is None:
            click.echo(
                f"no API key exists yet; create one with: promptreel keys create --data-dir {data_dir}", err=True
            )
