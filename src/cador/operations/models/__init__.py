"""One model per kind of configuration object: its fields, defaults and the texts of its faults."""
