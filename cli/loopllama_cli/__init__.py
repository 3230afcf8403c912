"""What runs on a person's machine: the command line, the local stack, catalog building. Never in Lambda."""
