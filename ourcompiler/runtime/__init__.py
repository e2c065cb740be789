"""What runs packages: the C runtime that is linked into each, and the session that Python holds."""
