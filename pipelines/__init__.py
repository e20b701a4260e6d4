"""The recipes, and the process that runs them."""

import logging

# Beam warns at its import of clients that only its BigQuery connector needs.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
