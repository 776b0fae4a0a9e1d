import pytest

from tests.tiny_models import one_thread, taught_model, tiny_model
from training.server import ADDRESS

__all__ = ["one_thread", "taught_model", "tiny_model"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers are processes of their own here, as by hand."""
    monkeypatch.delenv(ADDRESS, raising=False)
