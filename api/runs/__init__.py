"""Prompt runs: plan, store, render, cancel, retry, export."""
