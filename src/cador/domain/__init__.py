"""What the system is: frozen values and decisions. No I/O, no clock, no await."""
