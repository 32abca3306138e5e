"""The commands of the command line, a file for each; what they share: `arguments`, `inputs`."""
