"""The worker: jobs that run on a schedule or from a queue, each a thin call of a service."""
