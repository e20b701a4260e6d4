"""Columns that views add to the rows of tables: the name of the item beside its id, and the path of a file.

They are computed when a view is built: a path depends on where the data folder is, and earlier runs have no names in
their parts.
"""

from __future__ import annotations

from typing import Final

VIDEO_NAME: Final = "video_name"
PATH: Final = "path"
TABLES_WITH_FILES: Final = frozenset({"frames", "image_embeddings"})


def with_names(rows: str, media: str) -> str:
    """Build a SELECT of rows with `video_name`, the file name of the item, after `video_id`.

    Not `name`: many prompts have a field of that name.

    Args:
        rows: a SELECT or the name of a relation, whose first columns are `run_id` and `video_id`.
        media: the same for the table `media` of the run.
    """
    return (
        f"SELECT rows.run_id, rows.video_id, media.name AS {VIDEO_NAME}, rows.* EXCLUDE (run_id, video_id) "
        f"FROM {_relation(rows)} AS rows "
        f"LEFT JOIN (SELECT video_id, name FROM {_relation(media)}) AS media ON media.video_id = rows.video_id"
    )


def with_paths(rows: str, data_folder: str) -> str:
    """Build a SELECT of rows with `path`, which resolves their `file`, as the last column.

    Args:
        rows: a SELECT with the column `file`.
        data_folder: a SQL expression of the path or URL of the data folder; `sql_path` makes one of a known path.
    """
    return f"SELECT *, {data_folder} || '/' || file AS {PATH} FROM {_relation(rows)}"


def sql_path(folder: str) -> str:
    """Return the path or URL of a folder as a SQL literal without a slash at its end."""
    return "'" + folder.rstrip("/").replace("'", "''") + "'"


def _relation(text: str) -> str:
    return f"({text})" if " " in text.strip('"') else text
