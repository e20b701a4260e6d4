"""Analyst SQL: run one SELECT over the committed tables of a caller's runs in a sandboxed process."""
