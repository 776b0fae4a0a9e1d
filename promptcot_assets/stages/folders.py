"""A folder that is there whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from promptcot_assets.lake.disk import sync_all


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """A draft beside `folder`, renamed to it at the end: an interrupted write leaves no half model behind."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} already holds files; a model is written once: remove it or name another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        sync_all(draft)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
