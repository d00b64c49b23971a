"""Where records come from: folders and manifests of pictures, with what their files and captions say."""

from clip_qdrant.sources.exif import read_exif
from clip_qdrant.sources.folders import IMAGE_SUFFIXES, records_in
from clip_qdrant.sources.manifests import records_from
from clip_qdrant.sources.problems import OnProblem, Problem, log_problem
from clip_qdrant.sources.sidecars import read_sidecars

__all__ = [
    "IMAGE_SUFFIXES",
    "OnProblem",
    "Problem",
    "log_problem",
    "read_exif",
    "read_sidecars",
    "records_from",
    "records_in",
]
