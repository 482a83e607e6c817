"""Use cases: what requests call takes a session and never commits; jobs and commands open their own."""
