"""``numpy-vae gradcheck``: what it prints, and its exit status."""

import re
import textwrap

import pytest

from numpy_vae import VAE, posterior
from numpy_vae.__main__ import main
from numpy_vae.commands.gradcheck import SMALL_MODEL
from numpy_vae.gradcheck.model import check_model


def test_gradcheck_prints_a_table_for_each_point_and_ends_with_0(capsys):
    assert main(["gradcheck", "--data-dim", "6", "--hidden", "5", "--latent", "2"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "6-5-2 relu, bernoulli, elbo, beta 0.7, seed 0; 4 examples"
    for point in "initial", "trained", "saturated, +80", "saturated, -80":
        assert sum(line.startswith(point) for line in lines) == 1
    for block in "encoder.0.W", "mu.b", "logvar.W", "output.b", "x ", "eps ":
        assert sum(line.startswith(block) for line in lines) == 4
    assert lines[-1] == "ok: all 24 checks" and "FAIL" not in out
    error = re.search(r"central (\S+), complex step (\S+); least order (\S+); ", lines[-2])
    central, exact, order = map(float, error.groups())
    assert central < 1e-6 and exact < 1e-12 and order >= 1.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--activation", "tanh", "--likelihood", "gaussian", "--variance", "0.5", "--beta", "4"],
        ["--hidden", "none", "--beta", "0"],
        ["--hidden", "4,3,2", "--seed", "7", "--entries", "3"],
        ["--bound", "iwae", "--likelihood", "learned_gaussian", "--variance", "2"],
    ],
)
def test_gradcheck_takes_the_settings_of_the_model(capsys, words):
    assert main(["gradcheck", "--data-dim", "5", "--latent", "2", "--hidden", "4", *words]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert ("log ratio" in out) == ("iwae" in words)
    first = out.splitlines()[0]
    if "tanh" in words:
        assert first.startswith("5-4-2 tanh, gaussian, elbo, beta 4, seed 0")
    elif "none" in words:
        assert first.startswith("5-2 relu, bernoulli, elbo, beta 0")
    elif "iwae" in words:
        assert first.startswith("5-4-2 relu, learned_gaussian, iwae, beta 0.7") and "learned" in out
        assert "likelihood.logvar" in out
    else:
        assert first.startswith("5-4-3-2-2 relu, bernoulli, elbo, beta 0.7, seed 7")


@pytest.mark.slow
def test_gradcheck_ends_with_1_and_both_values_when_a_gradient_is_wrong(capsys, monkeypatch):
    right = posterior.sample_backward

    def without_a_half(eps, sigma, dz):
        dmu, dlogvar, deps = right(eps, sigma, dz)
        return dmu, 2 * dlogvar, deps

    monkeypatch.setattr(posterior, "sample_backward", without_a_half)
    assert main(["gradcheck", "--data-dim", "6", "--hidden", "5", "--latent", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    # All but those of the KL alone, and of both terms at the saturated points, where the KL
    # drowns the sampling path: that is why each term is checked alone.
    assert lines[-1] == "FAIL: 14 of 24 checks"
    wrong = [line.split() for line in lines if re.match(r"FAIL  logvar\.b\[", line)]
    assert wrong and all(line[-1] in ("central", "complex") for line in wrong)
    assert any(float(line[-4]) == pytest.approx(2 * float(line[-3]), rel=1e-3) for line in wrong)


@pytest.mark.slow
def test_gradcheck_samples_the_blocks_of_a_large_model(monkeypatch):
    asked, of_another = [], list(check_model(VAE(3, (), 1, rng=0), max_entries=1))

    def spy(vae, beta, *, max_entries, **settings):
        asked.append((vae.params.flat.size, max_entries))
        return of_another

    monkeypatch.setattr("numpy_vae.commands.gradcheck.check_model", spy)
    for words in [], ["--data-dim", "90", "--hidden", "60"], ["--entries", "9"]:
        assert main(["gradcheck", *words]) == 0
    (size, most), (larger, few), (_, nine) = asked
    assert most == size > 1000 and few == 20 and larger > SMALL_MODEL and nine == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data-dim", "0"], "argument --data-dim: '0' must be a whole number from 1 to 65536"),
        (["--entries", "0"], "argument --entries: '0' must be a whole number from 1 to"),
        (["--beta", "-1"], "argument --beta: '-1' must be a number at least 0"),
        (["--seed", "x"], "argument --seed: 'x' must be a whole number from 0"),
        (["--variance", "1"], "--variance applies to a gaussian --likelihood, not to bernoulli"),
        (["--hidden", "65536,65536"], "the number of parameters is .* must be a whole number"),
        (["--data", "mnist"], "unrecognized arguments: --data mnist"),
    ],
)
def test_gradcheck_refuses_what_it_cannot_use_in_one_line(capsys, words, message):
    try:
        status = main(["gradcheck", *words])
    except SystemExit as exit:
        status = exit.code
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and re.search(message, error) and error.startswith("numpy-vae")


def test_the_help_of_gradcheck_shows_a_function_of_ones_own_that_runs(capsys):
    with pytest.raises(SystemExit):
        main(["gradcheck", "--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    code = textwrap.dedent(text[text.index("  import numpy as np") :])
    exec(code, {})
    assert capsys.readouterr().out.count("ok    x[") == 2
    # It is a test: without the factor 3 it fails.
    with pytest.raises(AssertionError):
        exec(code.replace("3 * x**2", "x**2"), {})
