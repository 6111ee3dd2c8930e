-- The second half of the tour: a new shell, and so a new process, opens what the
-- first one wrote and asks the same questions.
.bail on
.mode column
.echo on
.load ./armdb_vtab

.read sql/tour_ask.sql
