"""Pipelines of a run, and the process that executes them."""

import logging

# On import, Beam warns about missing clients that only its BigQuery connector needs.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
