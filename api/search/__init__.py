"""Search over committed results: text (semantic and lexical), image and multimodal search, and filters."""
