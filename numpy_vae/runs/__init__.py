"""Run directories: what is written to them, when, and by whom.

run         a training run on disk: begin, resume, train, finish
images      its images loaded again, its figures drawn
checkpoint  the run in one file, to go on with
directory   the folder, to look at
owned       which of its files are its own, and may be replaced
progress    the live line, and where Ctrl-C takes effect
"""
