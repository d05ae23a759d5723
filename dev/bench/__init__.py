"""Measurements: ours against stock TRL, interleaved in one run; medians, spreads and ratios."""

from launch.config.quiet import quieten

quieten()
