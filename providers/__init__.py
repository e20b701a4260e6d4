"""Models behind one small base class, and the call policy that all of them share."""
