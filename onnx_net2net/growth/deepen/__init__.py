"""Net2DeeperNet and the exact blocks that stand in where it does not apply."""
