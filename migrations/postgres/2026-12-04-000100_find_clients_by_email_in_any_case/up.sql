-- For imports that match clients by their addresses: case says nothing there, and the database knows no other form.
-- Not only of the addresses that are there, as on SQLite: the planner takes no statistics from an index with a condition
-- that only one arm of an OR implies, and would scan the table.
CREATE INDEX client_by_lower_email ON client (lower(email));
