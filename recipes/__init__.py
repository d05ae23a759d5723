"""Train one stage: the code that runs inside torchrun. Knows nothing of Hydra."""
