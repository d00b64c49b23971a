"""Every error this package raises on purpose.

    ClipQdrantError
    ├── ConfigError                an argument cannot be used                  (also ValueError)
    ├── NoChoiceError              nothing to choose from is like the query    (also ValueError)
    ├── MissingDependencyError     an optional package is not installed        (also ImportError)
    ├── ImageError                 an image cannot be opened: .source .reason  (also ValueError)
    │   ├── ImageNotFoundError     no such file                                (also FileNotFoundError)
    │   ├── ImageReadError         the file is there, but cannot be read       (also OSError)
    │   ├── ImageDecodeError       the bytes are not a whole, known image
    │   ├── ImageTooLargeError     more pixels or bytes than the limit
    │   └── ImageFetchError        a URL that may not or could not be opened
    ├── ModelError                 a model cannot be loaded or used
    │   ├── ModelNotFoundError     no such folder, or the hub did not answer
    │   ├── ModelFormatError       found, but not an image and text encoder in safetensors
    │   └── TrainingError          training cannot go on: the loss is not a number
    └── StorageError               Qdrant or the data in it
        ├── CollectionNotFoundError
        ├── CollectionMismatchError  the collection holds vectors of another kind
        ├── StorageLockedError       another process holds the folder
        ├── InvalidPointError        refused before anything was written       (also ValueError)
        ├── ServerAccessError        a server refuses the API key, or the lack of one
        ├── ServerUnreachableError   a server does not answer
        ├── UnsupportedError         the embedded engine cannot do this        (also NotImplementedError)
        └── FilterError              a filter that cannot be understood        (also ValueError)

A message says what happened, what was given and what to do about it. An error that stands for a builtin one is also
that builtin, so that callers who know neither this package nor its tree still catch it.
"""

from __future__ import annotations


class ClipQdrantError(Exception):
    """The root of the tree: `except ClipQdrantError` catches all that this package raises on purpose."""


class ConfigError(ClipQdrantError, ValueError):
    """An argument that cannot be used."""


class NoChoiceError(ClipQdrantError, ValueError):
    """No choice is like enough to the query, or two are too much alike, and there is no fallback."""


class MissingDependencyError(ClipQdrantError, ImportError):
    """An optional package is not installed; the message has the exact pip command."""

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'clip-qdrant[{extra}]'"
        )


class ImageError(ClipQdrantError, ValueError):
    """An image that cannot be opened.

    Attributes:
        source: what was given, shortened for print (a path, a URL, "bytes (1,024)", …).
        reason: why it cannot be opened, without the source, for a table of failures.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"Cannot open image {source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Errors cross process boundaries (data loaders), and the default would call __init__ with the message."""
        return type(self), (self.source, self.reason)


class ImageNotFoundError(ImageError, FileNotFoundError):
    """No such file."""


class ImageReadError(ImageError, OSError):
    """The file is there, but reading it failed: a permission, a folder, a loop of links."""


class ImageDecodeError(ImageError):
    """The bytes are not a whole image of a known format."""


class ImageTooLargeError(ImageError):
    """More pixels or bytes than the limit; refused before decoding."""


class ImageFetchError(ImageError):
    """A URL that may not be opened (scheme, private address, not asked for) or did not answer in the limits."""


class ModelError(ClipQdrantError):
    """A model that cannot be loaded or used."""


class ModelNotFoundError(ModelError):
    """No such folder, no such name, or the hub did not answer."""


class ModelFormatError(ModelError):
    """Found, but not an image and text encoder with safetensors weights."""


class TrainingError(ModelError):
    """Training cannot go on: the loss, or its gradient, is no longer a number."""


class StorageError(ClipQdrantError):
    """Qdrant, or the data in it."""


class CollectionNotFoundError(StorageError):
    """No collection of that name at that location."""


class CollectionMismatchError(StorageError):
    """The collection holds vectors of another encoder, dimension or shape than the caller brings."""


class StorageLockedError(StorageError):
    """Another process holds the storage folder."""


class InvalidPointError(StorageError, ValueError):
    """A point or a vector that Qdrant must not see; refused before anything was written."""


class ServerAccessError(StorageError):
    """A Qdrant server refuses the API key, or the lack of one."""


class ServerUnreachableError(StorageError):
    """A Qdrant server does not answer."""


class UnsupportedError(StorageError, NotImplementedError):
    """A method that the embedded engine does not have; the message names what to use instead."""


class FilterError(StorageError, ValueError):
    """A filter that cannot be understood; the message names the field and what it may be."""
