"""Data definitions: ids, media time, records and their Arrow schemas, prompts, settings and errors.

This package imports no other promptreel package, no Beam and no model library.
"""
