"""Around the domain: hear events, carry out commands, follow executions, admit tasks, keep time."""
