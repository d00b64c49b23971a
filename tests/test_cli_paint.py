"""`clip-qdrant paint`, with a painter of random weights for the pocket CLIP."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant import ClipCollection, ClipEncoder, Record, connect, open_image
from clip_qdrant.cli.app import app
from clip_qdrant.models.painter import EmbeddingPainter


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket")


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("painter")
    EmbeddingPainter.untrained(encoder.fingerprint, hidden=16, grid=8, width=16).save(folder)
    return folder


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        given = ["paint", *map(str, arguments), "--model", str(model)]
        return CliRunner(env={"QDRANT_URL": None}).invoke(app, given)

    return run


def painted(result):
    assert result.exit_code == 0, result.output
    return [np.asarray(open_image(one["file"])) for one in json.loads(result.stdout)]


def test_words_and_pictures_are_painted_as_the_model_sees_them(run, encoder, model):
    Image.new("RGB", (32, 32), "red").save("red.png")
    pictures = painted(run("a red apple", "red.png", "--json"))
    vectors = [encoder.embed_texts(["a red apple"])[0], encoder.embed_images([Path("red.png")])[0]]
    expected = EmbeddingPainter(model).paint(vectors)
    for picture, own in zip(pictures, expected, strict=True):
        assert abs(picture.astype(int) - np.asarray(own)).max() <= 2
    assert (pictures[0] != pictures[1]).any()


def test_points_are_painted_without_their_files(run, encoder, model):
    Image.new("RGB", (32, 32), "red").save("red.png")
    with connect("store") as client:
        collection = ClipCollection(client, "pictures", encoder)
        collection.add([Record("red", Path("red.png"))])
        (point,) = (hit.id for hit in collection.search("red"))
    Path("red.png").unlink()
    pictures = painted(run("--point", point, "-c", "pictures", "-l", "store", "--json", "--side", 64))
    assert pictures[0].shape == (64, 64, 3)


def test_texts_that_make_one_file_name_are_two_files(run):
    assert len({picture.tobytes() for picture in painted(run("a/b", "a b", "…", "--json"))}) == 3
    assert len(list(Path("painted").iterdir())) == 3


def test_what_cannot_be_is_one_line(run):
    for given in ((), ("words", "--point", "1")):
        result = run(*given)
        assert result.exit_code == 1 and "one of both" in result.stderr
    result = CliRunner().invoke(app, ["paint", "words", "--model", "no/such/painter"])
    assert result.exit_code == 1 and "no painter" in result.stderr
    missing = run("missing.png")
    assert missing.exit_code == 1 and "There is no picture 'missing.png'" in missing.stderr
