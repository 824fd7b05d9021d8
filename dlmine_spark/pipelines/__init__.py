"""Composition: one module per job. Read these first; each is the story of a stage."""
