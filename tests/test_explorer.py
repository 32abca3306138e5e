"""The page decodes as the model does, shows what it says, and asks nothing of anyone.

What its script does is looked at in a real browser, without a window. A start of that takes a
second, so one start visits many pages, and one visit does many things.
"""

import base64
import itertools
import json
import queue
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest

from numpy_vae import VAE, Gaussian, Scaling
from numpy_vae.figures import explorer, style
from numpy_vae.figures.explorer import explorer_page
from numpy_vae.likelihood import LIKELIHOODS

NAME = """</title></script><script>alert("1")</script> <!-- it's & {{data}} é \ud800"""
LABELS = ["</script>", "b & 'c'"]


def model(likelihood="bernoulli", data_dim=12, hidden=(7,), latent_dim=2, seed=0, **settings):
    """Return a model with weights of about 1, biases too."""
    vae = VAE(data_dim, hidden, latent_dim, likelihood=likelihood, rng=0, **settings)
    vae.params.flat[:] = 0.7 * np.random.default_rng(seed).standard_normal(vae.params.flat.size)
    return vae


def read(page):
    """Return what the page knows."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def numbers(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def exactly(vae, z, dtype=np.float32):
    """Return decode in float64, with the weights as the page holds them."""
    flat = vae.params.flat.astype(dtype).astype(np.float64)
    twin = vae.astype(np.float64)
    twin.params.flat[:] = flat
    return twin.decode(np.asarray(z, np.float64))


# Without a browser ----------------------------------------------------------------------------


def test_the_page_is_one_file_and_loads_nothing():
    page = explorer_page(model(), (3, 4), name="x")
    policy = re.search('Content-Security-Policy" content="(.*?)"', page, re.DOTALL)[1]
    assert policy.split(";")[0] == "default-src 'none'" and "*" not in policy
    assert not re.search(r"https?:|src=|href=|url\(|@import|eval\(|new Function|\son\w+=", page)
    assert "{{" not in page and "<title>x · " in page


def test_a_name_and_labels_of_any_text_end_nothing():
    mu = np.zeros((2, 2))
    plain = explorer_page(model(), (3, 4), name="x", mu=mu, labels=["a", "b"])
    page = explorer_page(model(), (3, 4), name=NAME, mu=mu, labels=np.array(LABELS))
    for tag in "<script", "</script", "<!--", "<title", "</title":
        assert page.count(tag) == plain.count(tag)
    page.encode()
    assert read(page)["points"]["kinds"] == LABELS


def test_the_weights_are_those_of_the_decoder():
    vae = model(hidden=(9, 5), latent_dim=3, dtype=np.float64)
    data = read(explorer_page(vae, (3, 4), name="x"))
    names = [f"{layer}.{k}" for layer in ("decoder.0", "decoder.1", "output") for k in "Wb"]
    weights = np.concatenate([vae.params[name].ravel() for name in names])
    assert data["sizes"] == [3, 5, 9, 12] and data["dtype"] == "float32"
    np.testing.assert_array_equal(numbers(data["weights"], "<f4"), weights.astype(np.float32))


def test_points_keep_16_bits_and_bad_rows_are_left_out(rng):
    mu = rng.standard_normal((50, 3)) * [1, 100, 0]
    mu[7, 1], mu[9, 0] = np.nan, np.inf
    labels = rng.integers(3, 6, 50)
    data = read(explorer_page(model(latent_dim=3), (3, 4), name="x", mu=mu, labels=labels))
    points, kept = data["points"], np.delete(np.arange(50), [7, 9])
    codes = numbers(points["codes"], "<i2").reshape(48, 3)
    np.testing.assert_allclose(codes * points["steps"], mu[kept], rtol=0, atol=100 / 2**14)
    np.testing.assert_allclose(codes[:, 0] * points["steps"][0], mu[kept, 0], rtol=0, atol=4e-5 * 2)
    assert points["kinds"] == ["3", "4", "5"] and points["n"] == 48
    np.testing.assert_array_equal(numbers(points["rank"], "<i2") + 3, labels[kept])
    np.testing.assert_allclose(data["variance"], mu[kept].var(axis=0), rtol=0.005)
    nothing = read(explorer_page(model(), (3, 4), name="x", mu=np.full((4, 2), np.nan)))
    assert nothing["points"] is None and nothing["variance"] is None


@pytest.mark.parametrize(("latent_dim", "kept"), [(2, 5000), (200, 2500)])
def test_of_many_points_some_are_taken_evenly(latent_dim, kept):
    mu = np.repeat(np.arange(10_001.0)[:, np.newaxis], latent_dim, axis=1)
    vae = model(latent_dim=latent_dim, hidden=())
    points = read(explorer_page(vae, (3, 4), name="x", mu=mu))["points"]
    first = numbers(points["codes"], "<i2").reshape(kept, latent_dim)[:, 0] * points["steps"][0]
    assert points["n"] == kept and "kinds" not in points
    np.testing.assert_allclose(first, np.linspace(0, 10_000, kept), rtol=0, atol=1.2)


def test_the_plane_has_the_most_active_dimensions_or_those_asked_for(rng):
    vae, kl = model(latent_dim=4), np.array([1, 0.1, 5, 3])
    for arguments, order, dimensions in (
        ({}, [0, 1, 2, 3], [0, 1]),
        ({"mu": rng.standard_normal((500, 4)) * kl}, [0, 1, 2, 3], [0, 1]),
        ({"kl": kl}, [2, 3, 0, 1], [2, 3]),
        ({"kl": kl[[0, 2, 1, 3]]}, [1, 3, 0, 2], [1, 3]),
        ({"kl": kl[::-1]}, [1, 0, 3, 2], [0, 1]),
        ({"kl": np.ones(4)}, [0, 1, 2, 3], [0, 1]),
        ({"kl": kl, "dimensions": (3, 1)}, [2, 3, 0, 1], [3, 1]),
    ):
        data = read(explorer_page(vae, (3, 4), name="x", **arguments))
        assert (data["order"], data["dimensions"]) == (order, dimensions)
    assert read(explorer_page(model(latent_dim=1), (3, 4), name="x"))["dimensions"] == [0]


def test_the_size_and_what_is_done_about_it(rng, monkeypatch):
    vae, mu = VAE(784, (400,), 20, rng=0), rng.standard_normal((5000, 20))
    page = explorer_page(vae, (28, 28), name="x", mu=mu, labels=rng.integers(0, 10, 5000))
    assert len(page.encode()) < 2_100_000 < explorer.LIMIT == 5_000_000
    assert read(page)["points"]["n"] == 5000

    vae = model()
    size = len(explorer_page(vae, (3, 4), name="é").encode())
    monkeypatch.setattr(explorer, "LIMIT", size + 1)
    assert read(explorer_page(vae, (3, 4), name="é"))["dtype"] == "float32"
    monkeypatch.setattr(explorer, "LIMIT", size)
    page = explorer_page(vae, (3, 4), name="é")
    data = read(page)
    assert data["dtype"] == "float16"
    weights = numbers(data["weights"], "<f2")
    decoder = [b.ravel() for name, b in vae.params.items() if name.startswith(("dec", "out"))]
    np.testing.assert_array_equal(weights, np.concatenate(decoder).astype(np.float16))
    small = len(page.encode())
    monkeypatch.setattr(explorer, "LIMIT", small)
    with pytest.raises(ValueError, match=f"have {small:,} bytes, must have less than {small:,}"):
        explorer_page(vae, (3, 4), name="é")


@dataclass(frozen=True)
class Other(Gaussian):
    """One that the script does not know."""

    name: ClassVar[str] = "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vae": model(Other())}, "likelihood to explore is 'other', must be one of bernoulli"),
        ({"vae": model(dtype=np.complex128)}, "dtype of the model is 'complex128'"),
        ({"image_shape": (3, 5)}, "image_shape is 3 x 5, must have 12 pixels"),
        ({"image_shape": (-3, -4)}, "a side of image_shape is -3"),
        ({"value_range": (1, 1)}, "value_range is 1 to 1, must increase"),
        ({"value_range": (0, np.nan)}, "an end of value_range is nan"),
        ({"mu": np.zeros((5, 3))}, r"mu has shape \(5, 3\), must be \(N, 2\)"),
        ({"mu": np.zeros(2)}, r"mu has shape \(2,\), must be \(N, 2\)"),
        ({"mu": np.zeros((5, 2)), "labels": [1] * 4}, r"labels has shape \(4,\), must be \(5,\)"),
        ({"dimensions": (0, 2)}, "a dimension of the plane is 2, must be .* from 0 to 1"),
        ({"dimensions": (1, 1)}, r"dimensions is \(1, 1\), must be two different columns"),
        ({"dimensions": (0, 1, 1)}, r"dimensions is \(0, 1, 1\), must be two different columns"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments, message):
    whole = {"vae": model(), "image_shape": (3, 4), "name": "x"} | arguments
    with pytest.raises(ValueError, match=message) as caught:
        explorer_page(**whole)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (1e39, "float32")])
def test_weights_that_are_not_finite_are_refused(value, dtype):
    vae = model(dtype=np.float64)
    vae.params["decoder.0.b"][1] = value
    with pytest.raises(ValueError, match=f"a weight of the decoder is not finite as {dtype}"):
        explorer_page(vae, (3, 4), name="x")
    vae.params["decoder.0.b"][1], vae.params["mu.W"][0] = 0, value  # the encoder is not asked
    explorer_page(vae, (3, 4), name="x")


def test_weights_beyond_float16_are_refused(monkeypatch):
    vae = model()
    vae.params["output.b"][0] = 7e4
    monkeypatch.setattr(explorer, "LIMIT", len(explorer_page(vae, (3, 4), name="x").encode()))
    with pytest.raises(ValueError, match="is not finite as float16"):
        explorer_page(vae, (3, 4), name="x")


def test_the_colours_are_those_of_the_figures():
    page = explorer_page(model(), (3, 4), name="x")
    literal = re.search(r" COLOURS = \[(.*?)\]", page, re.DOTALL)[1]
    assert tuple(re.findall(r"#\w{6}", literal)) == style.COLOURS


def test_the_script_knows_every_likelihood():
    assert set(explorer.MEANS) == set(LIKELIHOODS)


# In a browser ---------------------------------------------------------------------------------

RECORD = """<script>
const seen = { errors: [], violations: [] };
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => seen.violations.push(event.blockedURI));
</script>"""
ANSWER = """<script>
function grey() { // of each pixel on the canvas: red, green, blue, if they are one, and opaque
  const canvas = document.getElementById("image");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: data.length / 4 }, (_, i) => {
    const [r, g, b, a] = data.subarray(4 * i, 4 * i + 4);
    return r === g && g === b && a === 255 ? r : -1;
  });
}
const size = () => ["height", "width"].map((side) => document.getElementById("image")[side]);
async function answer() { QUESTIONS }
answer().catch((error) => ({ failed: String(error.stack) })).then((result) => {
  const requests = performance.getEntriesByType("resource").length;
  parent.postMessage({ key: "KEY", result: { ...result, ...seen, requests } }, "*");
});
</script>"""
# The pages have no way to the outside, so they tell the page around them, which has one.
AROUND = """<!DOCTYPE html><link rel="icon" href="data:,"><body style="margin:0"><script>
const results = {};
addEventListener("message", ({ data: { key, result } }) => {
  results[key] = result;
  const done = Object.keys(results).length === COUNT;
  if (done) fetch("/", { method: "POST", body: JSON.stringify(results) });
});
</script>"""
FRAME = '<iframe src="/{}" style="border:0;display:block;width:1280px;height:900px"></iframe>'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a function that shows pages, (page, questions) by key, and returns their answers.

    With the answers come the lines of the console and the paths that were asked for besides.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of the browsers {', '.join(names)} is installed")

    def visit(pages, *options):
        files = {"/": AROUND.replace("COUNT", str(len(pages)))}
        for i, (key, (page, questions)) in enumerate(pages.items()):
            files["/"] += FRAME.format(i)
            files[f"/{i}"] = asked(page, key, questions)
        answers, paths = queue.Queue(), []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                paths.append(self.path)
                self.reply(files.get(self.path, "").encode())

            def do_POST(self):
                answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.reply(b"")

            def reply(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        profile = tmp_path_factory.mktemp("profile")
        with (
            ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
            open(profile / "log", "wb") as log,
        ):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            process = subprocess.Popen(
                [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 f"--user-data-dir={profile}", "--window-size=1280,1000",
                 "--force-device-scale-factor=1", "--enable-logging=stderr", *options,
                 f"http://127.0.0.1:{server.server_port}/"],
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                results = answers.get(timeout=60)
            except queue.Empty:
                pytest.fail(f"no answer: {(profile / 'log').read_text('utf-8', 'replace')[-2000:]}")
            finally:
                process.terminate()
                process.wait(30)
                server.shutdown()
        lines = (profile / "log").read_text("utf-8", "replace").splitlines()
        for result in results.values():
            assert "failed" not in result, result["failed"]
        assert set(results) == set(pages)
        # "Canvas2D" is a hint that the questions read from the canvas often.
        console = [line for line in lines if "CONSOLE" in line and "Canvas2D" not in line]
        return results, console, [path for path in paths if path not in files]

    return visit


def asked(page, key, questions):
    """Return the page with questions, the body of an async function that returns an object."""
    script = ANSWER.replace("QUESTIONS", questions).replace("KEY", key)
    start, end = page.split("</head>", 1)
    return start + RECORD + "</head>" + end.replace("</body>", script + "</body>")


SHAPES = itertools.cycle([(3, 4), (4, 3), (1, 12), (12, 1), (2, 6)])
WIDTHS = itertools.cycle([1, 2, 5])
KINDS = list(itertools.product(LIKELIHOODS, ("relu", "tanh"), ((), (7,), (9, 5))))
MODELS = {
    f"{likelihood}-{activation}-{hidden}-{z}": (
        model(likelihood, 12, hidden, z, seed, activation=activation),
        shape,
        (0, 1) if "bernoulli" in likelihood else (-0.75, 1.5),
    )
    for seed, ((likelihood, activation, hidden), shape, z) in enumerate(
        zip(KINDS, SHAPES, WIDTHS, strict=False)
    )
}
# l = W z itself, near 0 and near the ends of the series, and far away.
SWEEP = np.concatenate([np.linspace(-1.1, 1.1, 45), [0, 1e-9, -1e-4, 3, -20, 45, -800, 1e4]])


def sweep(likelihood):
    vae = VAE(len(SWEEP), (), 1, likelihood=likelihood, rng=0)
    most = 30 if likelihood == "poisson" else np.inf  # e^l must not be too large
    vae.params["output.W"][:], vae.params["output.b"][:] = np.minimum(SWEEP, most), 0
    return vae


def draws(vae):
    """Return some z, (6, Z), the last far out."""
    z = np.random.default_rng(1).standard_normal((6, vae.latent_dim)).astype(np.float32)
    z[-1] *= 1 if vae.likelihood.name == "poisson" else 20
    return z


@pytest.fixture(scope="module")
def frames(browser):
    """Return the answers of one page for each model."""
    pages = {}
    for key, (vae, shape, values) in MODELS.items():
        page = explorer_page(vae, shape, name=key, value_range=values)
        pages[key] = page, draws(vae).tolist()
    for likelihood in LIKELIHOODS:
        page = explorer_page(sweep(likelihood), (1, len(SWEEP)), name="sweep")
        pages[f"sweep-{likelihood}"] = page, [[1.0]]
    vae = half_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer, "LIMIT", len(explorer_page(vae, (3, 4), name="x").encode()))
        pages["half"] = explorer_page(vae, (3, 4), name="x"), draws(vae).tolist()
    for key, (page, z) in pages.items():
        questions = f"""
            const decoded = {json.dumps(z)}.map((z) => explorer.decode(z));
            const about = document.getElementById("about").textContent;
            return {{ x: decoded.map((x) => Array.from(x)), kind: decoded[0].constructor.name,
                      grey: grey(), size: size(), about }};"""
        pages[key] = page, questions
    for key, table in TABLES.items():
        columns = [f"c{i}" for i in range(table.data_dim)]
        page = explorer_page(table, None, name=key, rows=ROWS[:, : table.data_dim], columns=columns)
        questions = f"""
            const z = {json.dumps(draws(table).tolist())};
            const x = z.map((z) => Array.from(explorer.decode(z)));
            const dark = () => {{ const c = document.getElementById("image");
              const p = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
              return p.filter((v, i) => i % 4 === 3 && v > 0).length; }};
            return {{ x, ink: dark(), scale: document.getElementById("scale").style.display }};"""
        pages[key] = page, questions
    colour = model(data_dim=48)
    page = explorer_page(colour, (4, 4, 3), name="colour")
    pages["colour"] = (
        page,
        """
        const c = document.getElementById("image");
        const p = c.getContext("2d").getImageData(0, 0, 4, 4).data;
        const rgb = Array.from(p).filter((v, i) => i % 4 < 3);
        return { rgb, x: Array.from(explorer.decode([0, 0])) };""",
    )
    results, console, paths = browser(pages)
    assert console == paths == []
    return results


ROWS = 50 + np.random.default_rng(0).standard_normal((20, 30)) * np.linspace(1, 100, 30)
TABLES = {
    f"table-{d}": VAE(d, (7,), 2, likelihood="diagonal_gaussian", rng=0,
                      scaling=Scaling.of(ROWS[:, :d]))
    for d in (5, 30)
}  # fmt: skip


@pytest.mark.parametrize("key", TABLES)
def test_a_row_of_a_table_is_drawn_in_its_units(frames, key):
    found = np.array(frames[key]["x"])
    np.testing.assert_allclose(found, TABLES[key].decode(draws(TABLES[key])), rtol=1e-5)
    assert frames[key]["ink"] > 200 and frames[key]["scale"] == "none"
    assert frames[key]["errors"] == []


def test_colour_is_shown_in_colour(frames):
    x = np.array(frames["colour"]["x"])
    np.testing.assert_array_equal(frames["colour"]["rgb"], np.rint(255 * x))


def half_model():
    """Return a model whose weights as float16 are large, small, subnormal and zero."""
    vae = model(seed=3)
    vae.params["output.b"][:4] = 3e-6, -5e-5, 1e-9, -30
    return vae


@pytest.mark.parametrize("key", MODELS)
def test_the_script_decodes_as_the_model_does(frames, key):
    vae, _, (low, high) = MODELS[key]
    z, x = draws(vae), np.array(frames[key]["x"])
    assert frames[key]["kind"] == "Float64Array" and not frames[key]["errors"]
    np.testing.assert_allclose(x, exactly(vae, z), rtol=1e-12, atol=1e-13)
    scale = max(high - low, np.abs(x).max())  # the float32 of the model rounds
    np.testing.assert_allclose(x, vae.decode(z), rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_mean_is_right_for_every_logit(frames, likelihood):
    x = np.array(frames[f"sweep-{likelihood}"]["x"])
    np.testing.assert_allclose(x, exactly(sweep(likelihood), [[1.0]]), rtol=1e-14, atol=1e-16)


def test_weights_of_16_bits_decode_as_such(frames):
    vae = half_model()
    x = np.array(frames["half"]["x"])
    np.testing.assert_allclose(x, exactly(vae, draws(vae), np.float16), rtol=1e-12, atol=1e-13)
    assert np.abs(x - vae.decode(draws(vae))).max() > 1e-5
    assert "rounded to 16 bits" in frames["half"]["about"]
    assert not any("rounded" in frames[key]["about"] for key in MODELS)


def shades(vae, z, low, high):
    """Return the grey of each pixel at z, (Z,)."""
    x = exactly(vae, [z])[0]
    return np.clip(np.rint(255 * (x - low) / (high - low)), 0, 255)


@pytest.mark.parametrize("key", MODELS)
def test_the_canvas_shows_every_pixel_in_its_place(frames, key):
    vae, shape, values = MODELS[key]
    assert frames[key]["size"] == list(shape)
    expected = shades(vae, np.zeros(vae.latent_dim), *values)
    assert len(set(expected)) > 4
    np.testing.assert_array_equal(frames[key]["grey"], expected)


HELPERS = """
    const $ = (id) => document.getElementById(id);
    const next = () => new Promise(requestAnimationFrame);
    const frame = () => next().then(next);
    const box = () => $("plane").getBoundingClientRect();
    const point = (type, x, y, pointerType = "mouse") =>
      $("plane").dispatchEvent(new PointerEvent(type, {
        clientX: box().left + x * box().width, clientY: box().top + y * box().height,
        pointerType, bubbles: true, button: type === "pointermove" ? -1 : 0,
      }));
    const click = (...at) => (point("pointerdown", ...at), point("pointerup", ...at));
    const press = (key, shiftKey = false) => {
      const ways = { bubbles: true, cancelable: true };
      const event = new KeyboardEvent("keydown", { key, shiftKey, ...ways });
      $("plane").dispatchEvent(event);
      return event.defaultPrevented;
    };
    const set = (id, value, type) => {
      $(id).value = value;
      $(id).dispatchEvent(new Event(type, { bubbles: true }));
    };
    const states = {};
    const state = async (name) => {
      await frame();
      const m = $("marker").getBoundingClientRect();
      states[name] = {
        z: Array.from(explorer.z), grey: grey(), readout: $("readout").textContent,
        said: $("plane").getAttribute("aria-valuetext"),
        marker: [(m.left + m.width / 2 - box().left) / box().width,
                 (m.top + m.height / 2 - box().top) / box().height],
        pinned: $("plane").classList.contains("pinned"),
        sliders: Array.from(document.querySelectorAll("#sliders .row"), (row) =>
          [row.querySelector("label").textContent, row.querySelector("input").id,
           row.querySelector("input").valueAsNumber, row.querySelector("output").textContent]),
        chosen: [$("across").value, $("up").value],
      };
    };
    const snapshot = async () => {
      await frame();
      const { width, height } = $("map");
      return $("map").getContext("2d").getImageData(0, 0, width, height).data;
    };
    /** The middle of what two pictures of the map differ in, as a share, and the colour there. */
    const difference = (a, b) => {
      const { width, height } = $("map");
      let [n, x, y] = [0, 0, 0];
      for (let i = 0; i < a.length; i += 4) {
        if ([0, 1, 2, 3].every((j) => a[i + j] === b[i + j])) continue;
        n += 1;
        x += ((i / 4) % width) + 0.5;
        y += Math.floor(i / 4 / width) + 0.5;
      }
      const at = 4 * (Math.floor(y / n) * width + Math.floor(x / n));
      return { n, at: [x / n / width, y / n / height], colour: Array.from(a.slice(at, at + 4)) };
    };
"""
VALUES = (-1.0, 2.0)


def walked():
    """Return the model of the long visit, its mu and its labels: the point at the end is alone."""
    vae = model("gaussian", 15, (7,), 5, seed=11)
    mu = np.random.default_rng(2).uniform(-1, 1, (40, 5)) * [0.2, 1, 0.5, 0.05, 2.2]
    mu[-1] = [0, 2.6, 0, 0, -3.2]
    return vae, mu, [LABELS[0]] * 39 + [LABELS[1]]


@pytest.fixture(scope="module")
def visit(browser):
    """Return what a long visit to one page saw."""
    vae, mu, labels = walked()
    page = explorer_page(
        vae, (3, 5), name=NAME, mu=mu, kl=mu.var(axis=0), labels=labels, value_range=VALUES
    )
    questions = (
        HELPERS
        + """
        await state("start");
        point("pointermove", 0.25, 0.1); await state("moved");
        click(0.3, 0.2); await state("pinned");
        point("pointermove", 0.7, 0.7); await state("held");
        point("pointermove", 0.6, 0.5, "pen"); await state("held from a pen");
        click(0.7, 0.8); await state("released");
        point("pointermove", 0.45, 0.4, "pen"); await state("pen");
        click(0.5, 0.5); point("pointerdown", 0.4, 0.6, "touch"); await state("touched");
        point("pointermove", 0.55, 0.35, "touch"); await state("dragged");
        point("pointerup", 0.55, 0.35, "touch"); await state("lifted");
        point("pointermove", 5, -5); await state("outside");

        const prevented = [press("Home")]; await state("home");
        for (const key of ["ArrowRight", "ArrowRight", "ArrowUp"]) prevented.push(press(key));
        await state("right, right, up");
        prevented.push(press("ArrowLeft", true), press("ArrowDown", true)); await state("shift");
        for (let i = 0; i < 100; i++) press("ArrowLeft");
        await state("edge");
        prevented.push(press("Enter")); await state("enter");
        prevented.push(press(" ")); await state("space");
        const ignored = press("Tab");

        $("reset").click(); await state("reset");
        set("slider-2", 1.25, "input"); await state("slid");
        point("pointermove", 0.2, 0.3); await state("slid and moved");
        set("across", 2, "change"); await state("across 2");
        point("pointermove", 0.9, 0.3); await state("across 2 and moved");
        set("up", 2, "change"); await state("exchanged");
        $("random").click(); await state("random");
        const random = [];
        for (let i = 0; i < 1000; i++) { $("random").click(); random.push(...explorer.z); }
        set("up", 4, "change"); set("across", 1, "change"); await state("back");

        let painted = 0;
        const { putImageData } = CanvasRenderingContext2D.prototype;
        CanvasRenderingContext2D.prototype.putImageData = function (...a) {
          painted += 1;
          return putImageData.apply(this, a);
        };
        for (let i = 0; i < 10; i++) point("pointermove", 0.1 * i, 0.5);
        await frame();
        const paintedOnce = painted;

        const all = await snapshot();
        const buttons = $("legend").querySelectorAll("button");
        const labels = Array.from(buttons, (button) => button.textContent);
        buttons[1].click();
        const alone = difference(all, await snapshot());
        const pressed = Array.from(buttons, (b) => b.getAttribute("aria-pressed"));
        buttons[1].click();
        const again = difference(all, await snapshot()).n;
        buttons[0].click(); buttons[1].click();
        const none = await snapshot();
        buttons[0].click(); buttons[1].click();
        const some = difference(all, none).n;
        $("show").click();
        const unchecked = difference(none, await snapshot()).n;
        const legend = $("legend").hidden;

        const canvas = $("image").getBoundingClientRect();
        return {
          states, prevented, ignored, random, paintedOnce, labels, alone, pressed, again,
          some, unchecked, legend,
          title: document.title, h1: document.querySelector("h1").textContent,
          size: size(), zoom: [canvas.width, canvas.height],
          rendering: getComputedStyle($("image")).imageRendering, about: $("about").textContent,
          wide: document.documentElement.scrollWidth <= innerWidth,
          unnamed: Array.from(document.querySelectorAll("input, select, button"), (e) =>
            (e.matches("button") ? e.textContent.trim() : e.labels.length) ? "" : e.outerHTML),
          role: ["role", "tabindex", "aria-valuenow"].map((a) => $("plane").getAttribute(a)),
        };"""
    )
    results, console, paths = browser({"visit": (page, questions)})
    return results["visit"] | {"console": console, "paths": paths}


REACH = np.array([3, 3, 3, 3, 3.6])  # of each dimension: 3, or 1.1 of the points' farthest
PLANE = 3.6  # of dimensions 1 and 4, of the highest KL, which are shown first


def test_the_visit_left_no_error_and_made_no_request(visit):
    assert visit["errors"] == visit["violations"] == visit["console"] == []
    assert visit["requests"] == 0 and visit["paths"] == []


def at(left, top, reach=PLANE):
    """Return where shares of the plane's sides lie in z."""
    return (2 * left - 1) * reach, (1 - 2 * top) * reach


@pytest.mark.parametrize(
    ("name", "left", "top"),
    [
        ("start", 0.5, 0.5),
        ("moved", 0.25, 0.1),
        ("pinned", 0.3, 0.2),
        ("held", 0.3, 0.2),
        ("held from a pen", 0.3, 0.2),
        ("released", 0.7, 0.8),
        ("pen", 0.45, 0.4),
        ("touched", 0.4, 0.6),
        ("dragged", 0.55, 0.35),
        ("lifted", 0.55, 0.35),
    ],
)
def test_z_follows_the_pointer(visit, name, left, top):
    state = visit["states"][name]
    z_1, z_4 = at(left, top)
    expected = np.clip([0, z_1, 0, 0, z_4], -REACH, REACH)
    np.testing.assert_allclose(state["z"], expected, rtol=0, atol=1e-4)
    assert state["pinned"] == (name == "pinned" or name.startswith("held"))


def test_beyond_the_plane_z_stays_in_reach(visit):
    assert visit["states"]["outside"]["z"] == [0, 3, 0, 0, 3.6]


def test_keys_move_and_pin(visit):
    states = visit["states"]
    for name, z_1, z_4 in (
        ("home", 0, 0), ("right, right, up", 0.2, 0.1), ("shift", -0.3, -0.4), ("edge", -3, -0.4),
    ):  # fmt: skip
        np.testing.assert_allclose(states[name]["z"], [0, z_1, 0, 0, z_4], rtol=0, atol=1e-12)
    assert [states[name]["pinned"] for name in ("edge", "enter", "space")] == [False, True, False]
    assert states["enter"]["said"].endswith(", pinned")
    assert all(visit["prevented"]) and not visit["ignored"]


def test_sliders_move_the_other_dimensions(visit):
    states = visit["states"]
    labels, inputs, *_ = zip(*states["start"]["sliders"], strict=True)
    assert labels == ("z₃", "z₁", "z₄") and inputs == ("slider-2", "slider-0", "slider-3")
    assert states["reset"]["z"] == [0] * 5
    assert states["slid"]["z"] == [0, 0, 1.25, 0, 0]
    assert states["slid"]["sliders"][0][2:] == [1.25, "1.25"]
    np.testing.assert_allclose(states["slid and moved"]["z"][2], 1.25)


def test_other_dimensions_can_be_shown(visit):
    states = visit["states"]
    before, after = states["slid and moved"]["z"], states["across 2"]
    assert after["z"] == before and after["chosen"] == ["2", "4"]
    assert [row[0] for row in after["sliders"]] == ["z₂", "z₁", "z₄"]
    z_2, z_4 = at(0.9, 0.3)
    expected = [0, before[1], min(z_2, 3), 0, z_4]
    np.testing.assert_allclose(states["across 2 and moved"]["z"], expected, rtol=0, atol=1e-4)
    exchanged = states["exchanged"]
    assert exchanged["chosen"] == ["4", "2"]
    assert exchanged["z"] == states["across 2 and moved"]["z"]
    assert states["back"]["chosen"] == ["1", "4"]


def test_random_z_are_of_the_prior(visit):
    z = np.array(visit["random"]).reshape(-1, 5)
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(len(z))
    np.testing.assert_allclose(z.std(axis=0), 1, atol=5 / np.sqrt(2 * len(z)) + 0.02)
    assert len(set(visit["states"]["random"]["z"])) == 5


def test_in_every_state_image_marker_and_readout_are_those_of_z(visit):
    vae = walked()[0]
    pictures = set()
    for state in visit["states"].values():
        z = state["z"]
        np.testing.assert_array_equal(state["grey"], shades(vae, z, *VALUES))
        pictures.add(tuple(state["grey"]))
        across, up = map(int, state["chosen"])
        # A reach of 3.6 is that of dimension 4, which every choice here shows.
        place = [(1 + z[across] / PLANE) / 2, (1 - z[up] / PLANE) / 2]
        np.testing.assert_allclose(state["marker"], place, rtol=0, atol=2e-3)
        digits = "₁₂₃₄₅"
        text = ", ".join(f"z{digits[i]} = {z[i]:.2f}" for i in (across, up)).replace("-", "−")
        assert state["readout"] == text.replace("−0.00", "0.00")
        assert state["said"].removesuffix(", pinned") == state["readout"]
        for label, of_input, _, value in state["sliders"]:
            i = int(of_input.removeprefix("slider-"))
            assert label == f"z{digits[i]}" and i not in (across, up)
            assert float(value.replace("−", "-")) == pytest.approx(z[i], abs=0.00501)
    assert len(pictures) > 12


def test_moves_within_a_frame_are_drawn_once(visit):
    assert visit["paintedOnce"] == 1


def test_points_lie_where_mu_says_and_can_be_hidden_by_label(visit):
    assert visit["labels"] == LABELS
    assert visit["pressed"] == ["true", "false"]
    place = [(1 + 2.6 / PLANE) / 2, (1 + 3.2 / PLANE) / 2]
    np.testing.assert_allclose(visit["alone"]["at"], place, rtol=0, atol=2e-3)
    colour = [int(style.COLOURS[1][i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(visit["alone"]["colour"], [*colour, 0.8 * 255], atol=2)
    assert visit["alone"]["n"] > 10
    assert visit["again"] == 0  # with the label back, the same picture
    assert visit["some"] > 10 * visit["alone"]["n"]
    assert visit["unchecked"] == 0 and visit["legend"]  # no point is as no label


def test_an_image_pixel_is_a_whole_number_of_screen_pixels(visit):
    assert visit["size"] == [3, 5] and visit["rendering"] == "pixelated"
    zoom = visit["zoom"][0] / 5
    assert zoom == visit["zoom"][1] / 3 == int(zoom) > 50


def test_names_are_shown_as_they_are(visit):
    shown = NAME.encode(errors="replace").decode()
    assert visit["h1"] == shown and visit["title"].startswith(shown)


def test_everything_has_a_name_and_fits(visit):
    assert set(visit["unnamed"]) == {""} and visit["wide"]
    assert visit["role"][:2] == ["slider", "0"]
    assert "Decoder 5–7–15, relu, likelihood gaussian, 162 weights." in visit["about"]
    assert "of 40 images" in visit["about"]


def test_a_line_works_in_the_dark_and_the_page_cannot_reach_the_network(browser):
    vae = model(latent_dim=1, seed=4)
    mu = np.array([[-2.0], [1.0]])
    questions = (
        HELPERS
        + """
        point("pointermove", 0.75, 0.1); await state("moved");
        press("ArrowUp"); press("ArrowRight"); await state("keys");
        const dark = getComputedStyle(document.body).backgroundColor;
        const all = await snapshot();
        $("legend").querySelectorAll("button")[1].click();
        const alone = difference(all, await snapshot());
        const hidden = ["up-label", "others"].map((id) => getComputedStyle($(id)).display);
        const refused = await fetch("/fetched").then(() => false, () => true);
        const picture = new Image();
        await new Promise((next) => {
          picture.onerror = picture.onload = next;
          picture.src = "/picture";
        });
        await frame();
        return { states, dark, alone, hidden, refused };"""
    )
    page = explorer_page(vae, (1, 12), name="x", mu=mu, labels=[0, 1])
    dark = "--blink-settings=preferredColorScheme=0"
    results, console, paths = browser({"line": (page, questions)}, dark)
    result = results["line"]
    moved, keys = result["states"]["moved"], result["states"]["keys"]
    np.testing.assert_allclose(moved["z"], [1.5], atol=0.01)
    np.testing.assert_allclose(keys["z"][0] - moved["z"][0], 0.1, atol=1e-12)
    np.testing.assert_array_equal(keys["grey"], shades(vae, keys["z"], 0, 1))
    assert moved["readout"] == f"z₁ = {moved['z'][0]:.2f}"
    np.testing.assert_allclose(moved["marker"], [0.75, 0.5], atol=2e-3)
    np.testing.assert_allclose(result["alone"]["at"][0], (1 + 1 / 3) / 2, atol=2e-3)
    assert result["hidden"] == ["none", "none"] and result["errors"] == []
    assert max(map(int, re.findall(r"\d+", result["dark"]))) < 40
    assert result["refused"]
    assert [path.split("/")[-1] for path in result["violations"]] == ["fetched", "picture"]
    assert paths == []
    assert all("Content Security Policy" in line for line in console)
