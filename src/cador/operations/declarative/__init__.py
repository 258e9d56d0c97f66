"""The declarative form: one YAML stream, short or long, to documents. Pure: usable without a server."""
