"""The database, on SQLite and PostgreSQL: migrations from every revision, and transactions."""

import threading
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, MetaData, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from promptreel.api.db.clock import now
from promptreel.api.db.engine import Database
from promptreel.api.db.events import record_event
from promptreel.api.db.migrate import _FOLDER, migrate
from promptreel.api.db.models import Account, ApiKey, Base, EventRecord, Export
from tests.api_server import ApiServer, ok_json

pytest_plugins = ["tests.api_fixtures"]

CREATED_AT = datetime(2026, 4, 20, 10, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The URL of a new, empty database of each kind."""
    if request.param == "postgresql":
        plain = request.getfixturevalue("postgres").new_database()
        return plain.replace("postgresql://", "postgresql+psycopg://")
    return f"sqlite:///{tmp_path / 'data' / 'promptreel.db'}"


@pytest.fixture
def database(url):
    database = Database(url)
    yield database
    database.close()


def revisions():
    """Return all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()][::-1]


def fill(database):
    """Insert a row into every existing table, as an older version of the code would; return the contents."""
    metadata = MetaData()
    metadata.reflect(database.engine)
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    with database.write() as session:
        for table in tables:
            session.execute(insert(table), _row(table))
    return contents(database, {table.name for table in tables})


def _row(table):
    return {column.name: _value(column) for column in table.columns}


def _value(column):
    if column.foreign_keys:
        return next(iter(column.foreign_keys)).column.name
    if isinstance(column.type, JSON):
        return {"a": [1]}
    kind = column.type.python_type
    if kind is datetime:
        return CREATED_AT
    return {str: column.name, int: 7, bool: True, float: 1.5}[kind]


def contents(database, names):
    """Return all rows of the named tables as dicts."""
    metadata = MetaData()
    metadata.reflect(database.engine, only=sorted(names))
    with database.read() as session:
        return {
            name: [dict(row._mapping) for row in session.execute(select(metadata.tables[name]))]
            for name in sorted(names)
        }


def differences(database):
    """Return the differences between the database and the models."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)


def test_an_empty_database_is_migrated_to_the_models(database):
    migrate(database)
    assert differences(database) == []
    assert set(inspect(database.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_the_comparison_detects_a_missing_index(database):
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(text("DROP INDEX events_of_account"))
    assert differences(database)


@pytest.mark.parametrize("revision", revisions())
def test_an_older_database_is_migrated_with_its_rows(database, revision):
    migrate(database, revision)
    before = fill(database)
    migrate(database)
    assert differences(database) == []
    after = contents(database, set(before))
    for name, rows in before.items():
        assert [{column: row[column] for column in rows[0]} for row in after[name]] == rows, name


def test_the_models_of_older_runs_are_filled_in(database):
    migrate(database, "0004")
    metadata = MetaData()
    metadata.reflect(database.engine)
    runs, models = metadata.tables["prompt_runs"], {"run_a": "gemini-2.5-flash", "run_b": 'a "quoted" model'}
    with database.write() as session:
        session.execute(insert(metadata.tables["accounts"]), _row(metadata.tables["accounts"]))
        for run_id, model in models.items():
            settings = {"model": {"model": model}}
            session.execute(insert(runs), {**_row(runs), "run_id": run_id, "settings": settings})
    migrate(database)
    assert {row["run_id"]: row["model"] for row in contents(database, ["prompt_runs"])["prompt_runs"]} == models


def test_migrating_again_changes_nothing(database):
    migrate(database)
    before = fill(database)
    migrate(database)
    assert contents(database, set(before)) == before


def test_concurrent_migrations_succeed(url):
    errors = []

    def start():
        database = Database(url)
        try:
            migrate(database)
        except Exception as error:
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_the_exports_migration_goes_up_and_down(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(database, "0002")
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        columns = {row[1] for row in connection.exec_driver_sql("PRAGMA table_info(exports)")}
        assert columns == {column.name for column in Export.__table__.columns}
        command.downgrade(config, "0001")
        assert not list(connection.exec_driver_sql("PRAGMA table_info(exports)"))
    database.close()


def test_migrations_have_one_head():
    assert len(ScriptDirectory(str(_FOLDER)).get_heads()) == 1
    assert revisions()[0] == "0001"


def test_reading_events_after_a_number_misses_none(database):
    """An event must not become visible after one with a higher number, even if transactions overlap."""
    migrate(database)
    with database.write() as session:
        session.execute(insert(Base.metadata.tables["accounts"]), {"account_id": "a", "name": "a", "created_at": now()})
    writers, each = 6, 15

    def work():
        for number in range(each):
            with database.write() as session:
                record_event(session, "a", "media.created", payload={"n": number})
                session.flush()
                threading.Event().wait(0.002 * (number % 3))

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    seen = []
    while len(seen) < writers * each:
        alive = any(thread.is_alive() for thread in threads)
        with database.read() as session:
            newer = (
                select(EventRecord.number)
                .where(EventRecord.number > (seen[-1] if seen else 0))
                .order_by(EventRecord.number)
            )
            found = session.scalars(newer).all()
        seen += found
        if not found and not alive:
            break
    for thread in threads:
        thread.join()
    assert len(seen) == writers * each


def test_values_are_returned_as_stored(url, tmp_path, api_media):
    """The same requests on each database: unusual text, long lists, fractions of seconds."""
    with ApiServer(tmp_path / "data", database_url=url if "postgres" in url else "", supervise=False) as server:
        caller = server.caller()
        schema = {"type": "object", "properties": {"größe 💡": {"type": "number", "maximum": 1e300}}}
        body = {"name": "Ünïcode 💡", "prompt_text": "Say 'it'; -- \"now\" % _", "json_schema": schema}
        created = ok_json(caller.post("/prompts", body), 201)
        assert created["json_schema"] == schema
        assert ok_json(caller.get(f"/prompts/{created['prompt_id']}")) == created
        assert [found["prompt_id"] for found in ok_json(caller.get("/prompts"))["prompts"]] == [created["prompt_id"]]
        index_id = caller.index("x" * 255)
        videos = [caller.video(api_media / "c.png", index_id) for _ in range(3)]
        first = ok_json(caller.get(f"/indexes/{index_id}/videos?limit=1"))
        cursor = first["pagination"]["next_cursor"]
        rest = ok_json(caller.get(f"/indexes/{index_id}/videos?cursor={cursor}"))
        assert [video["video_id"] for video in first["data"] + rest["data"]] == videos[::-1]
        odd = caller.get("/prompts/a%00b")
        assert odd.status_code in (404, 422)
        assert caller.get("/prompts/" + "x" * 3000).status_code == 404
        assert caller.post(f"/prompt-runs/{'x' * 3000}/cancel", key="k").status_code in (404, 422)
        assert ok_json(caller.delete(f"/indexes/{index_id}"))["status"] == "deleted"


def test_a_complete_run_on_postgresql(postgres, tmp_path, api_media):
    url = postgres.new_database()
    with ApiServer(tmp_path / "data", database_url=url) as server:
        caller = server.caller()
        video_id = caller.video(api_media / "a.mp4")
        run_id = caller.start(caller.prompt(), {"type": "playground"})
        assert caller.wait(run_id)["status"] == "completed"
        assert len(ok_json(caller.get(f"/prompt-runs/{run_id}/results?video_id={video_id}"))["data"]) == 3
        assert ok_json(caller.get(f"/videos/{video_id}"))["status"] == "processed"
    assert not (tmp_path / "data" / "promptreel.db").exists()


def test_a_failed_commit_leaves_no_transaction_and_no_rows(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'promptreel.db'}")
    migrate(database)

    def add_key_without_account():
        with database.write() as session:
            session.execute(text("PRAGMA defer_foreign_keys = ON"))
            session.add(
                ApiKey(
                    key_id="key_a",
                    account_id="none",
                    name="n",
                    key_hash="h",
                    key_prefix="p",
                    scopes=[],
                    created_at=now(),
                )
            )

    for _ in range(2):
        # COMMIT fails on the foreign key, and leaves the transaction open.
        with pytest.raises(IntegrityError):
            add_key_without_account()
    with database.write() as session:
        session.add(Account(account_id="acc_a", name="a", created_at=now()))
    with database.read() as session:
        assert session.scalars(select(ApiKey.key_id)).all() == []
        assert session.scalars(select(Account.account_id)).all() == ["acc_a"]
    database.close()
