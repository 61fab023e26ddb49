"""A proof from the two files alone: every tensor gets a name; equal names, equal tensors."""
