"""A program's start: start.py is the journey, top to bottom. It costs milliseconds and never fails a program."""
