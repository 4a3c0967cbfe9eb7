"""Which Julia, which project, how a running Julia is spoken to; beside them the files that Julia itself reads."""
