"""Models behind one small base. The call policy lives here once; a provider only says how to ask."""
