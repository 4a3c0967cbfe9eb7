"""What is known of an environment's programs: the union of their recordings, and what is run to learn more."""
