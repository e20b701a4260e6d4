"""Background jobs: the supervisor of runs and the export worker."""
