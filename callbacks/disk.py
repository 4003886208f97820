"""For handlers that write files: bring what is written to the disk, on Linux and on macOS."""

from shared.disk import sync_data, sync_file, sync_folder

__all__ = ["sync_data", "sync_file", "sync_folder"]
