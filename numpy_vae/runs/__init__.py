"""A training with a folder: what is written there, when, and by whom.

run         begun, stopped, gone on with, finished
images      the images of a run, found again and drawn
checkpoint  the run in one file, to go on with
directory   the folder, to look at
owned       which of its files are its own, and may be replaced
progress    the live line, and where Ctrl-C takes effect
"""
