"""Queues of trials that wait to be trained."""
