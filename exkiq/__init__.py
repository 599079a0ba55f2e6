"""Background jobs for Python with no broker."""
