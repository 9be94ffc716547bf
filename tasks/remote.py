"""Objects of a store or a web server as input files.

They stay where they are: a decode process fetches each one when its turn comes, so a machine needs
room for as many videos as it has processes, and machines need no common disk.
"""

from reelcheck.errors import SourceError, StoreError
from reelcheck.records import InputFile
from storage.objects import ObjectFolder


def find_objects(url: str) -> list[InputFile]:
    """The objects below a URL, or the one that it names, sorted by path, not yet identified.

    Args:
        url: of any store that fsspec knows; credentials come from the environment, as fsspec's
            packages take them.

    Raises:
        SourceError: the store is unknown, needs another package, or holds nothing there.
    """
    try:
        objects = ObjectFolder(url).listed()
    except StoreError as error:
        raise SourceError(str(error)) from error
    if not objects:
        raise SourceError(f"{url} names no object that can be read; check the address")
    root = url.rstrip("/")
    if len(objects) == 1 and root.endswith(f"/{objects[0].name}"):
        root = root.removesuffix(f"/{objects[0].name}")
    return [
        InputFile(
            root=root,
            path=found.name,
            size_bytes=found.size_bytes,
            mtime_ns=found.mtime_ns,
        )
        for found in objects
    ]
