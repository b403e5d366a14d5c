"""What the calibration data have seen, and what they must not have seen: the check ``calibration``."""
