"""Pages for browsers: HTML of what the API serves as JSON."""
