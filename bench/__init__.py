"""Measurements: ours against stock TRL, interleaved in one run; medians, spreads and ratios."""

from launch.quiet import quieten

quieten()
