"""The packed forward pass: no padding, a shared prompt, a head in chunks."""
