"""The bytes of media, and the rows that name them."""
