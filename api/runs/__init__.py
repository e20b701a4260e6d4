"""Prompt runs: planned, stored, shown, cancelled, retried."""
