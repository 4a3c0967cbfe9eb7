"""What people see: the command line, the status, pages, notebooks, pytest."""
