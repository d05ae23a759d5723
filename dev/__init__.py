"""Tools for developers of this repository; users do not need them."""
