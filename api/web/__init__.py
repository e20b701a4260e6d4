"""Shared HTTP layer: authentication, limits, errors and responses."""
