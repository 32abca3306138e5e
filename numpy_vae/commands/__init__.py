"""The commands of the command line, one file each; `arguments` and `inputs` are shared."""
