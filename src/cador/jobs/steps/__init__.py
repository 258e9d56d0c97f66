"""Steps of sandbox jobs: each compiles its part of a plan to program text, files and artifacts to keep."""
