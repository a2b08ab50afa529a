"""Evidence: the chain of hashes recomputed, anchors signed, redactions announced first."""
