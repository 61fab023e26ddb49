"""Random valid graphs, random growth, and what is to be said of both."""
