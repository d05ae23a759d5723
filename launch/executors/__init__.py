"""One configuration's job, run here, on this machine's devices or by Slurm."""
