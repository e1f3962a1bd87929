"""Work queues: which trials an executor trains next, shared with other drivers and limited by halving."""
