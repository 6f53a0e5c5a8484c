DROP INDEX client_by_lower_email;
