"""Clients of other systems: code hosts first."""
