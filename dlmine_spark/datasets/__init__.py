"""Data sets with known truth: a simulated retail world."""
