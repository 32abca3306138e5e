"""The backward pass of a VAE as an exercise: copy this file, write the lines, have them checked.

    cp examples/backward_blank.py mine.py
    numpy-vae study backward --mine mine.py

The model has one hidden relu layer in the encoder and one in the decoder, and Bernoulli pixels.
B images of D pixels, H hidden units, Z latent dimensions. The loss is the mean over the images of
nll + kl, and dy is the derivative of the loss with respect to y, with the shape of y. Replace each
`...` by an expression. docs/study/11-backward.md derives every line.
"""

import numpy as np


def passes(x, eps, W_enc, b_enc, W_mu, b_mu, W_logvar, b_logvar, W_dec, b_dec, W_out, b_out):
    # The forward pass.
    B = len(x)
    a = x @ W_enc + b_enc  # (B, H)
    h = np.maximum(a, 0)  # (B, H)
    mu = h @ W_mu + b_mu  # (B, Z)
    logvar = h @ W_logvar + b_logvar  # (B, Z)
    sigma = np.exp(logvar / 2)  # (B, Z)
    z = mu + sigma * eps  # (B, Z)
    a_dec = z @ W_dec + b_dec  # (B, H)
    h_dec = np.maximum(a_dec, 0)  # (B, H)
    l = h_dec @ W_out + b_out  # (B, D), logits
    nll = (np.log(1 + np.exp(l)) - x * l).sum(axis=1)  # (B,)
    kl = (mu**2 + sigma**2 - 1 - logvar).sum(axis=1) / 2  # (B,)
    loss = (nll + kl).mean()

    # The backward pass: yours.
    dl = ...  # (B, D)
    dW_out = ...  # (H, D)
    db_out = ...  # (D,)
    dh_dec = ...  # (B, H)
    da_dec = ...  # (B, H)
    dW_dec = ...  # (Z, H)
    db_dec = ...  # (H,)
    dz = ...  # (B, Z)
    dmu = ...  # (B, Z), mu is read twice
    dlogvar = ...  # (B, Z), so is logvar
    dW_mu = ...  # (H, Z)
    db_mu = ...  # (Z,)
    dW_logvar = ...  # (H, Z)
    db_logvar = ...  # (Z,)
    dh = ...  # (B, H), and h
    da = ...  # (B, H)
    dW_enc = ...  # (D, H)
    db_enc = ...  # (H,)
    return locals()
