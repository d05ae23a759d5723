"""Run jobs, one configuration each: in this process, on this machine's devices or on Slurm."""
