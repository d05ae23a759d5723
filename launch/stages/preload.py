"""Import what every stage needs, which takes five seconds, once: in the process that stages are forked from.

Only Python's fork server imports this module (see launch.stages.processes). It only imports: a thread, a random number
or an open GPU would be copied into every stage.
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
for number in (signal.SIGINT, signal.SIGTERM):  # for the launcher and the stages, which would end with this
    signal.signal(number, signal.SIG_IGN)
visible = os.environ.get("CUDA_VISIBLE_DEVICES")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bitsandbytes would open a GPU, which no forked process could use any more
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns about a GPU kernel that is not used
gc.disable()  # garbage collection would take a fifth of the time

import recipes.data.prepare  # noqa: E402
import recipes.training.loop  # noqa: E402, F401

for method in METHODS.values():
    if method.packs:  # RLHF's trainers import more, and no other pipeline should wait for that
        importlib.import_module(method.module)
        del sys.modules[method.module]  # a recipe runs as `__main__`: all its imports are loaded by then

logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
del os.environ["CUDA_VISIBLE_DEVICES"]
if visible is not None:
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
gc.freeze()  # so that children share these pages instead of copying them
gc.enable()
