"""Analyst SQL: one SELECT over the committed tables of a caller's runs, in a locked-down process of its own."""
