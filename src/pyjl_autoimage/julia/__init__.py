"""Which Julia, which project; beside them the files that Julia itself reads."""
