"""FSDP2 on CPUs for test_compatibility.py: before it shards, Accelerate asks for a GPU, which PyTorch does not need."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "accelerate.state"


class Shard(MetaPathFinder, Loader):
    """Lets the module load as it does, then makes its state accept FSDP where processes have no GPU."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Take over that module alone."""
        if fullname != NAME:
            return None
        self.spec = PathFinder.find_spec(fullname, path)
        return ModuleSpec(fullname, self, origin=self.spec and self.spec.origin)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's own code, then wrap its state's constructor."""
        module.__file__ = self.spec and self.spec.origin
        assert self.spec and self.spec.loader
        self.spec.loader.exec_module(module)
        state: Any = module
        original = state.AcceleratorState.__init__

        def construct(self: Any, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
            original(self, *args, fsdp_plugin=fsdp_plugin, **options)
            if fsdp_plugin is not None and self.distributed_type == state.DistributedType.MULTI_CPU:
                if self._mixed_precision != "no":
                    fsdp_plugin.set_mixed_precision(self._mixed_precision)
                self.fsdp_plugin = fsdp_plugin
                self.distributed_type = state.DistributedType.FSDP
                state.PartialState._shared_state["distributed_type"] = state.DistributedType.FSDP

        state.AcceleratorState.__init__ = construct


sys.meta_path.insert(0, Shard())
