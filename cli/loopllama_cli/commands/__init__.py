"""One module a group of commands. Each function here is a command: parse, one call, show."""
