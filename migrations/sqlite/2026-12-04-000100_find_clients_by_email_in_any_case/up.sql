-- For imports that match clients by their addresses: case says nothing there, and the database knows no other form.
CREATE INDEX client_by_lower_email ON client (lower(email)) WHERE email IS NOT NULL;
