"""The packed forward pass: no padding, a shared prompt, a chunked LM head."""
