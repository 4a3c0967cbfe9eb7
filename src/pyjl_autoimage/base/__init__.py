"""What everything else stands on: settings, locks, processes, this program, words, files. It knows no images."""
