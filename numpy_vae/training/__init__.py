"""Train a model and evaluate it.

recipe    the settings of a training, each in one place
loop      a training step, epochs
state     everything that training changes: the contents of a checkpoint
evaluate  the ELBO and log p(x) of held-out images
team      threads that share a step
"""
