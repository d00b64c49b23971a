"""Labels as points: upserts, payload, filters, examples, and the same answers as a classifier of the same labels."""

import numpy as np
import pytest
from PIL import Image

from clip_qdrant import CollectionSchema, Record
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.collection.labels import LabelCollection
from clip_qdrant.errors import CollectionMismatchError, ConfigError, ImageError, InvalidPointError
from clip_qdrant.models.zero_shot import Calibration, Label, PrototypeCache, ZeroShotClassifier
from clip_qdrant.testing import PALETTE, FakeEncoder

COLOURS = ["red", "green", "blue"]
TREE = {"warm": ["red", "yellow"], "cold": ["green", "blue"]}


class Counting(FakeEncoder):
    texts = images = 0

    def embed_texts(self, texts):
        self.texts += len(texts)
        return super().embed_texts(texts)

    def embed_images(self, images):
        images = list(images)
        self.images += len(images)
        return super().embed_images(images)


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def labels(client, name, encoder):
    return LabelCollection(client, name, encoder, templates=["{}", "a {} thing"])


def picture(colour, shade=0):
    return Image.new("RGB", (8, 8), tuple(max(0, value - shade) for value in PALETTE[colour]))


def counts(report):
    return report.embedded, report.updated, report.unchanged


def test_a_class_is_added_by_an_upsert_that_embeds_no_other(labels, encoder):
    assert counts(labels.add(COLOURS)) == (3, 0, 0)
    assert set(labels.classifier().labels) == set(COLOURS)
    encoder.texts = 0
    assert counts(labels.add([*COLOURS, "yellow"])) == (1, 0, 3)
    assert encoder.texts == 4  # its two templates, and those of the background
    answers = labels.classifier().classify_images([picture("yellow"), picture("red")])
    assert [answer.label for answer in answers] == ["yellow", "red"]


def test_answers_are_those_of_a_classifier_of_the_same_labels(labels, encoder):
    shown = {colour: [picture(colour), picture(colour, 9)] for colour in ("red", "blue")}
    red = Label("red", synonyms=["scarlet"], examples=shown["red"])
    tree = [
        Label("colours", children=[red, Label("green", description="a meadow")]),
        Label("tones", children=[Label("blue", examples=shown["blue"]), "gray"]),
    ]
    labels.add(tree)
    vectors = encoder.embed_images([picture(colour) for colour in PALETTE])
    for options in ({}, {"example_weight": 0.9}, {"multi_label": True}, {"coarse": "words"}):
        ours = labels.classifier(**options)
        theirs = ZeroShotClassifier(encoder, tree, templates=["{}", "a {} thing"], cache=PrototypeCache(), **options)
        order = [ours.paths.index(path) for path in theirs.paths]
        assert np.abs(ours.probabilities(vectors)[:, order] - theirs.probabilities(vectors)).max() < 1e-5


def test_a_thousand_labels_are_one_request_for_any_number_of_inputs(labels, monkeypatch):
    labels.add([f"thing {number}" for number in range(997)] + COLOURS)
    client, requests = labels.vectors.client, []
    real = client.scroll
    monkeypatch.setattr(client, "scroll", lambda *given, **options: requests.append(1) or real(*given, **options))
    for refused in ("retrieve", "query_points", "query_batch_points", "upsert"):
        monkeypatch.setattr(client, refused, None)
    found = labels.classifier()
    answers = list(found.classify_images([picture(colour) for colour in COLOURS] * 20))
    assert [answer.label for answer in answers] == COLOURS * 20
    assert len(found.labels) == 1_000 and len(requests) == 1


def test_the_nearest_of_a_thousand_labels_is_one_query(labels, client, name, encoder, monkeypatch):
    labels.add([f"thing {number}" for number in range(997)] + COLOURS)
    searched, queries = ClipCollection(client, name, encoder), []
    real = client.query_batch_points
    monkeypatch.setattr(
        client, "query_batch_points", lambda name, requests: queries.extend(requests) or real(name, requests)
    )
    for refused in ("scroll", "retrieve", "query_points", "upsert"):
        monkeypatch.setattr(client, refused, None)
    for colour in COLOURS:
        best, *_ = searched.search(picture(colour), using="text", limit=5)
        assert best.metadata["label"] == colour
    assert len(queries) == len(COLOURS)


def test_labels_are_chosen_by_their_payload(labels):
    labels.add([Label(colour, metadata={"group": "base", "rank": at}) for at, colour in enumerate(COLOURS)])
    labels.add([Label("yellow", metadata={"group": "mixed"}), Label("purple", metadata={"group": "mixed"})])
    assert set(labels.classifier(where={"group": "mixed"}).labels) == {"yellow", "purple"}
    assert set(labels.classifier(where="group == base and rank >= 1").labels) == {"green", "blue"}
    with pytest.raises(ConfigError, match=r"no label in .* passes the filter"):
        labels.classifier(where={"group": "none"})


def test_a_tree_comes_back_and_its_branches_can_be_had_alone(labels):
    labels.add(TREE)
    found = labels.classifier()
    assert found.is_tree and set(found.paths) == {(top, name) for top, names in TREE.items() for name in names}
    assert next(found.classify_images([picture("blue")])).labels[0].path == ("cold", "blue")
    branch = labels.classifier(where={"parents": "warm"})
    assert not branch.is_tree and set(branch.labels) == {"red", "yellow"}
    labels.add({"cold": ["white"]})
    assert ("cold", "white") in labels.classifier().paths and ("cold", "blue") in labels.classifier().paths


def test_names_with_slashes_are_not_paths(labels):
    labels.add([Label("a/b"), Label("a", children=[Label("b"), Label("c")])])
    assert set(labels.classifier().paths) == {("a/b",), ("a", "b"), ("a", "c")}


def test_owners_have_labels_of_one_name(labels):
    labels.add(["red", Label("blue", description="a sea")], scope="ann")
    labels.add(["red", "green"], scope="bob")
    assert labels.vectors.count() == 4
    assert set(labels.classifier(where={"scope": "bob"}).labels) == {"red", "green"}
    with pytest.raises(ConfigError, match=r"'red' is a label in two scopes, \['\w+', '\w+'\]. Give where="):
        labels.classifier()


def test_metadata_is_changed_without_embedding(labels, encoder):
    labels.add(COLOURS)
    encoder.texts = 0
    report = labels.add([Label("red", metadata={"group": "warm"}), "green"])
    assert counts(report) == (0, 1, 1) and encoder.texts == 0
    assert labels.vectors.scan(where={"group": "warm"}).__next__().metadata["label"] == "red"
    assert labels.classifier().classify_images([picture("red")]).__next__().label == "red"


def test_what_is_said_of_a_label_is_embedded_when_it_changes(labels):
    labels.add(COLOURS)
    assert counts(labels.add([Label("red", synonyms=["scarlet"]), "green"])) == (1, 0, 1)
    assert counts(labels.add([Label("red", synonyms=["scarlet"], examples=[picture("red")])])) == (1, 0, 0)
    assert counts(labels.add([Label("red", synonyms=["scarlet"], examples=[picture("red")])])) == (0, 0, 1)
    assert counts(labels.add([Label("red", synonyms=["scarlet"], examples=[picture("red", 20)])])) == (1, 0, 0)


def test_examples_move_the_prototype_by_the_weight(labels, encoder):
    """ "alpha" and "beta" say nothing to the encoder; their examples do."""
    shown = {name: [picture(colour)] for name, colour in (("alpha", "red"), ("beta", "blue"))}
    labels.add([Label(name, examples=pictures) for name, pictures in shown.items()])
    asked = encoder.embed_images([picture("red", 5), picture("blue", 5)])
    sure = [labels.classifier(example_weight=weight).probabilities(asked) for weight in (0.0, 0.2, 0.8)]
    right = [one[0, 0] + one[1, 1] for one in sure]
    assert right[0] < right[1] <= right[2] and right[2] > 1.99
    assert (sure[2].argmax(axis=1) == [0, 1]).all()


def test_examples_that_come_one_label_after_another(labels):
    labels.add(["alpha", "beta", "red"])
    words = labels.classifier()
    labels.add([Label("alpha", examples=[picture("blue")])])
    assert np.array_equal(labels.classifier().prototypes, words.prototypes)  # of one alone they say nothing yet
    labels.add([Label("beta", examples=[picture("green")])])
    asked = [picture("blue"), picture("green"), picture("red")]
    answers = [answer.label for answer in labels.classifier(example_weight=0.8).classify_images(asked)]
    assert answers == ["alpha", "beta", "red"]
    labels.add(["beta"])  # an upsert: its examples are gone
    assert np.array_equal(labels.classifier().prototypes, words.prototypes)


def test_labels_are_points_like_any_other(labels, client, name, encoder):
    labels.add([*COLOURS, Label("blue sky", metadata={"group": "nature"})])
    hits = ClipCollection(client, name, encoder).search("a blue thing", using="text", limit=2)
    assert {hit.text for hit in hits} == {"blue", "blue sky"}
    assert labels.vectors.delete(where={"label": "blue sky"}) == 1
    assert "blue sky" not in labels.classifier().labels


def test_other_points_are_no_labels(labels, client, name, encoder):
    labels.add(COLOURS)
    ClipCollection(client, name, encoder).add([Record("note", text="red")])
    assert set(labels.classifier().labels) == set(COLOURS)


def test_calibration_goes_with_the_classifier(labels, encoder):
    labels.add(COLOURS)
    found = labels.classifier(calibration=Calibration(least_cosine=0.5))
    assert next(found.classify_images([picture("yellow")])).abstained
    answers = [colour for colour in COLOURS for _ in range(5)]
    calibrated = labels.classifier().calibrate_images(
        [picture(colour, shade) for colour in COLOURS for shade in range(5)], answers
    )
    assert calibrated.calibration["image"].measured.count == 15


def test_a_schema_makes_the_metadata_filterable_in_strict_mode(client, name, encoder):
    schema = CollectionSchema(indexes={"tenant": "tenant"}, strict=True)
    labels = LabelCollection(client, name, encoder, schema=schema)
    labels.add([Label(colour, metadata={"tenant": "acme"}) for colour in COLOURS])
    assert len(labels.classifier(where={"tenant": "acme", "label": ["red", "blue"]}).labels) == 2


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ConfigError, "no labels"),
        (["red", "red"], ConfigError, "two labels 'red'"),
        ([Label("red", metadata={"label": "x"})], ConfigError, "'red' uses the reserved key 'label'"),
        ([Label("red", metadata={"source": "x"})], InvalidPointError, r"reserved keys: \['source'\]"),
        ([Label("red", metadata={"x": float("nan")})], InvalidPointError, "is not JSON"),
        ([Label("red", examples=[b"none"])], ImageError, "an example of the label 'red'"),
    ],
)
def test_bad_labels_write_nothing(labels, given, error, message):
    with pytest.raises(error, match=message):
        labels.add(given)
    assert labels.vectors.count() == 0


def test_bad_options(labels, client, name):
    with pytest.raises(ConfigError, match="templates is the collection's own"):
        labels.classifier(templates="photos")
    with pytest.raises(ConfigError, match="no label in"):
        labels.classifier()
    labels.add(["red"])
    with pytest.raises(ConfigError, match="'red' alone"):
        labels.classifier()
    with pytest.raises(CollectionMismatchError, match="of 'fake', but 'other'"):
        LabelCollection(client, name, FakeEncoder(name="other"))
    with pytest.raises(ConfigError, match="no templates 'poems'"):
        LabelCollection(client, f"{name}-2", FakeEncoder(), templates="poems")
