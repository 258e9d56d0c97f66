"""``cador selftest --chaos``: real servers that are killed, frozen and restarted while people use them, and the proof
afterwards that nothing was lost and nothing happened twice."""
