"""What a run found, as one JSON document, and the views that are made from it."""
