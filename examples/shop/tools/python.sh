# Sourced by the scripts: a python3 that this user can run (the one in PATH may belong to somebody else).
if command -v python3 >/dev/null && python3 -c '' 2>/dev/null; then
  PYTHON=python3
else
  PYTHON=/usr/bin/python3
fi
