"""The commands of the command line: a file for each, what it takes and what it does."""
