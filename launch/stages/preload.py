"""What every stage imports, some five seconds of it: loaded once, by the process that stages are then forked from.

Imported by Python's fork server alone (see launch.stages.processes). It only imports: a thread, a random number or
an open GPU here would be copied into every stage.
"""

import gc
import importlib
import logging
import os
import signal
import sys

from recipes.methods import METHODS
from recipes.system.processes import LAUNCHER, die_with_parent

die_with_parent(int(os.environ[LAUNCHER]))
for number in (signal.SIGINT, signal.SIGTERM):  # these are for the launcher and the stage, which would die with this
    signal.signal(number, signal.SIG_IGN)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it complains of a GPU kernel that nobody asked for
gc.disable()  # a fifth of the time would go into looking for garbage among modules

import recipes.data.prepare  # noqa: E402
import recipes.training.loop  # noqa: E402, F401

for method in METHODS.values():
    if method.packs:  # RLHF's trainers import more, for which no other pipeline should wait
        importlib.import_module(method.module)
        del sys.modules[method.module]  # a recipe is run as `__main__`: all that it imports is here by then

logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
gc.freeze()  # so that children share these pages instead of copying them
gc.enable()
