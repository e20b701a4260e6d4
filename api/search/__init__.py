"""Search over committed results: by meaning and by words, by image, and by both."""
