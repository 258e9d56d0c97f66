"""Prices and carts of the demo shop."""
