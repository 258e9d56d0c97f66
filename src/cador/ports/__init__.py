"""What the inside asks of the outside, as Protocols. Each docstring states the promises its implementations keep."""
