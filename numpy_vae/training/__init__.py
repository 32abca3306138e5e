"""From a model and images to a trained model, and what it is worth.

loop      a training step, epochs, records
evaluate  the ELBO and log p(x) of held-out images
team      threads that share a step
memory    freed memory is kept for the next step
"""
