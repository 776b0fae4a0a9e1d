"""`python -m tests.training.fsdp_on_cpu METHOD SPEC.json`, by a launcher: a trainer with its weights sharded on CPUs.

accelerate leaves FSDP out without an accelerator: it looks at the kind of process group, and wants that of GPUs. Here
it is told so; the rest (torch's FSDP2, over gloo) is what runs on a GPU machine.
"""

import sys
from importlib import import_module
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

plain = PartialState.__init__


def as_if_on_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    plain(self, *args, **kwargs)
    if self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = as_if_on_gpus
    import_module(f"training.{sys.argv[1]}").main(sys.argv[1:])
