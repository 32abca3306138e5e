"""Files and folders as they lie on a disk: what is read, what is refused, and what is said."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from numpy_vae import Run, dataset_from_array, fit, load_array, load_mnist, to_float
from numpy_vae.__main__ import main
from numpy_vae.data.arrays import FewLevelsWarning, Reading, read_images
from numpy_vae.data.idx import read_idx
from numpy_vae.data.mat import read_mat
from numpy_vae.data.text import read_text
from numpy_vae.vae import VAE

X = np.random.default_rng(1).integers(64, 256, (12, 7, 7), np.uint8)
Y = np.arange(12) % 3
ORDER = np.random.default_rng(0).permutation(12)  # of the split


def all_of(data):
    """Return the rows of a data set, in the order of the file."""
    rows = np.concatenate([data.train, data.test])
    return rows[np.argsort(ORDER)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NUMPY_VAE_DATA", raising=False)


# Arrays: axes, values, tables ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (X[..., None], (7, 7)),
        (X[:, None], (7, 7)),
        (np.stack([X, X // 2, X // 3], axis=-1), (7, 7, 3)),
        (np.stack([X, X // 2, X // 3], axis=1), (7, 7, 3)),
        (X.astype(np.int64), (7, 7)),
        (X.astype(np.float32), (7, 7)),
        (X.reshape(12, 49).astype(np.int32), (7, 7)),
    ],
    ids=["HW1", "1HW", "HW3", "3HW", "int64", "whole floats", "a square"],
)
def test_axes_and_types_of_images(x, shape):
    data = dataset_from_array(x, Y)
    assert data.image_shape == shape and data.train.dtype == np.uint8
    colour = np.stack([X, X // 2, X // 3], axis=-1) if len(shape) == 3 else X
    np.testing.assert_array_equal(all_of(data), colour.reshape(12, -1))


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (np.full((12, 13), 40), np.float64),  # counts
        (np.full((12, 13), 0.5, np.float32), np.float32),
        (np.full((12, 49), 1.5), np.float64),
        (np.full((12, 50), 0.5), np.float64),
    ],
    ids=["whole numbers", "float32", "not pixels", "not a square"],
)
def test_a_table_keeps_its_values(x, kind):
    data = dataset_from_array(x)
    assert data.image_shape is None and data.train.dtype == kind
    np.testing.assert_array_equal(data.train, x[:10])


def test_a_scale_divides_and_is_kept_for_the_next_reading():
    x = X // 16
    with pytest.warns(FewLevelsWarning, match="largest value is 15, .*choose --scale 15"):
        assert dataset_from_array(x).train.max() == 15
    data = dataset_from_array(x, scale=15)
    np.testing.assert_array_equal(all_of(data), (x / 15).astype(np.float32).reshape(12, 49))
    assert data.reading == {"scale": 15.0}
    assert dataset_from_array(x, scale=255).train.dtype == np.uint8
    with pytest.raises(ValueError, match="scale is -1, must be a positive number"):
        dataset_from_array(x, scale=-1)


def test_the_summary_says_what_was_read():
    np.savez(
        "mine.npz", X_train=X, y_train=Y[:, None], x_val=X[:4], x_test=X[:5], notes=np.arange(3)
    )
    data = load_array("mine.npz")
    assert data.summary == (
        "mine.npz; X_train (12, 7, 7) with y_train, x_val (4, 7, 7), x_test (5, 7, 7); images 7x7;"
        f" uint8, {X.min()} to {X.max()}, read as value / 255; labels of 3 classes; left out:"
        " 'notes'; 12 training, 4 validation, 5 test"
    )
    np.testing.assert_array_equal(data.validation, X[:4].reshape(4, 49))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("train_images train_labels val_images val_labels test_images test_labels", "tvs"),
        ("X_train X_test y_train y_test", "ts"),
        ("train_x test_x train_y test_y", "ts"),
        ("data target", ""),
        ("X y", ""),
        ("arr_0 arr_1", ""),
        ("imgs latents_classes", ""),
        ("faces labels", ""),
        ("train_images train_labels", ""),
    ],
)
def test_the_names_that_others_give(names, parts):
    labels = re.compile(r".*(labels|y|target|arr_1|classes)(_train|_test)?")
    arrays = {n: Y[:, None] if labels.fullmatch(n.lower()) else X for n in names.split()}
    np.savez("mine.npz", **arrays)
    found = read_images("mine.npz")
    known = {"t": "train", "v": "validation", "s": "test"}
    expected = {known[p] for p in parts} or {""}
    assert found.parts.keys() == found.labels.keys() == expected
    for part in expected:
        np.testing.assert_array_equal(found.parts[part], X.reshape(12, 49))
        np.testing.assert_array_equal(found.labels[part], Y)


def test_one_pickled_member_does_not_forbid_the_file():
    np.savez("sprites.npz", imgs=X, metadata=np.array({"title": "t"}, dtype=object))
    data = load_array("sprites.npz")
    np.testing.assert_array_equal(all_of(data), X.reshape(12, 49))
    assert "not read, as pickled objects: metadata" in data.summary


def test_new_data_are_read_like_those_of_the_model():
    path = Path("new.npy")
    for x, like, expected in [
        (X // 64, 255.0, X // 64 / 255),  # bytes, however dark
        (X / 255, 255.0, X / 255),  # bytes that were divided before
        (X // 16, 15.0, X // 16 / 15),
        (X / 16.0, 16.0, X / 256),
        ((X > 128).astype(np.uint8), 1.0, X > 128),
    ]:
        np.save(path, x)
        found = read_images(path, like=like)
        rows = to_float(found.parts[""]).reshape(X.shape)
        np.testing.assert_allclose(rows, expected, rtol=1e-6)
    np.save(path, X)  # what is asked for comes first
    assert read_images(path, Reading(scale=2.0), like=255.0).parts[""].max() > 100


def test_a_reading_is_kept_whole():
    reading = Reading(label_column=0, scale=2.0, image_shape=(7, 7))
    assert Reading.of({"reading": reading.given()}) == reading
    assert Reading.of({}) == Reading()


# Files --------------------------------------------------------------------------------------------


def test_idx_as_a_file_of_its_own():
    content = bytes([0, 0, 8, 3]) + np.array(X.shape, ">u4").tobytes() + X.tobytes()
    Path("images").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(read_idx("images"), X)
    np.testing.assert_array_equal(all_of(load_array("images")), X.reshape(12, 49))


@pytest.mark.parametrize(
    "form",
    ["{}", "MNIST/raw/{}", "raw/{}", "{0}/{0}", "qmnist-{}", "emnist-letters-{}", "dots"],
)
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_the_folders_of_mnist(form, labelled):
    names = {"x": "train-images-idx3-ubyte", "y": "train-labels-idx1-ubyte",
             "u": "t10k-images-idx3-ubyte", "v": "t10k-labels-idx1-ubyte"}  # fmt: skip
    arrays = {"x": X, "y": Y.astype(np.uint8), "u": X[:4], "v": Y[:4].astype(np.uint8)}
    for key, array in arrays.items():
        if labelled or array.ndim == 3:
            name = names[key].replace("-idx", ".idx") if form == "dots" else form.format(names[key])
            path = Path("named", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path.write_bytes(header + array.tobytes())
    data = load_mnist("named")
    upright = X.swapaxes(1, 2) if "emnist" in form else X
    np.testing.assert_array_equal(data.train, upright.reshape(12, 49))
    assert (data.train_labels is not None) == labelled
    assert ("turned upright" in data.summary) == ("emnist" in form)
    # Of two data sets none is taken.
    (Path("named") / "other-train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(ValueError, match="must hold one data set: name its own folder"):
        load_mnist("named")


@pytest.mark.parametrize("comma", [",", ";", "\t", " "], ids=["comma", "semicolon", "tab", "space"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("header", ["", "a{0}kind{0}b\n"], ids=["bare", "header"])
def test_tables_in_text(comma, pack, header):
    lines = "".join(f"{i}{comma}w{i % 2}{comma}{i / 4}\r\n" for i in range(12))
    Path("t.csv").write_bytes(pack((header.format(comma) + lines).encode("utf-8-sig")))
    data = load_array("t.csv", label_column="kind" if header else 1)
    np.testing.assert_array_equal(all_of(data), np.c_[np.arange(12), np.arange(12) / 4])
    assert data.columns == (("a", "b") if header else ())
    assert data.label_names == ("w0", "w1")
    np.testing.assert_array_equal(data.test_labels, ORDER[-2:] % 2)


def test_the_label_first_and_pixels_as_others_have_them():
    head = ",".join(["label", *(f"pixel{i}" for i in range(49))])
    np.savetxt("k.csv", np.c_[Y, X.reshape(12, 49)], "%d", ",", header=head, comments="")
    data = load_array("k.csv")
    assert data.image_shape == (7, 7) and data.train.dtype == np.uint8
    np.testing.assert_array_equal(all_of(data), X.reshape(12, 49))
    np.testing.assert_array_equal(data.train_labels, Y[ORDER[:10]])


def test_the_three_files_of_amat():
    for part, rows in ("train", X), ("valid", X[:5]), ("test", X[5:]):
        np.savetxt(f"binarized_{part}.amat", rows.reshape(len(rows), -1) > 128, "%d")
    data = load_array("binarized_train.amat")
    sizes = len(data.train), len(data.validation), len(data.test)
    assert sizes == (12, 5, 7) and "black and white" in data.summary
    np.testing.assert_array_equal(to_float(data.train), X.reshape(12, 49) > 128)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2\n3,n/a\n", r"could not convert string 'n/a' .* column 1, 'b'"),
        ("a,b\n1,2\n3,\n", "convert string '' .*column 1, 'b'; fill or leave out what is missing"),
        ("1,2\n3\n", "the number of columns changed from 2 to 1 at row 2"),
        ("", "not a table of numbers .it is empty."),
        ("a,b\n", "could not convert string 'a'"),
        (
            "1,2\nnan,2\n",
            r"hold 1 values that are not finite, the first \(nan\) in row 1, column 0",
        ),
        ("label\n1\n2\n", "it has a column of labels only"),
    ],
)
def test_text_that_is_not_a_table(text, match):
    Path("t.csv").write_text(text)
    with pytest.raises(ValueError, match=match) as caught:
        load_array("t.csv")
    assert str(caught.value).startswith("t.csv: ") and "\n" not in str(caught.value)


def test_decimal_commas_are_read_where_semicolons_separate():
    Path("t.csv").write_text("a;b\n" + "".join(f"{i},5;-{i},25\n" for i in range(12)))
    data = load_array("t.csv")
    np.testing.assert_array_equal(all_of(data)[:, 0], np.arange(12) + 0.5)
    assert data.columns == ("a", "b") and "decimal commas" in data.summary


def test_what_pandas_adds_is_no_data():
    rows = "".join(f"{i},{5 * i},{i % 3}\n" for i in range(12))
    Path("t.csv").write_text(",a,b\n" + rows)
    data = load_array("t.csv")
    assert data.columns == ("a", "b") and "left out: a first column that counts" in data.summary
    np.testing.assert_array_equal(all_of(data)[:, 0], 5 * np.arange(12))
    Path("t.csv").write_text("0,1,2\n" + rows)
    np.testing.assert_array_equal(all_of(load_array("t.csv"))[:, 1], 5 * np.arange(12))


@pytest.mark.parametrize("column", ["c", 2, -3])
def test_a_label_column_that_is_not_there(column):
    Path("t.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(ValueError, match=f"label_column is {column!r}, must be"):
        read_text("t.csv", column)
    np.save("t.npy", X)
    with pytest.raises(ValueError, match="label_column applies to a text table"):
        load_array("t.npy", label_column=0)


def test_matlab():
    flat = X.reshape(12, 49)
    savemat(
        "faces.mat",
        {"ff": flat.T.astype(float), "labels": Y[None], "names": np.array(["a"], object)},
    )
    data = load_array("faces.mat", transpose=True)
    assert data.image_shape == (7, 7)
    np.testing.assert_array_equal(all_of(data), flat)
    np.testing.assert_array_equal(data.train_labels, Y[ORDER[:10]])
    assert "not read: names" in data.summary
    savemat("wide.mat", {"ff": np.full((20, 50), 0.5)})
    assert "--transpose if its columns are the rows" in load_array("wide.mat").summary
    Path("new.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(200))
    with pytest.raises(ValueError, match=r"7\.3, must be version 5 to 7: save it with -v7"):
        load_array("new.mat")


@pytest.mark.parametrize("packed", [True, False])
def test_matlab_is_read_as_scipy_reads_it(packed):
    rng = np.random.default_rng(0)
    arrays = {
        "double": rng.random((3, 4)), "bytes": rng.integers(0, 255, (5, 6, 7), np.uint8),
        "logical": rng.random((4, 3)) > 0.5, "small": rng.integers(-5, 5, (3, 3)).astype(np.int16),
        "single": np.float32(rng.random((9, 1))), "whole": np.arange(6.0).reshape(2, 3),
        "left": rng.random((2, 2)) * 1j, "words": np.array(["ab", "cde"]), "one": 3.0,
    }  # fmt: skip
    savemat("m.mat", arrays, do_compression=packed)
    found, _, words = read_mat("m.mat")
    assert words == "not read: left" and found.pop("words").tolist() == ["ab", "cde"]
    assert found.keys() == arrays.keys() - {"left", "words", "one"}
    for name, x in found.items():
        expected = loadmat("m.mat")[name]
        assert x.dtype == (np.bool_ if name == "logical" else expected.dtype)
        np.testing.assert_array_equal(x, expected)


def save_pictures(folder, images, suffix=".png"):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{i}{suffix}")


def test_a_folder_of_pictures():
    save_pictures("p", X)  # 2 before 10
    data = load_array("p")
    assert data.image_shape == (7, 7) and data.train_labels is None
    np.testing.assert_array_equal(all_of(data), X.reshape(12, 49))
    colour = np.stack([X, X // 2, X // 3], axis=-1)
    save_pictures("p", colour[:1])
    assert load_array("p").image_shape == (7, 7, 3)
    assert all_of(load_array("p"))[1].tolist() == np.repeat(X[1].ravel(), 3).tolist()
    Image.fromarray(X[0, :4]).save("p/zz.png")
    with pytest.raises(ValueError, match=r"zz\.png: is 4x7, must be 7x7 like .*0\.png: resize"):
        load_array("p")
    Path("p/zz.png").write_bytes(Path("p/1.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"zz\.png: not a readable picture"):
        load_array("p")


def test_subfolders_are_labels_or_a_split():
    for kind in "cat", "dog":
        save_pictures(f"animals/train/{kind}", X)
        save_pictures(f"animals/test/{kind}", X[:2], ".bmp")
    data = load_array("animals/train")
    assert data.label_names == ("cat", "dog") and len(data.train) == 20
    data = load_array("animals")
    assert (len(data.train), len(data.test)) == (24, 4)
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: holds no pictures \(\.png, "):
        load_array("empty")


# The command --------------------------------------------------------------------------------------


def test_a_run_reads_its_file_again_in_the_same_way(folder, capsys):
    np.savez("mine.npz", a=X // 16, x_train=X, b=Y.astype(str))
    words = ["train", "--data", "mine.npz", "--hidden", "5", "--latent", "2", "--epochs", "1"]
    assert main([*words, "--key", "a", "--out", "refused"]) == 2
    assert "--scale 15" in capsys.readouterr().err
    words += ["--key", "a", "--label-key", "b", "--scale", "15", "--out", "run"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("mine.npz; a (12, 7, 7) with b; images 7x7; uint8, 4")
    run = Run.resume("run", epochs=2)
    assert run.data.train.max() == 1 and run.data.label_names == ("0", "1", "2")
    assert run.state.settings["reading"] == {"key": "a", "label_key": "b", "scale": 15.0}


def test_the_validation_set_of_a_file_chooses_the_epoch(folder):
    np.savez("mine.npz", x_train=X, x_val=X[:4], x_test=X[:5])
    words = ["train", "--data", "mine.npz", "--hidden", "5", "--latent", "2", "--epochs", "2"]
    assert main([*words, "--patience", "1", "--out", "run"]) == 0
    run = Run.resume("run")
    assert run.recipe.validation == 4 and run.state.best is not None
    assert run.history[-1].validation_elbo is not None
    data = load_array("mine.npz")
    assert fit(VAE(49, (5,), 2), data, epochs=1)[0].validation_elbo is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "digits", "--scale", "3"], "--scale does not apply to --data digits"),
        (["--data", "none"], "--data is 'none', must be digits, mnist or an existing file or fold"),
        (["--data", "x.bin"], "x.bin: cannot be read (it starts with b'\\x00junk'), must be a"),
        (["--data", "x.bin", "--data-dir", "d"], "--data-dir applies to --data mnist, not to"),
        (["--data", "digits", "--key", "a"], "--key does not apply to --data digits"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(folder, capsys, words, message):
    Path("x.bin").write_bytes(b"\0junk")
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
