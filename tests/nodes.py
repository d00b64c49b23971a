"""Nodes of every shape that holds a picture: one red square, as bytes or in a file."""

import base64
from io import BytesIO

from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node
from PIL import Image

URL = "https://example.org/red.png"


def png(colour="red", side=16):
    file = BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "png")
    return file.getvalue()


RED = png()
BASE64 = base64.b64encode(RED).decode()
DATA_URI = f"data:image/png;base64,{BASE64}"

HOLDERS = {
    "ImageNode image": lambda path: ImageNode(image=BASE64),
    "ImageNode image in lines": lambda path: ImageNode(image=base64.encodebytes(RED).decode()),
    "ImageNode image data URI": lambda path: ImageNode(image=DATA_URI),
    "ImageNode image_path": lambda path: ImageNode(image_path=str(path)),
    "ImageNode image_path before url": lambda path: ImageNode(image_path=str(path), image_url=URL),
    "ImageNode image_url data URI": lambda path: ImageNode(image_url=DATA_URI),
    "ImageNode image_url file": lambda path: ImageNode(image_url=path.as_uri()),
    "ImageNode resource path": lambda path: ImageNode(image_resource=MediaResource(path=path)),
    "ImageDocument image": lambda path: ImageDocument(image=BASE64),
    "ImageDocument image_path": lambda path: ImageDocument(image_path=str(path)),
    "Node resource data": lambda path: Node(image_resource=MediaResource(data=RED)),
    "Node resource path": lambda path: Node(image_resource=MediaResource(path=path)),
    "Node resource url data URI": lambda path: Node(image_resource=MediaResource(url=DATA_URI)),
    "Node resource url file": lambda path: Node(image_resource=MediaResource(url=path.as_uri())),
    "Node with text": lambda path: Node(
        image_resource=MediaResource(path=path), text_resource=MediaResource(text="a red square")
    ),
    "Document resource data": lambda path: Document(image_resource=MediaResource(data=RED), text="a red square"),
    "Document resource url data URI": lambda path: Document(image_resource=MediaResource(url=DATA_URI)),
}
