"""Media items: their bytes and their database rows."""
