"""Database threads, tables, one store per aggregate, migrations."""
