"""From strings as they came to typed, repaired rows, with a record of everything that was changed or refused."""
