"""The database: engine, models, migrations, and what they record."""
