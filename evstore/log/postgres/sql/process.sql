-- The id of the server process that answers.
SELECT pg_backend_pid()
