"""A build: build.py is the journey, top to bottom. It takes minutes, may fail, and leaves nothing half done."""
