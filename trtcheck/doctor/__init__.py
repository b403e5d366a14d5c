"""``pytest-trtcheck doctor``: what is installed, what is at odds, whether every backend computes right."""
