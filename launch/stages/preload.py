"""What every stage imports, some five seconds of it: loaded once, by the process that stages are then forked from.

Imported by Python's fork server alone (see launch.stages.processes). It only imports: a thread, a random number or
an open GPU here would be copied into every stage.
"""

import gc
import logging
import os
import signal

from recipes.system.processes import LAUNCHER, die_with_parent

die_with_parent(int(os.environ[LAUNCHER]))
for number in (signal.SIGINT, signal.SIGTERM):  # these are for the launcher and the stage, which would die with this
    signal.signal(number, signal.SIG_IGN)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it complains of a GPU kernel that nobody asked for
gc.disable()  # a fifth of the time would go into looking for garbage among modules

import recipes.check  # noqa: E402
import recipes.data.prepare  # noqa: E402
import recipes.training.loop  # noqa: E402, F401

logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
gc.freeze()  # so that children share these pages instead of copying them
gc.enable()
