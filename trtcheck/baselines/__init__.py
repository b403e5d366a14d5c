"""Approved results: small reviewed files, written only by ``--trt-update-baselines``."""
