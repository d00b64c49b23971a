"""The bundled generator: real pictures, by the code that loads Stable Diffusion, and the closed loop."""

from pathlib import Path

import numpy as np
import pytest
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.schema import QueryBundle

from clip_qdrant import ClipCollection, ClipEncoder, DiffusionGenerator
from clip_qdrant.collection.synthetic import from_words, store
from clip_qdrant.llamaindex.generation import ImageGenerationToolSpec, RetrieveOrGenerateRetriever
from clip_qdrant.models.guidance import ClipGuide
from clip_qdrant.models.pocket import pocket_path
from clip_qdrant.testing import FakeEncoder
from tests import pipelines

pytestmark = pipelines.MARKS

THINGS = ("red apple", "panda", "octopus", "Christmas tree")


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket")


@pytest.fixture(scope="module")
def generator():
    return DiffusionGenerator("pocket")


@pytest.fixture(scope="module")
def pictures(generator):
    return [generator.generate(f"a {thing}, flat style", seed=1)[0] for thing in THINGS]


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in pocket_path("diffusion").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 25_000_000
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}


def test_pictures_show_what_they_were_asked_for(pictures, encoder):
    cosines = encoder.embed_images([one.image for one in pictures]) @ encoder.embed_texts(list(THINGS)).T
    assert cosines.argmax(axis=1).tolist() == list(range(len(THINGS)))


def test_a_guide_brings_a_picture_nearer(generator, pictures, encoder):
    target = encoder.embed_texts(["a red apple"])[0]
    pulled = generator.generate(f"a {THINGS[0]}, flat style", seed=1, guide=ClipGuide(encoder, target, scale=0.03))[0]
    before, after = encoder.embed_images([pictures[0].image, pulled.image]) @ target
    assert after > before
    assert len(pulled.alignment) == 20


def test_a_strong_edit_leaves_the_picture_for_the_prompt(generator, pictures, encoder):
    weak, strong = (
        generator.edit(pictures[1].image, f"a {THINGS[0]}, flat style", strength=strength, seed=2)[0]
        for strength in (0.2, 1.0)
    )
    vectors = encoder.embed_images([weak.image, strong.image])
    to_source, to_prompt = encoder.embed_images([pictures[1].image])[0], encoder.embed_texts([THINGS[0]])[0]
    assert vectors[0] @ to_source > vectors[1] @ to_source
    assert vectors[1] @ to_prompt > vectors[0] @ to_prompt


def test_what_is_made_is_found_by_words_and_by_picture_and_can_be_left_out(client, name, encoder, pictures, tmp_path):
    collection = ClipCollection(client, name, encoder)
    hits = store(collection, pictures, tmp_path / "made")
    for thing, picture, hit in zip(THINGS, pictures, hits, strict=True):
        for query in (thing, picture.image):
            assert [found.id for found in collection.search(query, limit=1)] == [hit.id]
        assert hit.metadata["prompt"] == picture.prompt and hit.metadata["seed"] == 1
        assert Path(hit.source).read_bytes() == picture.png()
    assert collection.search(THINGS[0], where={"synthetic": False}) == []
    assert collection.count(where={"synthetic": True}) == len(THINGS)


def test_a_search_that_finds_nothing_makes_it(client, name, encoder, generator, tmp_path):
    collection = ClipCollection(client, name, encoder)
    retriever = RetrieveOrGenerateRetriever(collection, from_words(generator), tmp_path / "made", good_enough=0.1)
    (made,) = retriever.retrieve(QueryBundle("a panda, flat style"))
    assert made.node.metadata["synthetic"] is True
    (found,) = retriever.retrieve(QueryBundle("a panda, flat style"))
    assert found.node.node_id == made.node.node_id


def test_an_agent_is_shown_what_was_made(client, name, generator, tmp_path):
    tools = ImageGenerationToolSpec(generator, ClipCollection(client, name, FakeEncoder()), tmp_path / "made")
    text, image = tools.generate_image("a panda, flat style")
    assert isinstance(text, TextBlock) and isinstance(image, ImageBlock)
    (point,) = tools.collection.vectors.scan(where={"synthetic": True})
    text, image = tools.edit_image(point.id, "a red apple, flat style", 0.9)
    assert f"made from {point.id}" in text.text


def test_a_preview_of_a_generated_picture_is_like_it(pictures, encoder):
    from clip_qdrant import EmbeddingPainter

    painter = EmbeddingPainter("pocket")
    vectors = encoder.embed_images([one.image for one in pictures])
    painted = np.stack([np.asarray(one, float) for one in painter.paint(vectors)])
    real = np.stack([np.asarray(one.image, float) for one in pictures])
    distances = np.abs(painted[:, None] - real[None]).mean(axis=(2, 3, 4))
    assert distances.argmin(axis=1).tolist() == list(range(len(THINGS)))
