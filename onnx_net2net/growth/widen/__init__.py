"""Net2WiderNet: a space's new units, what they hold, and every tensor that follows."""
