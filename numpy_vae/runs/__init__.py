"""Run directories.

run         begin, resume, train and finish a run
checkpoint  the whole run in one file
directory   the folder: create, lock, open
owned       which files of the folder may be replaced or removed
images      reload a run's images, draw its figures
progress    the live line, and Ctrl-C
"""
