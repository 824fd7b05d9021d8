"""Search for better settings of the network: what to try, when to give a trial up, and what mattered."""
