"""The mutants that mean the same as the code, each with the reason.

Nothing that the documentation promises differs: not a value, not a gradient, not a refusal. What
may differ is time, memory, or a rounding. `mutation.py` runs them all the same, and a key that is
no mutant's any more, or whose mutant a test kills, is an error.
"""

EQUIVALENT = {
    "params.Params.__init__: zip(shapes.items(), ends, ends[1:], strict=False)"
    " -> zip(shapes.items(), ends, ends[1:])": "False is what zip takes by default",
    "layers.flatten_samples: x.reshape(-1, x.shape[-1])"
    " -> x.reshape(-2, x.shape[-1])": "NumPy infers a length that is negative, whichever it is",
    "network.Network.backward_inputs: dtarget.reshape(-1, *t.x.shape)"
    " -> dtarget.reshape(-2, *t.x.shape)": "NumPy infers a length that is negative",
    "layers.flatten_samples: x.ndim == 2"
    " -> x.ndim == -2": "time only: a matrix gets the shape that it has",
    "layers.Dense.forward: x.ndim == 2 -> x.ndim == -2": "time only: the shape that it has",
    "layers.Dense.backward: x.ndim == 2 -> x.ndim == -2": "time only: the shape that it has",
    "layers.Trunk.backward_params: i > 0"
    " -> i >= 0": "time only: dL/dx is computed, and is nobody's",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l.real >= 0": "at l = 0 both forms of softplus are log 2, with the same derivative",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l > 0": "complex numbers are ordered by real part first; at 0 both forms are the same",
    "likelihood.Bernoulli.nll: l.real > 0"
    " -> l.real > 1": "between 0 and 1 both forms of softplus are exact: e^l is at most e",
    "likelihood.Likelihood.link: range(70)"
    " -> range(71)": "time only: 2000 / 2^70 is below the rounding of any l",
    "likelihood.Likelihood.settings: {'name': self.name} | {n: v for n, v in pairs if not"
    " isinstance(v, np.ndarray)} -> {n: v for n, v in pairs if not isinstance(v, np.ndarray)}"
    " | {'name': self.name}": "the order of the settings is nobody's, and no field is called name",
    "likelihood.Likelihood.over: block.split('.')[-1]"
    " -> block.split('.')[1]": "the name of a block of a likelihood has one dot",
    "likelihood.ContinuousBernoulli.sample: l > 0"
    " -> l >= 0": "at l = 0 x is uniform, and so is 1 - x",
    "likelihood.log_integral: np.abs(l.real) < 1"
    " -> np.abs(l.real) <= 1": "at 1 both forms are right",
    "likelihood.log_integral: np.abs(l.real)"
    " -> np.abs(l)": "the imaginary part of a complex step is 1e-30",
    "likelihood.log_integral: np.where(near, l * l, 0)"
    " -> np.where(near, l * l, 1)": "what stands where the series is not read is never seen",
    "likelihood.log_integral: np.where(near, 1, np.where(l.real > 0, l, -l))"
    " -> np.where(near, 2, np.where(l.real > 0, l, -l))": "what stands where it is not read",
    "likelihood.log_integral: np.where(near, 1, np.where(l.real > 0, l, -l))"
    " -> np.where(near, -1, np.where(l.real > 0, l, -l))": "what stands where it is not read",
    "likelihood.log_integral: l.real > 0 -> l.real >= 0": "at l = 0 the series is read",
    "likelihood.log_integral: l.real > 0"
    " -> l > 0": "complex numbers are ordered by real part first; at 0 the series is read",
    "likelihood.log_integral: l.real > 0 -> l.real >= 0 (2)": "at l = 0 the series is read",
    "likelihood.log_integral: l.real > 0"
    " -> l > 0 (2)": "complex numbers are ordered by real part first; at 0 the series is read",
    "likelihood.langevin: np.abs(h.real) < 0.5"
    " -> np.abs(h.real) <= 0.5": "at 1/2 both forms are right",
    "likelihood.langevin: np.abs(h.real)"
    " -> np.abs(h)": "the imaginary part of a complex step is 1e-30",
    "likelihood.langevin: np.where(near, h * h, 0)"
    " -> np.where(near, h * h, 1)": "what stands where the fraction is not read is never seen",
    "likelihood.langevin: np.where(near, 1, h)"
    " -> np.where(near, 2, h)": "what stands where it is not read is never seen",
    "likelihood.langevin: np.where(near, 1, h)"
    " -> np.where(near, -1, h)": "what stands where it is not read is never seen",
    "bounds.iwae_loss: log_w.real.max(axis=0)"
    " -> log_w.max(axis=0)": "what is divided out is multiplied in again, whatever it is",
    "bounds.iwae_loss_backward: log_w.real.max(axis=0)"
    " -> log_w.max(axis=0)": "what is divided out cancels, whatever it is",
    "bounds.iwae_loss_backward: v.shape[-1] -> v.shape[1]": "v is (K, B): axis 1 is the last",
    "bounds.log_weights: log_w.reshape(-1, log_w.shape[-1])"
    " -> log_w.reshape(-2, log_w.shape[-1])": "NumPy infers a length that is negative",
    "network.Network.forward: posterior.sample(mu, sigma, eps)"
    " -> posterior.sample(mu, eps, sigma)": "sigma eps = eps sigma, to the last bit",
    "vae.VAE.resample: posterior.sample(trace.mu, trace.sigma, eps)"
    " -> posterior.sample(trace.mu, eps, trace.sigma)": "sigma eps = eps sigma, to the last bit",
    "vae.VAE.settings: {name: getattr(self, name) for name in SETTINGS} | own"
    " -> own | {name: getattr(self, name) for name in SETTINGS}": "no name is in both",
    "vae._check_terms: zip(names, dterms, (shape, shape[-1:], shape), strict=True)"
    " -> zip(names, dterms, (shape, shape[-1:], shape))": "a Terms has three fields",
    "vae._check_terms: zip(names, dterms, (shape, shape[-1:], shape), strict=True)"
    " -> zip(names, dterms, (shape, shape[-1:], shape), strict=False)": "as above",
    "optim.burda: 3280 * share + 1e-06"
    " -> 3280 * share + 2e-06": "more than a rounding, less than a step: so are both",
    "optim.burda: epoch >= (3 ** i - 1) / 2"
    " -> epoch > (3 ** i - 1) / 2": "no share is 1e-6 of an epoch before a border",
    "optim.burda: float(10 ** (-stage / 7))"
    " -> 10 ** (-stage / 7)": "a power of Python numbers is a float already",
    "optim.Average.update: t // AVERAGE_EVERY"
    " -> t / AVERAGE_EVERY": "t is a multiple there, or less than one",
    "optim.Average.update: t < AVERAGE_EVERY"
    " -> t <= AVERAGE_EVERY": "at t = AVERAGE_EVERY the first condition holds",
    "optim.Adam.__init__: (self.M, self.V)"
    " -> (self.V, self.M)": "two vectors of zeros of the same layout are exchanged",
    "optim.Adam.__init__: np.finfo(params.dtype).tiny * 100000000.0"
    " -> np.finfo(params.dtype).tiny * 200000000.0": "a threshold with room on both sides",
    "optim.Adam.update: u < self._tiny"
    " -> u <= self._tiny": "a threshold with room on both sides: that number may go or stay",
    "data.mnist._fetch: urlopen(url, timeout=20)"
    " -> urlopen(url, timeout=21)": "a limit with room on both sides",
    "data.binarize.batch: np.less(u, p, out=u).astype(dtype, copy=False)"
    " -> np.less(u, p, out=u).astype(dtype)": "memory only: a copy of what need not be copied",
    "data.binarize.batch: np.less(u, p, out=u).astype(dtype, copy=False)"
    " -> np.less(u, p, out=u).astype(dtype, copy=True)": "memory only: as above",
    "data.binarize.batch: np.less(u, p, out=u)"
    " -> np.less(u, p)": "memory only: what is converted are bools, not floats of 0 and 1",
    "data.binarize.minibatches: rng.permutation(n).astype(np.intp, copy=False)"
    " -> rng.permutation(n)": "where an int64 is an intp it is one already",
    "data.binarize.minibatches: rng.permutation(n).astype(np.intp, copy=False)"
    " -> rng.permutation(n).astype(np.intp)": "memory only: a copy of what need not be copied",
    "data.binarize.minibatches: rng.permutation(n).astype(np.intp, copy=False)"
    " -> rng.permutation(n).astype(np.intp, copy=True)": "memory only: as above",
    "training.evaluate.mean_elbo: losses[1] -> losses[-1]": "of two terms the second is the last",
    "training.evaluate.Evaluation.elbos: self.kls.sum(axis=1)"
    " -> self.kls.sum(axis=-1)": "kls are (N, Z): axis 1 is the last",
    "training.evaluate.Evaluation.summary: self.kls.sum(axis=1)"
    " -> self.kls.sum(axis=-1)": "kls are (N, Z): axis 1 is the last",
    "training.evaluate.evaluate_likelihood: zip(*chunks, strict=True)"
    " -> zip(*chunks)": "each chunk has four arrays",
    "training.evaluate.evaluate_likelihood: zip(*chunks, strict=True)"
    " -> zip(*chunks, strict=False)": "each chunk has four arrays",
    "training.evaluate.evaluate_likelihood: log_likelihoods + reconstructions + kls.sum(axis=1)"
    " -> log_likelihoods + reconstructions - kls.sum(axis=1)": "finite if all of them are",
    "training.evaluate.evaluate_likelihood: log_likelihoods + reconstructions"
    " -> log_likelihoods - reconstructions": "finite if both of them are",
    "training.evaluate.evaluate_likelihood: kls.sum(axis=1)"
    " -> kls.sum()": "finite if all of them are",
    "training.evaluate.evaluate_likelihood: kls.sum(axis=1)"
    " -> kls.mean(axis=1)": "finite if all of them are",
    "training.evaluate.evaluate_likelihood: kls.sum(axis=1)"
    " -> kls.sum(axis=-1)": "kls are (N, Z): axis 1 is the last",
    "training.evaluate._evaluate_chunk: np.zeros(len(x))"
    " -> np.ones(len(x))": "the first total is multiplied by e^-inf = 0",
    "training.state.State.model_id: hashlib.sha256(self.kept.params.flat.data).hexdigest()[:16]"
    " -> hashlib.sha256(self.kept.params.flat.data)"
    ".hexdigest()[:17]": "it is compared as a whole, and its length is nobody's",
    "training.state.State.model_id: hashlib.sha256(self.kept.params.flat.data).hexdigest()[:16]"
    " -> hashlib.sha256(self.kept.params.flat.data)"
    ".hexdigest()[:-16]": "it is compared as a whole, and its length is nobody's",
    "training.state.Record.held_out: terms[0]"
    " -> terms[1]": "the terms of a set are all there, or none is",
    "training.loop.train_step: norm > clip -> norm >= clip": "clip / norm is then 1",
    "training.loop.start_output_bias: images.shape[1]"
    " -> images.shape[-1]": "images are (N, D): axis 1 is the last",
    "training.loop.start_output_bias: (low, high)"
    " -> (high, low)": "only the mean of the two is read, and whether both are finite",
    "training.loop.start_output_bias: high - low"
    " -> high + low": "both are finite if both ends are: inf - inf is not, either",
    "training.loop.start_output_bias: high - low -> low - high": "both are finite if both ends are",
    "training.loop.train_step: zip(*sums, strict=True)"
    " -> zip(*sums)": "each of the sums has three fields",
    "training.loop.train_step: zip(*sums, strict=True)"
    " -> zip(*sums, strict=False)": "each of the sums has three fields",
    "training.loop.prepare: images.shape[1]"
    " -> images.shape[-1]": "images are (N, D): axis 1 is the last",
}
