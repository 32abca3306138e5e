"""The mutants that mean the same as the code, each with the reason.

Nothing that the documentation promises differs: not a value, not a gradient, not a refusal. What
may differ is time, memory, or a rounding. `mutation.py` runs them all the same, and a key that is
no mutant's any more, or whose mutant a test kills, is an error.
"""

EQUIVALENT = {
    "params.Params.__init__: zip(shapes.items(), ends, ends[1:], strict=False)"
    " -> zip(shapes.items(), ends, ends[1:])": "False is what zip takes by default",
    "layers.Dense.backward_params: x.reshape(-1, n)"
    " -> x.reshape(-2, n)": "NumPy infers a length that is negative, whichever it is",
    "layers.Dense.backward_params: dy.reshape(-1, m)"
    " -> dy.reshape(-2, m)": "NumPy infers a length that is negative, whichever it is",
    "vae.VAE.loss_backward_inputs: dx_target.reshape(-1, *trace.x.shape)"
    " -> dx_target.reshape(-2, *trace.x.shape)": "NumPy infers a length that is negative",
    "layers.Trunk.backward_params: i > 0"
    " -> i >= 0": "time only: dL/dx is computed, and is nobody's",
    "posterior.kl: (mu * mu + sigma * sigma - 1 - logvar).sum(axis=-1)"
    " -> (mu * mu + sigma * sigma - 1 - logvar).sum(axis=1)": "mu is (B, Z): axis 1 is the last",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l.real >= 0": "at l = 0 both forms of softplus are log 2, with the same derivative",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l > 0": "complex numbers are ordered by real part first; at 0 both forms are the same",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l.real > 1": "between 0 and 1 both forms of softplus are exact: e^l is at most e",
    "bounds.iwae_loss: log_w.real.max(axis=0)"
    " -> log_w.max(axis=0)": "what is divided out is multiplied in again, whatever it is",
    "bounds.iwae_loss_backward: log_w.real.max(axis=0)"
    " -> log_w.max(axis=0)": "what is divided out cancels, whatever it is",
    "bounds.iwae_loss_backward: v.shape[-1] -> v.shape[1]": "v is (K, B): axis 1 is the last",
    "bounds.log_weights: log_w.reshape(-1, log_w.shape[-1])"
    " -> log_w.reshape(-2, log_w.shape[-1])": "NumPy infers a length that is negative",
    "vae.VAE.forward: posterior.sample(mu, sigma, eps)"
    " -> posterior.sample(mu, eps, sigma)": "sigma eps = eps sigma, to the last bit",
    "vae.VAE._array: array.astype(self._params.dtype, copy=False)"
    " -> array.astype(self._params.dtype)": "memory only: a copy of what need not be copied",
    "vae.VAE._array: array.astype(self._params.dtype, copy=False)"
    " -> array.astype(self._params.dtype, copy=True)": "memory only: as above",
    "optim: FLUSH_EVERY = 100"
    " -> FLUSH_EVERY = 101": "the threshold of the flush has room for that: 0.84^101 1e8 > 1",
    "optim.Adam.__init__: (self.m, self.v)"
    " -> (self.v, self.m)": "two vectors of zeros of the same layout are exchanged",
    "optim.Adam.__init__: min(BLOCK, params.flat.size)"
    " -> max(BLOCK, params.flat.size)": "memory only: the scratch is longer than is needed",
    "optim.Adam.__init__: np.finfo(params.dtype).tiny * 100000000.0"
    " -> np.finfo(params.dtype).tiny * 200000000.0": "a threshold with room on both sides",
    "optim.Adam.step: u < self._tiny"
    " -> u <= self._tiny": "a threshold with room on both sides: that number may go or stay",
}
