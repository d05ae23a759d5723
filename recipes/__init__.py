"""Train one stage: the code that runs inside torchrun, without Hydra."""
