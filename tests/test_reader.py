"""Pictures as LlamaIndex documents: what is in them, that it stays the same, and that caches see a change."""

import asyncio
import json
import logging
import os
from itertools import count
from pathlib import Path

import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.readers.base import ReaderConfig
from llama_index.core.schema import Document, ImageDocument, ImageNode, MetadataMode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from PIL import Image

from clip_qdrant import Record, records_in
from clip_qdrant.errors import ConfigError, ImageNotFoundError, ImageReadError
from clip_qdrant.images import content_hash
from clip_qdrant.llamaindex import nodes
from clip_qdrant.llamaindex.reader import ClipReader, document_of
from clip_qdrant.storage.points import document_id, payload_of, point_id
from tests.exif_data import MODEL, ascii_tag, block, save


class Marks(TransformComponent):
    """Gives nodes an embedding, as a model would: of each call another."""

    def __call__(self, nodes, **kwargs):
        for node in nodes:
            node.embedding = [float(next(COUNT))]
        return nodes


COUNT = count()


@pytest.fixture
def album(tmp_path):
    """Two pictures, one with a caption, a camera and more."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    save(folder / "bear.jpg", block([ascii_tag(MODEL, "M11")]))
    (folder / "bear.json").write_text('{"caption": "a brown bear", "year": 1999, "tags": ["wild"], "file_type": 3}')
    Image.new("RGB", (8, 6), "blue").save(folder / "sub" / "sky.png")
    return folder


def test_a_document_has_path_caption_and_metadata(album):
    bear, sky = ClipReader().load_data(album)
    record, _ = records_in(album)
    path = album / "bear.jpg"
    own = {"source": str(path), "modality": "image", "content_hash": content_hash(path)}
    assert (type(bear), bear.text, bear.image_path, bear.image_mimetype) == (
        ImageDocument, "a brown bear", str(path), "image/jpeg"
    )  # fmt: skip
    assert bear.metadata == {**record.metadata, **own}
    assert {key: bear.metadata[key] for key in ("camera", "year", "tags")} == {
        "camera": "M11", "year": 1999, "tags": ["wild"]
    }  # fmt: skip
    assert (sky.text, sky.metadata["folder"]) == ("", "sub")
    assert [bear.image_resource.data, bear.image, bear.image_url, bear.embedding] == [None] * 4


def test_captions_alone_are_embedded_and_llms_are_spared_the_hash(album):
    bear, sky = ClipReader().load_data(album)
    assert bear.get_content(MetadataMode.EMBED) == nodes.text_of(bear) == "a brown bear"
    assert (sky.get_content(MetadataMode.EMBED), nodes.text_of(sky)) == ("", None)
    shown = bear.get_content(MetadataMode.LLM)
    assert "camera: M11" in shown and f"source: {album / 'bear.jpg'}" in shown
    assert "content_hash" not in shown and "modality" not in shown


def test_its_id_and_payload_are_those_of_the_record(album):
    """What a folder indexed from the command line says of a picture, a document that is indexed says too."""
    record = next(records_in(album, scope="tenant"))
    (again, _), (bear, _) = (ClipReader(scope="tenant").load_data(album) for _ in range(2))
    assert bear.id_ == again.id_ == document_id(record)
    assert bear.id_ != ClipReader().load_data(album)[0].id_
    stored = payload_of(record, content_hash(record.image))
    assert nodes.payload_of_node(bear) | {"_node_content": ""} == stored | {"_node_content": ""}
    assert nodes.image_of(bear) == record.image


def test_it_survives_being_written(album):
    for document in ClipReader().load_data(album):
        written = json.dumps(document.to_dict())
        again = ImageDocument.from_dict(json.loads(written))
        assert again == document and again.hash == document.hash
        assert again.image_path == document.image_path
        assert len(written) < 4000  # no picture in it
    reader = ClipReader(recursive=False, scope="tenant", exif=False, sidecars=False)
    assert ClipReader.from_dict(json.loads(json.dumps(reader.to_dict()))) == reader
    config = ReaderConfig(reader=ClipReader(sidecars=False), reader_args=[str(album)])
    assert [document.text for document in config.read()] == ["", ""]


def test_its_options_are_those_of_the_folder(album):
    assert [d.metadata["file_name"] for d in ClipReader(recursive=False).load_data(album)] == ["bear.jpg"]
    assert "camera" not in ClipReader(exif=False).load_data(album)[0].metadata
    assert ClipReader(sidecars=False).load_data(album)[0].text == ""
    (alone,) = ClipReader().load_data(album / "sub" / "sky.png", extra_info={"album": "x", "content_hash": "forged"})
    assert (alone.metadata["album"], alone.metadata["content_hash"]) == ("x", content_hash(album / "sub" / "sky.png"))
    assert "album" in alone.excluded_embed_metadata_keys


def test_a_manifest_is_read_too(album):
    (album / "m.csv").write_text("photo,title,n\nbear.jpg,a bear,1\n../out.png,out,2\nsub/sky.png,the sky,3\n")
    problems = []
    options = {"image_column": "photo", "caption_column": "title", "on_problem": problems.append}
    found = ClipReader().load_data(str(album / "m.csv"), **options)
    assert [(d.text, d.metadata["n"], Path(d.image_path).name) for d in found] == [
        ("a bear", 1, "bear.jpg"), ("the sky", 3, "sky.png")
    ]  # fmt: skip
    assert [problem.place for problem in problems] == ["m.csv, line 3"]
    with pytest.raises(ConfigError, match=r"\['image_column'\] are for manifests"):
        ClipReader().load_data(album, image_column="photo")


def test_a_directory_reader_takes_it(album):
    reader = ClipReader()
    found = SimpleDirectoryReader(
        album, recursive=True, required_exts=[".jpg", ".png"], file_extractor={".jpg": reader, ".png": reader},
        raise_on_error=True,
    ).load_data()  # fmt: skip
    assert [d.id_ for d in found] == [d.id_ for d in reader.load_data(album)]
    bear = found[0]
    assert (bear.text, bear.metadata["camera"], bear.metadata["file_path"]) == (
        "a brown bear", "M11", str(album / "bear.jpg")
    )  # fmt: skip
    assert bear.get_content(MetadataMode.EMBED) == "a brown bear"
    files = asyncio.run(
        SimpleDirectoryReader(album, file_extractor={".jpg": reader}, required_exts=[".jpg"]).aload_data()
    )
    assert [d.id_ for d in files] == [bear.id_]


def test_another_file_system_is_refused(album):
    with pytest.raises(ConfigError, match="ClipReader reads local files, not those of a dict"):
        ClipReader().load_data(album, fs={})


def test_it_is_lazy_and_async(album):
    lazy = ClipReader().lazy_load_data(album)
    Image.new("RGB", (8, 6), "red").save(album / "sub" / "sky.png")
    wanted = ClipReader().load_data(album)
    assert list(lazy) == wanted
    assert asyncio.run(ClipReader().aload_data(album)) == wanted
    assert asyncio.run(ClipReader().alazy_load_data(album)) == wanted


def test_what_is_not_there_is_refused_at_the_call(tmp_path):
    for name in ("gone", "gone.jpg", "gone.csv"):
        with pytest.raises(ConfigError, match="gone"):
            ClipReader().lazy_load_data(tmp_path / name)
    assert ClipReader().load_data(tmp_path) == []


def test_what_cannot_be_read_is_left_out_and_said(album, caplog):
    (album / "a.png").symlink_to("nowhere")
    with open(os.path.join(os.fsencode(album), b"caf\xe9.png"), "wb") as file:
        Image.new("RGB", (8, 6)).save(file, "PNG")
    with caplog.at_level(logging.WARNING):
        assert [Path(d.image_path).name for d in ClipReader().load_data(album)] == ["bear.jpg", "sky.png"]
    assert caplog.messages == [
        f"{album / 'a.png'}: no such file. The picture is left out.",
        f"{album / 'caf'}\\xe9.png: its name is not UTF-8, which no document can hold. Rename it. "
        "The picture is left out.",
    ]


def test_a_broken_picture_is_a_document_that_says_so_when_opened(album):
    (album / "bear.jpg").write_bytes(b"no picture")
    bear, _ = ClipReader().load_data(album)
    assert (bear.text, bear.metadata["content_hash"]) == ("a brown bear", content_hash(b"no picture"))


@pytest.mark.parametrize("caption", ["", "a square"])
def test_defect_15_the_ingestion_cache_sees_another_picture(tmp_path, caption):
    """Two pictures of one path, size and time, one after the other: only the content tells them apart."""
    path, cache = tmp_path / "a.png", IngestionCache()
    path.with_suffix(".txt").write_text(caption)

    def run(colour, *forgotten):
        Image.new("RGB", (8, 6), colour).save(path)
        os.utime(path, (0, 0))
        (document,) = ClipReader().load_data(path)
        for key in forgotten:
            del document.metadata[key]
        (node,) = IngestionPipeline(transformations=[Marks()], cache=cache).run(documents=[document])
        return node.embedding

    assert run("#111111", "content_hash") == run("#222222", "content_hash")  # as of a reader without the hash
    first, second, again = run("#111111"), run("#222222"), run("#111111")
    assert first != second and first == again


def test_defect_15_the_docstore_sees_a_picture_that_changed_in_place(album):
    docstore, path = SimpleDocumentStore(), album / "sub" / "sky.png"

    def run():
        documents = ClipReader().load_data(album)
        pipeline = IngestionPipeline(
            transformations=[Marks()],
            docstore=docstore,
            docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
            disable_cache=True,
        )
        return [node.id_ for node in pipeline.run(documents=documents)]

    time = path.stat()
    assert (len(run()), run()) == (2, [])
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert run() == [document_id(list(records_in(album))[1])]


def test_a_splitter_makes_one_picture_node_of_a_document(album):
    documents = ClipReader().load_data(album)
    split = SentenceSplitter().get_nodes_from_documents(documents)
    assert [(type(node), node.text, node.image_path, node.ref_doc_id) for node in split] == [
        (ImageNode, document.text, document.image_path, document.id_) for document in documents
    ]
    assert [node.metadata for node in split] == [document.metadata for document in documents]


def test_a_part_of_a_source_has_an_id_of_its_own(tmp_path):
    picture = save(tmp_path / "page.jpg")
    pages = [Record("book.pdf", picture, fragment=f"page={n}") for n in (1, 2)]
    documents = [document_of(page) for page in pages]
    assert [d.id_ for d in documents] == [point_id(page) for page in pages]
    assert [d.ref_doc_id for d in documents] == [document_id(pages[0])] * 2
    assert documents[0].metadata["fragment"] == "page=1"
    given = Record("x", picture, id="6f0c1f0e-6a53-5d0c-9a52-2f5f3f7c1b11")
    assert document_of(given).id_ == given.id


def test_a_text_alone_is_a_document():
    document = document_of(Record("notes", text="a brown bear", metadata={"year": 1999}))
    assert (type(document), document.text) == (Document, "a brown bear")
    assert document.metadata == {"year": 1999, "source": "notes"}


def test_a_picture_that_is_no_file_is_refused(tmp_path):
    for image in (b"bytes", Image.new("RGB", (1, 1)), "https://host/x.png", "data:image/png;base64,AAAA"):
        with pytest.raises(ConfigError, match="a document holds the path of a file"):
            document_of(Record("x", image))
    with pytest.raises(ImageNotFoundError):
        document_of(Record("x", tmp_path / "gone.jpg"))
    with pytest.raises(ImageReadError, match="it is a folder"):
        document_of(Record("x", str(tmp_path)))


def test_the_sample_photos_by_their_manifest(photos):
    found = ClipReader().load_data(photos / "manifest.json")
    assert len({d.id_ for d in found}) == len({d.metadata["content_hash"] for d in found}) == 111
    assert found[0].get_content(MetadataMode.EMBED) == "A big burly grizzly bear is show with grass in the background."
    assert len(found[0].metadata["captions"]) == 5
