"""What docs/likelihoods.md says is so: all of its code runs, and its check can fail."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from numpy_vae import VAE
from numpy_vae.gradcheck.model import check_model
from numpy_vae.likelihood import LIKELIHOODS, Likelihood

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "likelihoods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CLASS = BLOCKS[0]


def logistic(code=CLASS):
    """Return the class that the page defines."""
    names = {"__name__": "page"}
    exec(code, names)
    return names["Logistic"]


def all_reports_ok(likelihood):
    vae = VAE(data_dim=5, hidden=(4,), latent_dim=2, likelihood=likelihood, rng=0)
    return all(check.report.ok for check in check_model(vae))


def test_the_class_has_30_lines_at_most():
    assert CLASS.count("\n") <= 30 and max(map(len, CLASS.splitlines())) <= 88


def test_all_blocks_run_one_after_the_other(tmp_path):
    assert len(BLOCKS) == PAGE.count("```") / 2 == 3
    code = "\n".join([*BLOCKS, "assert again.likelihood == Logistic(0.1)"])
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"-?\d+\.\d+ nats per image\n", result.stdout)
    assert (tmp_path / "logistic.npz").exists()


@pytest.mark.parametrize("scale", [0.1, 2.0])
@pytest.mark.mathematics
def test_the_density_is_scipys_and_the_samples_have_it(rng, scale):
    x, l = 3 * rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    likelihood = logistic()(scale)
    expected = -stats.logistic.logpdf(x, l, scale).sum(axis=-1)
    np.testing.assert_allclose(likelihood.nll(x, l), expected, rtol=1e-13)
    np.testing.assert_allclose(
        likelihood.nll(x + 1e5, l),
        ((x + 1e5 - l) / scale).sum(axis=-1) + 7 * np.log(scale),
        rtol=1e-13,
    )
    np.testing.assert_array_equal(likelihood.mean(l), l)
    draws = likelihood.sample(np.full(20_000, 0.7), rng)
    assert stats.kstest(draws, stats.logistic(0.7, scale).cdf).pvalue > 0.01


@pytest.mark.purity
def test_what_float32_gives_is_float32(rng):
    likelihood, l = logistic()(), np.ones((5, 7), np.float32)
    values = [likelihood.nll(l, l), likelihood.nll_backward(l, l, l[:, 0])]
    values += [likelihood.sample(l, rng), likelihood.nll_backward_x(l, l, l[:, 0])]
    assert {value.dtype for value in values} == {np.dtype(np.float32)}


@pytest.mark.parametrize("scale", [0.1, 2.0])
@pytest.mark.gradient
def test_its_gradient_passes_the_check(scale):
    assert all_reports_ok(logistic()(scale))


WRONG = {
    "a factor": ("np.tanh(u / 2)", "np.tanh(u)"),
    "a sign": ("return -dnll", "return dnll"),
    "a scale": ("np.tanh(u / 2) / self.scale", "np.tanh(u / 2)"),
    "dx": ("return -self.nll_backward(", "return self.nll_backward("),
    "a weight": ("-dnll[..., np.newaxis]", "-dnll.mean()"),
    "the density": ("2 * np.log1p", "np.log1p"),
    "no complex numbers": ("np.where(u.real < 0, -u, u)", "np.abs(u)"),
}


@pytest.mark.parametrize(("line", "wrong"), WRONG.values(), ids=WRONG)
@pytest.mark.gradient
def test_a_wrong_line_fails_the_check(line, wrong):
    assert CLASS.count(line) == 1
    likelihood = logistic(CLASS.replace(line, wrong))()
    try:
        ok = all_reports_ok(likelihood)
    except ValueError as error:  # no function to be checked
        assert wrong == "np.abs(u)" and "not analytic" in str(error)
    else:
        assert not ok


@pytest.mark.gradient
def test_the_check_on_the_page_stops_at_a_wrong_gradient():
    wrong = CLASS.replace(*WRONG["a factor"])
    with pytest.raises(AssertionError, match=r"^initial, reconstruction, central\n(.|\n)*FAIL"):
        exec(f"{wrong}\n{BLOCKS[1]}", {"__name__": "page"})


@pytest.mark.gradient
def test_a_wrong_constant_passes_the_gradient_check_and_not_scipys():
    wrong = CLASS.replace(" + math.log(self.scale)", "")
    assert wrong != CLASS and all_reports_ok(logistic(wrong)())
    check = BLOCKS[1].partition("vae = ")[0]
    exec(f"{CLASS}\n{check}", {"__name__": "page"})
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        exec(f"{wrong}\n{check}", {"__name__": "page"})


def test_the_page_lists_every_likelihood_and_defines_what_one_must_have():
    listed = re.findall(r"^\| `(\w+)\(v?\)` \|", PAGE, re.MULTILINE)
    assert listed == [kind.__name__ for kind in LIKELIHOODS.values()]
    for name in Likelihood.__abstractmethods__ | {"name", "support"}:
        assert f" {name} = " in CLASS or f"def {name}(self" in CLASS, name
    for text in "frozen", "dataclass", "`likelihood.NAME`", "parameter", "setting":
        assert text in PAGE and text in Likelihood.__doc__, text
    for name in "nll_backward_params", "link":
        assert f"`{name}(" in PAGE and hasattr(Likelihood, name)


def test_every_link_of_the_page_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", PAGE)
    assert links and all((ROOT / "docs" / link).exists() for link in links)
