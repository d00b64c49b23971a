"""`clip-qdrant generate` and `edit`, with a small pipeline of diffusers and the pocket CLIP."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_qdrant import ClipEncoder, open_image
from clip_qdrant.cli.app import app
from clip_qdrant.models.picture import read_parameters
from tests import pipelines

pytestmark = pipelines.MARKS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pipelines.make_sd(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def cli(model, tmp_path, monkeypatch):
    """Run a command in a folder of its own, and give what it printed as JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        given = [*map(str, arguments), "--model", str(model), "--steps", "3", "--json"]
        result = CliRunner(env={"QDRANT_URL": None}).invoke(app, given)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def fails(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner(env={"QDRANT_URL": None}).invoke(app, [*map(str, arguments), "--model", str(model)])
        assert result.exit_code == 1
        return result.stderr

    return run


def test_pictures_are_files_that_say_how_they_were_made(cli):
    made = cli("generate", "a cat", "--count", 2, "--seed", 5, "--negative", "a dog", "--size", "32x48")
    assert [one["seed"] for one in made] == [5, 6]
    for one in made:
        path = Path(one.pop("file"))
        assert path.parent == Path("generated").absolute() and one.pop("seconds") > 0
        assert read_parameters(path) == one
        assert open_image(path).size == (32, 48)
    again = cli("generate", "a cat", "--count", 2, "--seed", 5, "--negative", "a dog", "--size", "32x48")
    assert len(list(Path("generated").iterdir())) == 2 == len(again)  # the same pictures are the same files


def test_the_best_of_several_is_what_is_kept(cli):
    (best,) = cli("generate", "a red apple", "--best-of", 4, "--seed", 1, "--clip", "pocket")
    every = cli("generate", "a red apple", "--count", 4, "--seed", 1, "--out", "every")
    encoder = ClipEncoder("pocket")
    cosines = encoder.embed_images([Path(one["file"]) for one in every]) @ encoder.embed_texts(["a red apple"])[0]
    assert best["seed"] == every[int(cosines.argmax())]["seed"]
    assert best["score"] == pytest.approx(float(cosines.max()), abs=0.01)


@pytest.mark.parametrize("guide", ["a red apple", "guide.png"])
def test_a_guide_is_words_or_a_picture(cli, guide):
    Image.new("RGB", (32, 32), "red").save("guide.png")
    (bare,) = cli("generate", "a cat", "--seed", 1, "--guide", guide, "--guide-scale", 0, "--clip", "pocket")
    (pulled,) = cli("generate", "a cat", "--seed", 1, "--guide", guide, "--clip", "pocket")
    assert pulled["alignment"][-1] > bare["alignment"][-1] + 0.02
    assert len(pulled["alignment"]) == 3


def test_what_is_stored_is_found_and_can_be_left_out(cli):
    (made,) = cli("generate", "a cat", "--seed", 1, "--store", "made", "--clip", "pocket")
    runner = CliRunner(env={"QDRANT_URL": None})

    def found(*more):
        result = runner.invoke(app, ["search", made["file"], "-c", "made", "--json", *more])
        return [hit["source"] for hit in json.loads(result.stdout)["hits"]]

    assert found() == [made["file"]]
    assert found("--where", "synthetic == true and prompt == 'a cat'") == [made["file"]]
    assert found("--where", "synthetic == false") == []


def test_what_the_pocket_generator_makes_goes_into_a_new_collection_of_the_pocket_clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"QDRANT_URL": None})
    stored = runner.invoke(app, ["generate", "a red apple, noto style", "--steps", "1", "--store", "made"])
    assert stored.exit_code == 0, stored.output
    (made,) = json.loads(runner.invoke(app, ["info", "--json"]).stdout)
    assert (made["collection"], made["points"], made["model"]) == ("made", 1, "pocket")


def test_an_edit_knows_its_parent_and_its_mask(cli):
    Image.new("RGB", (32, 32), "red").save("red.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save("mask.png")
    (plain,) = cli("edit", "red.png", "a cat", "--seed", 1, "--strength", 0.7, "--store", "made", "--clip", "pocket")
    (masked,) = cli("edit", "red.png", "a cat", "--seed", 1, "--strength", 1, "--mask", "mask.png")
    assert plain["strength"] == 0.7
    result = CliRunner(env={"QDRANT_URL": None}).invoke(app, ["search", "cat", "-c", "made", "--json"])
    assert json.loads(result.stdout)["hits"][0]["metadata"]["parent"] == str(Path("red.png").absolute())
    pictures = [np.asarray(open_image(one["file"]), int) for one in (plain, masked)]
    assert abs(pictures[0] - pictures[1]).max() > 10


def test_a_sheet_shows_them_all(cli):
    cli("generate", "a cat", "--count", 9, "--seed", 1, "--sheet", "sheets/cats.png")
    sheet = np.asarray(open_image("sheets/cats.png"))
    assert sheet.std() > 10 and sheet.shape[0] > 2 * 150  # two rows


def test_for_people_it_prints_lines(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["generate", "a cat", "--model", str(model), "--steps", "2", "--seed", "8"])
    file, seed, *_ = result.stdout.splitlines()[0].split("\t")
    assert Path(file).is_file() and seed == "8"


def test_an_interruption_keeps_what_was_made(model, tmp_path, monkeypatch):
    from clip_qdrant.models.diffusion import DiffusionGenerator

    monkeypatch.chdir(tmp_path)
    generate = DiffusionGenerator.generate

    def interrupted(self, prompt, **options):
        if options["seed"] == 3:
            raise KeyboardInterrupt
        return generate(self, prompt, **options)

    monkeypatch.setattr(DiffusionGenerator, "generate", interrupted)
    given = ["generate", "a cat", "--model", str(model), "--steps", "2", "--seed", "1", "--count", "5"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 130
    assert "with --seed 3 the rest is made" in result.stderr
    kept = [line.split("\t")[:2] for line in result.stdout.splitlines()]
    assert [seed for _, seed in kept] == ["1", "2"]
    assert {Path(file) for file, _ in kept} == set((tmp_path / "generated").iterdir())


def test_a_folder_that_cannot_be_is_said_before_any_work(fails, tmp_path, monkeypatch):
    from clip_qdrant.models.diffusion import DiffusionGenerator

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(DiffusionGenerator, "generate", lambda *_, **__: pytest.fail("work was done"))
    assert "Cannot write generated pictures to 'file/made'" in fails("generate", "a cat", "--out", "file/made")
    assert "Cannot write 'file/sheet.png'" in fails("generate", "a cat", "--sheet", "file/sheet.png")
    assert "'.' is a folder" in fails("generate", "a cat", "--sheet", ".")


def test_what_cannot_be_is_one_line(fails):
    assert "Error: --size is a side" in fails("generate", "a cat", "--size", "12x")
    assert "multiples of 8" in fails("generate", "a cat", "--size", "33")
    assert "no such file" in fails("edit", "missing.png", "a cat").lower()
    assert "prompt is a text" in fails("generate", " ")
    guide = ["--guide", "missing.png", "--clip", "pocket"]
    assert "There is no picture 'missing.png'" in fails("generate", "a cat", *guide)
