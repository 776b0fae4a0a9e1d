"""What a trainer does on a machine without a GPU unless its spec says otherwise."""

from pathlib import Path

import pytest
import torch

from training.child import Spec
from training.loop import trainer_arguments

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")


@pytest.mark.parametrize("name", ["SFTConfig", "DPOConfig", "GRPOConfig"])
def test_activations_are_kept_unless_asked(name: str, tmp_path: Path) -> None:
    """TRL recomputes them by default, which is slow and saves memory that a CPU does not lack."""
    import trl

    def recomputes(**arguments: object) -> bool:
        spec = Spec("base", tmp_path, tmp_path, tmp_path, arguments=arguments)
        return trainer_arguments(getattr(trl, name), spec).gradient_checkpointing

    assert recomputes() is False
    assert recomputes(gradient_checkpointing=True) is True
