"""Tools for those who develop this repository; no user of it needs them."""
