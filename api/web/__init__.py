"""What every request passes: who it is, its limits, and the shape of its answer."""
