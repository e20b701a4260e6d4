"""Score runs against labelled values."""
