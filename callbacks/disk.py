"""For handlers that write files: whether a folder can be written, and how that comes to the disk."""

from shared.disk import find_write_problem, sync_data, sync_file, sync_folder

__all__ = ["find_write_problem", "sync_data", "sync_file", "sync_folder"]
