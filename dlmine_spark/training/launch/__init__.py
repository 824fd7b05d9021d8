"""Ways to start the ranks: one process, Horovod, torch."""
