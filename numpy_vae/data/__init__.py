"""Images in, minibatches out.

dataset   a data set, the MNIST files, a user's own arrays, binarisation, minibatches
mapped    images that stay on the disk
digits    synthetic digits, drawn by NumPy
"""
