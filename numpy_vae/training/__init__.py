"""From a model and images to a trained model, and what it is worth.

recipe    the settings of a training, each in one place
loop      a training step, epochs
state     everything that training changes: what a checkpoint must hold
evaluate  the ELBO and log p(x) of held-out images
team      threads that share a step
"""
