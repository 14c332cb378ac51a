"""The transparency log: Merkle tree, signed checkpoints, leaves and receipts."""
