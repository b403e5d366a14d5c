"""What a model sees in an image, before and after: the most probable classes of reference and engines."""
