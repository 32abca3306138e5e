"""From a model and images to a trained model, and what it is worth.

recipe    the settings of a training, each in one place
loop      a training step, epochs
state     all that a training changes: what it takes to go on with it
evaluate  the ELBO and log p(x) of held-out images
team      threads that share a step
"""
