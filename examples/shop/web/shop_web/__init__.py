"""Pages of the demo shop."""
