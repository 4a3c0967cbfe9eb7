"""The programs that ``pyjl-autoimage demo`` runs: complete, small, and of the kind that people write."""
