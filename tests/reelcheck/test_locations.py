"""One way from root and path of an input file to its location, for files and for objects."""

import pytest

from reelcheck.locations import is_url, location_of
from reelcheck.records import InputFile


@pytest.mark.parametrize(
    ("root", "path", "location"),
    [
        ("/videos", "a/b.mp4", "/videos/a/b.mp4"),
        ("/", "b.mp4", "/b.mp4"),
        ("/videos", "weird://name.mp4", "/videos/weird:/name.mp4"),
        ("s3://bucket", "a/b.mp4", "s3://bucket/a/b.mp4"),
        ("s3://bucket/in/", "b  c.mp4", "s3://bucket/in/b  c.mp4"),
        ("https://example.org", "ä.mp4", "https://example.org/ä.mp4"),
    ],
)
def test_location_joins_root_and_path(root: str, path: str, location: str) -> None:
    assert location_of({"root": root, "path": path}) == location
    assert InputFile(root=root, path=path).location == location
    assert is_url(location) == is_url(root)
