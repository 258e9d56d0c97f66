"""Job types: one file each, named as on the wire: definition, run-time input, expansion, compilation, view."""
