"""The database: engine, models, migrations and events."""
