"""What everything else stands on: settings, locks, processes, this program, words, files, what each start needs."""
