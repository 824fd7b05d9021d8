"""Clusters of stores and customers."""
